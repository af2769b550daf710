"""Messages between supervisor and monitor: one packet each, a JSON header, an optional body, descriptors (SCM_RIGHTS)."""

from __future__ import annotations

import os
import struct

from orchestrator.kernel import fdpass
from orchestrator.kernel.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import socket
    from collections.abc import Sequence
    from typing import Any

    Header = dict[str, Any]
else:  # `socket` makes enumerations of all that it has
    import _socket as socket

VERSION = 8
"""The highest that is spoken here. docs/monitor-protocol.md says what each version added."""
LOWEST_VERSION = 1
INLINE_BYTES = 60_000
_BUFFER = 1 << 17
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class CutShort(ValueError):
    """A message whose descriptors did not all arrive: its receiver is out of them. `header`: what it was about."""

    def __init__(self, header: Header) -> None:
        super().__init__("a message was cut short")
        self.header = header


def pack(header: Header, body: bytes, fds: Sequence[int]) -> tuple[bytes, list[int], int | None]:
    """The packet, its descriptors, and the memfd among them that is to be closed after sending."""
    if len(fds) >= fdpass.MOST_FDS:
        raise ValueError(f"{len(fds)} descriptors do not fit one message")
    if len(body) <= INLINE_BYTES:
        return dumps(header).encode() + (b"\n" + body if body else b""), list(fds), None
    memfd = os.memfd_create("pystack-message", os.MFD_CLOEXEC)
    view = memoryview(body)
    while view:
        view = view[os.write(memfd, view) :]
    return dumps({**header, "memfd": True}).encode(), [*fds, memfd], memfd


def receive(sock: socket.socket) -> tuple[Header, bytes, list[int]] | None:
    """The next message, or None at the end. The descriptors are the caller's, close-on-exec.
    Raises OSError (BlockingIOError: nothing there), CutShort, ValueError for what is no message."""
    packet, fds, cut = fdpass.receive(sock, _BUFFER)
    if not packet:
        return None
    try:
        head, _, body = packet.partition(b"\n")
        header = loads(head)
        if not isinstance(header, dict):
            raise ValueError("a message must be an object")
        if cut:
            raise CutShort(header)
        if header.get("memfd"):
            memfd = fds.pop()
            try:
                body = _read_all(memfd)
            finally:
                os.close(memfd)
    except CutShort:
        fdpass.close_all(fds)
        raise
    except (ValueError, IndexError) as exc:
        fdpass.close_all(fds)
        raise ValueError(str(exc)) from None
    return header, body, fds


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0)


def peer_uid(sock: socket.socket) -> int:
    """SO_PEERCRED, unix(7)."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
