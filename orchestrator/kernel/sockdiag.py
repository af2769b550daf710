"""Which ports somebody listens on in a network namespace: sock_diag(7), asked for each port, so that the kernel leaves out
the rest. (/proc/net/tcp walks through every connection of the machine.)

Numbers are from linux/inet_diag.h, linux/sock_diag.h and net/tcp_states.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from orchestrator.values import frozen

NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_LISTEN = 1 << 10
_UNCONNECTED = 1 << 7
"""TCP_CLOSE: of a UDP socket that is bound, and has no peer."""
_PROTOCOLS = {"tcp": (socket.IPPROTO_TCP, _LISTEN), "udp": (socket.IPPROTO_UDP, _UNCONNECTED)}
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBxI")
_ID = struct.Struct("!HH16s16s")
_ID_BYTES = 48
_ANSWER = struct.Struct("=4x48s12xII")
"""inet_diag_msg: the socket's id, its owner and its inode."""
_RECEIVE_BYTES = 1 << 16
_MOST_MESSAGES = 64
"""Of 64 KiB at most: who opens more sockets on one port than fit is not looked at to the end."""
_ANSWER_TIMEOUT_S = 5


@frozen
class Listener:
    """A socket that takes connections, or datagrams from anybody. `address`: as it is bound; ``0.0.0.0``, ``::``: all."""

    address: str
    port: int
    inode: int


def open_socket() -> socket.socket:
    """Asks about the network namespace in which it is made, wherever it is used. Raises OSError."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    made.settimeout(_ANSWER_TIMEOUT_S)  # It answers before `send` returns: only a bug in the kernel could make us wait.
    return made


def listeners(sock: socket.socket, port: int, protocol: str = "tcp") -> list[Listener]:
    """Those on `port`; 0: on any. `protocol`: tcp or udp. Raises OSError."""
    number, states = _PROTOCOLS[protocol]
    found: list[Listener] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        identity = _ID.pack(port, 0, b"", b"").ljust(_ID_BYTES, b"\0")
        body = _QUESTION.pack(family, number, 0, states) + identity
        sock.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        for answer in _answers(sock):
            identity, _, inode = _ANSWER.unpack_from(answer)
            own_port, _, address, _ = _ID.unpack_from(identity)
            packed = address[:4] if family == socket.AF_INET else address
            found.append(Listener(socket.inet_ntop(family, packed), own_port, inode))
    return found


def _answers(sock: socket.socket) -> Iterator[bytes]:
    for _ in range(_MOST_MESSAGES):
        data = sock.recv(_RECEIVE_BYTES)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                raise OSError(code, os.strerror(code), "sock_diag")
            yield data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3
    raise OSError(errno.E2BIG, "so many sockets are open on it that they cannot be counted", "sock_diag")
