"""Netlink: packing and parsing messages, and a socket that sends batches of them (netlink(7), rtnetlink(7)).

Requests are values. A batch is one ``sendmsg``: the kernel handles its messages one after the other, in this thread, before
the call returns, and an error in one does not keep the following ones from being handled (a transaction of nf_tables is the
exception). Only the last message asks for an acknowledgement: errors are always reported, so a batch is good when that one
acknowledgement comes alone.

Every function raises OSError with the errno of the kernel, its explanation (NETLINK_EXT_ACK) and what the request is about.
Numbers are from linux/netlink.h. What is said with these messages is in `kernel.rtnetlink` and `network.nftables`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType

from orchestrator.values import frozen

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

SOL_NETLINK = 270
SO_SNDBUFFORCE = 32
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1
NLA_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_RECEIVE_BYTES = 65536
_ANSWER_TIMEOUT_S = 10
"""The kernel answers before ``sendmsg`` returns; this only turns a kernel bug into an error instead of a hang."""


# -- attributes -------------------------------------------------------------------------------------------------------


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute: length, type, payload, padded to 4 bytes."""
    length = 4 + len(payload)
    return _ATTR.pack(length, kind) + payload + b"\0" * (-length & 3)


def attr_text(kind: int, text: str) -> bytes:
    return attr(kind, text.encode() + b"\0")


def attr_u32(kind: int, value: int) -> bytes:
    """In host byte order, as rtnetlink has it."""
    return attr(kind, _U32.pack(value))


def nest(kind: int, *children: bytes) -> bytes:
    return attr(kind | NLA_NESTED, b"".join(children))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each attribute, flags removed. Raises ValueError when `data` is malformed."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTR.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            raise ValueError("malformed netlink attribute")
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode("utf-8", "surrogateescape")


def u32(payload: bytes) -> int:
    return int(_U32.unpack_from(payload)[0])


# -- messages and the socket ------------------------------------------------------------------------------------------


@frozen
class Request:
    """One message to the kernel. `what` names the object in errors; `tolerate`: errnos that are no failure."""

    kind: int
    flags: int
    body: bytes
    what: str
    tolerate: tuple[int, ...] = ()


@frozen
class Reply:
    kind: int
    seq: int
    flags: int
    body: bytes


def messages(data: bytes) -> Iterator[Reply]:
    """The messages in one datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, seq, _ = _HEADER.unpack_from(data, at)
        if length < 16 or at + length > len(data):
            raise ValueError("malformed netlink message")
        yield Reply(kind, seq, flags, data[at + 16 : at + length])
        at += (length + 3) & ~3


def pack(request: Request, seq: int, flags: int = 0) -> bytes:
    """`request` as bytes, padded to 4. `flags` are added to its own."""
    length = 16 + len(request.body)
    header = _HEADER.pack(length, request.kind, request.flags | flags | NLM_F_REQUEST, seq, 0)
    return header + request.body + b"\0" * (-length & 3)


class NetlinkSocket:
    """A netlink socket of the network namespace that the calling thread is in when it is made, and for ever after.

    Not for use by two threads at once.
    """

    def __init__(self, protocol: int) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _ANSWER_TIMEOUT_S, 0))
        except BaseException:
            self._sock.close()
            raise
        self._seq = 0

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def join(self, group: int) -> None:
        """Receive the notifications of a multicast group (linux/rtnetlink.h, linux/netfilter/nfnetlink.h)."""
        # Unbound, its port id is 0, as that of the kernel, and it would be taken for the author of the notifications.
        self._sock.bind((0, 0))
        self._sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def allow(self, size: int) -> None:
        """Let one batch be of `size` bytes: the kernel refuses what is larger than the send buffer."""
        with suppress(PermissionError):  # root of a user namespace has to do with net.core.wmem_max
            self._sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, size)

    def notifications(self) -> list[Reply]:
        """What has arrived, without waiting. Raises OSError(ENOBUFS) when the kernel had to drop some."""
        found: list[Reply] = []
        while (data := self._receive(wait=False)) is not None:
            found.extend(messages(data))
        return found

    def batch(self, requests: Sequence[Request]) -> list[int]:
        """Send all at once; the errno (0: done) of each. Raises OSError for the first that is not tolerated, after
        all were handled."""
        if not requests:
            return []
        first = self._seq + 1
        self._seq += len(requests)
        last = len(requests) - 1
        self._sock.send(
            b"".join(pack(r, first + n, NLM_F_ACK if n == last else 0) for n, r in enumerate(requests))
        )
        return self._results(requests, first)

    def transaction(self, begin: Request, requests: Sequence[Request], end: Request) -> None:
        """Send a batch that the kernel applies as a whole or not at all (nfnetlink). Raises OSError for the first
        request that failed and is not tolerated; nothing was changed then."""
        framed = (begin, *requests, end)
        first = self._seq + 1
        self._seq += len(framed)
        # The frame itself is not acknowledged (before Linux 6.10), the last request within it is.
        self._sock.send(
            b"".join(pack(r, first + n, NLM_F_ACK if n == len(requests) else 0) for n, r in enumerate(framed))
        )
        self._results(framed, first)

    def _results(self, requests: Sequence[Request], first: int) -> list[int]:
        """Everything the kernel has to say is queued already: wait for one datagram, then take what is there."""
        codes = [0] * len(requests)
        failure: OSError | None = None
        data = self._receive(wait=True)
        while data is not None:
            for reply in messages(data):
                index = reply.seq - first
                if reply.kind != NLMSG_ERROR or not 0 <= index < len(requests):
                    continue
                code, explanation = _error(reply)
                codes[index] = code
                if code and code not in requests[index].tolerate and failure is None:
                    failure = _os_error(code, explanation, requests[index].what)
            data = self._receive(wait=False)
        if failure is not None:
            raise failure
        return codes

    def ask(self, request: Request) -> list[bytes]:
        """The bodies of the answers to a query, or of a dump (flags NLM_F_DUMP) to its end."""
        self._seq += 1
        seq = self._seq
        dump = request.flags & NLM_F_DUMP == NLM_F_DUMP
        self._sock.send(pack(request, seq, 0 if dump else NLM_F_ACK))
        found: list[bytes] = []
        while True:
            data = self._receive(wait=True)
            assert data is not None
            for reply in messages(data):
                if reply.seq != seq:
                    continue
                if reply.kind in (NLMSG_ERROR, NLMSG_DONE):
                    code, explanation = _error(reply)
                    if code and code not in request.tolerate:
                        raise _os_error(code, explanation, request.what)
                    return found
                found.append(reply.body)

    def _receive(self, wait: bool) -> bytes | None:
        try:
            return self._sock.recv(_RECEIVE_BYTES, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            if wait:
                raise OSError(errno.ETIMEDOUT, "the kernel did not answer a netlink request") from None
            return None


def _error(reply: Reply) -> tuple[int, str]:
    """errno and explanation of an NLMSG_ERROR or NLMSG_DONE (whose body may be empty)."""
    if len(reply.body) < 4:
        return 0, ""
    code = -struct.unpack_from("=i", reply.body)[0]
    explanation = ""
    if reply.kind == NLMSG_ERROR and code:
        # NETLINK_CAP_ACK: only the header (16 bytes) of the request is repeated, then come attributes.
        for kind, payload in attributes(reply.body[20:]):
            if kind == NLMSGERR_ATTR_MSG:
                explanation = text(payload)
    return code, explanation


def _os_error(code: int, explanation: str, what: str) -> OSError:
    reason = os.strerror(code) + (f" ({explanation})" if explanation else "")
    return OSError(code, reason, what)
