"""Messages between supervisor and monitor: one packet each, a JSON header, an optional body, descriptors (SCM_RIGHTS)."""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Sequence
    from typing import Any

    Header = dict[str, Any]

VERSION = 1
INLINE_BYTES = 60_000
MOST_FDS = 250
_BUFFER = 1 << 17
_INT = 4



def pack(header: Header, body: bytes, fds: Sequence[int]) -> tuple[bytes, list[int], int | None]:
    """The packet, its descriptors, and the memfd among them that is to be closed after sending."""
    if len(fds) >= MOST_FDS:
        raise ValueError(f"{len(fds)} descriptors do not fit one message")
    if len(body) <= INLINE_BYTES:
        return json.dumps(header).encode() + (b"\n" + body if body else b""), list(fds), None
    memfd = os.memfd_create("pystack-message", os.MFD_CLOEXEC)
    view = memoryview(body)
    while view:
        view = view[os.write(memfd, view) :]
    return json.dumps({**header, "memfd": True}).encode(), [*fds, memfd], memfd


def send_packet(sock: socket.socket, packet: bytes, fds: Sequence[int]) -> None:
    """Raises OSError: BlockingIOError when the other side does not read."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)


def receive_fds(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int], int]:
    """A packet, its descriptors (close-on-exec) and the flags. Not socket.recv_fds: that ignores MSG_CMSG_CLOEXEC, and what
    comes would be open in every child (Python 3.11)."""
    packet, ancillary, flags, _ = sock.recvmsg(size, socket.CMSG_LEN(most * _INT), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _INT])
    return packet, list(fds), flags


def receive(sock: socket.socket) -> tuple[Header, bytes, list[int]] | None:
    """The next message, or None at the end. The descriptors are the caller's, close-on-exec.
    Raises OSError (BlockingIOError: nothing there), ValueError for what is no message."""
    packet, fds, flags = receive_fds(sock, _BUFFER, MOST_FDS + 1)
    if not packet:
        return None
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise ValueError("a message was cut short")
        head, _, body = packet.partition(b"\n")
        header = json.loads(head)
        if not isinstance(header, dict):
            raise ValueError("a message must be an object")
        if header.get("memfd"):
            memfd = fds.pop()
            try:
                body = _read_all(memfd)
            finally:
                os.close(memfd)
    except (ValueError, IndexError) as exc:
        for fd in fds:
            os.close(fd)
        raise ValueError(str(exc)) from None
    return header, body, fds


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0)


def peer_uid(sock: socket.socket) -> int:
    """SO_PEERCRED, unix(7)."""
    credentials = array.array("i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return credentials[1]
