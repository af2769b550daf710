"""Descriptors over Unix sockets (unix(7), SCM_RIGHTS): the only place that packs and unpacks them.

Not `socket.recv_fds`: it ignores MSG_CMSG_CLOEXEC (Python 3.11), and what comes would be open in every child. A trio socket
has the same `sendmsg` and `recvmsg` as coroutines: give them `rights(fds)`, `SPACE`, `FLAGS`, and `descriptors` the answer.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import socket
    from collections.abc import Iterable, Sequence

    Ancillary = tuple[int, int, bytes]
else:  # `socket` makes enumerations of all that it has
    import _socket as socket

MOST_FDS = 250
"""In one message; the kernel refuses more than 253 (SCM_MAX_FD)."""
FLAGS = socket.MSG_CMSG_CLOEXEC
_INT = struct.calcsize("i")
SPACE = socket.CMSG_SPACE((MOST_FDS + 3) * _INT)
"""Room for the ancillary data of any message."""


def rights(fds: Sequence[int]) -> list[Ancillary]:
    """The ancillary data that carries `fds`; they stay the sender's."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []


def descriptors(ancillary: Iterable[Ancillary]) -> list[int]:
    """What came with a message: the receiver's, close-on-exec."""
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(struct.unpack_from(f"{len(data) // _INT}i", data))
    return fds


def accept(listener: socket.socket) -> socket.socket:
    """accept4(2), as the `socket` module does it. Raises OSError."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]
    return socket.socket(fileno=fd)


def send(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int] = ()) -> int:
    """One sendmsg(2), without SIGPIPE; how many bytes it took. Raises OSError (BlockingIOError: the other side does not
    read)."""
    return sock.sendmsg([data], rights(fds), socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, size: int) -> tuple[bytes, list[int], bool]:
    """One recvmsg(2): the data (b"": the end), the descriptors (the caller's, close-on-exec), and whether either was cut
    short: by `size`, or because we are out of descriptors. Raises OSError."""
    data, ancillary, flags, _ = sock.recvmsg(size, SPACE, FLAGS)
    return data, descriptors(ancillary), bool(flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC))


def close_all(fds: Iterable[int]) -> None:
    """Close them all, whatever is the matter with one."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue
