"""Netlink: packing and parsing messages, and a socket that sends batches of them (netlink(7), rtnetlink(7)).

Requests are values. A batch is one ``sendmsg``: the kernel handles its messages one after the other, in this thread, before
the call returns, and an error in one does not keep the following ones from being handled (a transaction of nf_tables is the
exception). Only the last message asks for an acknowledgement: errors are always reported, so a batch is good when that one
acknowledgement comes alone.

Every function raises OSError with the errno of the kernel, its explanation (NETLINK_EXT_ACK) and what the request is about.
Numbers are from linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/veth.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType

from orchestrator.values import frozen

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

SOL_NETLINK = 270
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


# -- links ------------------------------------------------------------------------------------------------------------

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFF_UP = 0x1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 5, 10, 18
IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 27, 28, 29, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE = 4
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE = 1, 5
VETH_INFO_PEER = 1
RTEXT_FILTER_SKIP_STATS = 8
LOOPBACK_INDEX = 1
"""lo is the first interface of every network namespace."""

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST = 1, 2, 3
_ROUTE_TYPES_OF_A_NETWORK = (RTN_UNICAST, 6, 7, 8)
"""Unicast, and blackhole, unreachable, prohibit: somebody decided about those destinations too."""


@frozen
class Link:
    """One interface. `peer`: index of the veth's other end (in its own namespace), 0 if none."""

    index: int
    name: str
    mac: str
    master: int
    peer: int
    up: bool
    kind: str = ""


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def link_up(index: int, what: str) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP), what)


def new_bridge(name: str, mac: str) -> Request:
    """A bridge with a fixed MAC (else it takes the lowest of its ports', and changes as they come and go), without the
    15 s forwarding delay, down (its sysctls come first). EEXIST is for the caller to look at."""
    info = nest(
        IFLA_LINKINFO,
        attr(IFLA_INFO_KIND, b"bridge"),
        nest(IFLA_INFO_DATA, attr_u32(IFLA_BR_FORWARD_DELAY, 0), attr_u32(IFLA_BR_STP_STATE, 0)),
    )
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + attr(IFLA_ADDRESS, mac_bytes(mac)) + info
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, name, (errno.EEXIST,))


def new_veth(name: str, bridge_index: int, peer: str, peer_mac: str, netns_fd: int) -> Request:
    """A veth pair: `name` up and in the bridge, `peer` made directly in the namespace `netns_fd`, down (the kernel refuses
    a peer that is up). One queue each: veth takes one per possible CPU otherwise. EEXIST is for the caller."""
    queues = attr_u32(IFLA_NUM_TX_QUEUES, 1) + attr_u32(IFLA_NUM_RX_QUEUES, 1)
    other = (
        _LINK.pack(0, 0, 0, 0, 0)
        + attr_text(IFLA_IFNAME, peer)
        + attr(IFLA_ADDRESS, mac_bytes(peer_mac))
        + attr_u32(IFLA_NET_NS_FD, netns_fd)
        + queues
    )
    info = nest(
        IFLA_LINKINFO, attr(IFLA_INFO_KIND, b"veth"), nest(IFLA_INFO_DATA, nest(VETH_INFO_PEER, other))
    )
    body = (
        _LINK.pack(0, 0, 0, IFF_UP, IFF_UP)
        + attr_text(IFLA_IFNAME, name)
        + attr_u32(IFLA_MASTER, bridge_index)
        + queues
        + info
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, name, (errno.EEXIST,))


def set_hairpin(name: str) -> Request:
    """Let the bridge send a packet back by the port `name` that it came from."""
    info = nest(
        IFLA_LINKINFO,
        attr(IFLA_INFO_SLAVE_KIND, b"bridge"),
        nest(IFLA_INFO_SLAVE_DATA, attr(IFLA_BRPORT_MODE, b"\1")),
    )
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + info, name)


def delete_link(name: str) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name)
    return Request(RTM_DELLINK, 0, body, name, (errno.ENODEV,))


def set_group(name: str, group: int) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + attr_u32(IFLA_GROUP, group)
    return Request(RTM_NEWLINK, 0, body, name, (errno.ENODEV,))


def delete_group(group: int) -> Request:
    """Delete all links of a group at once: one RCU grace period for all instead of one each."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_GROUP, group)
    return Request(RTM_DELLINK, 0, body, f"link group {group:#x}", (errno.ENODEV,))


def get_link(name: str) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) + attr_text(IFLA_IFNAME, name)
    return Request(RTM_GETLINK, 0, body, name, (errno.ENODEV,))


def get_links(master: int = 0) -> Request:
    """All links, or the ports of one bridge."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    if master:
        body += attr_u32(IFLA_MASTER, master)
    return Request(RTM_GETLINK, NLM_F_DUMP, body, "links", (errno.ENODEV,))


def parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    name = mac = kind = ""
    master = peer = 0
    for key, payload in attributes(body[16:]):
        if key == IFLA_IFNAME:
            name = text(payload)
        elif key == IFLA_ADDRESS:
            mac = payload.hex(":")
        elif key == IFLA_MASTER:
            master = u32(payload)
        elif key == IFLA_LINK:
            peer = u32(payload)
        elif key == IFLA_LINKINFO:
            kind = next((text(p) for k, p in attributes(payload) if k == IFLA_INFO_KIND), "")
    return Link(index, name, mac, master, peer, bool(flags & IFF_UP), kind)


# -- addresses and routes (IPv4) --------------------------------------------------------------------------------------


@frozen
class Address:
    index: int
    address: str
    prefix: int


def new_address(index: int, address: str, prefix: int, broadcast: str) -> Request:
    packed = socket.inet_aton(address)
    body = (
        _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index)
        + attr(IFA_LOCAL, packed)
        + attr(IFA_ADDRESS, packed)
        + attr(IFA_BROADCAST, socket.inet_aton(broadcast))
    )
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"address {address}/{prefix}", (errno.EEXIST,))


def delete_address(index: int, address: str, prefix: int) -> Request:
    body = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index) + attr(IFA_LOCAL, socket.inet_aton(address))
    return Request(RTM_DELADDR, 0, body, f"address {address}/{prefix}", (errno.EADDRNOTAVAIL,))


def get_addresses() -> Request:
    return Request(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0), "addresses")


def parse_address(body: bytes) -> Address:
    _, prefix, _, _, index = _ADDRESS.unpack_from(body)
    fields = dict(attributes(body[8:]))
    return Address(index, socket.inet_ntoa(fields.get(IFA_LOCAL, fields.get(IFA_ADDRESS, bytes(4)))), prefix)


def new_default_route(gateway: str, index: int) -> Request:
    body = (
        _ROUTE.pack(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0)
        + attr(RTA_GATEWAY, socket.inet_aton(gateway))
        + attr_u32(RTA_OIF, index)
    )
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"default route by {gateway}")


def get_routes() -> Request:
    return Request(RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0), "routes")


def parse_route(body: bytes) -> tuple[str, int, int] | None:
    """Destination, prefix length and interface index (0: none) of a route to a network, of any table; None for default
    routes and for local and broadcast ones."""
    _, prefix, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(body)
    fields = dict(attributes(body[12:]))
    if kind not in _ROUTE_TYPES_OF_A_NETWORK or prefix == 0 or RTA_DST not in fields:
        return None
    index = u32(fields[RTA_OIF]) if RTA_OIF in fields else 0
    return socket.inet_ntoa(fields[RTA_DST]), int(prefix), index
