"""A container's log on disk: bytes moved pipe -> file by splice(2), and beside them an index of who wrote which when.

The bytes are written before their index record. When we are killed in between, the next one to open the log adds a record
of stream 0 ("unknown") for what the index does not cover: no byte is ever lost or out of order.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time

RECORD = struct.Struct("<QIIQ")
_CHUNK = 1 << 16
_FIONREAD = 0x541B
"""ioctl_tty(2); on a pipe: how many bytes are in it."""


def _events(pipe: int) -> int:
    """What poll(2) says now; 0: nothing."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return sum(events for _, events in poll.poll(0))


def _has_data(pipe: int) -> bool:
    return any(fcntl.ioctl(pipe, _FIONREAD, bytes(4)))


class Log:
    """`directory`: descriptor of the logs directory. A `max_bytes` of 0: no rotation. Owns its two descriptors.

    The files are opened when there is something to write: making them is a good part of a start on some file systems."""

    def __init__(self, directory: int, container: str, max_bytes: int, max_files: int, null: int) -> None:
        self.directory = directory
        self.container = container
        self.max_bytes = max_bytes
        self.max_files = max(1, max_files)
        self.null = null
        self.lost_bytes = 0
        self.fd = self.index = -1
        self.size = 0

    def _open(self) -> None:
        """The index first: a reader that finds the log finds it too."""
        flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            covered = self._open_index(flags)
            self.fd = os.open(f"{self.container}.log", flags | os.O_WRONLY, 0o600, dir_fd=self.directory)
            self._reconcile(covered, flags)
        except OSError:
            self.close()
            raise

    def _reconcile(self, covered: int, flags: int) -> None:
        """The index is to end where the log ends."""
        self.size = os.fstat(self.fd).st_size
        if covered > self.size:
            # Killed between the two renames of a rotation: this index belongs to the file before.
            os.close(self.index)
            self._rename("idx", "idx.1")
            covered = self._open_index(flags)
        if covered < self.size:
            self._record(covered, self.size - covered, 0)

    def _open_index(self, flags: int) -> int:
        """Open the index, drop a half-written record at its end, and return how much of the log it covers."""
        self.index = os.open(f"{self.container}.idx", flags | os.O_RDWR | os.O_APPEND, 0o600, dir_fd=self.directory)
        length = os.fstat(self.index).st_size
        whole = length - length % RECORD.size
        if whole != length:
            os.ftruncate(self.index, whole)
        if not whole:
            return 0
        offset, size, _, _ = RECORD.unpack(os.pread(self.index, RECORD.size, whole - RECORD.size))
        return int(offset + size)

    def pull(self, pipe: int, stream: int) -> bool | None:
        """Move what is in `pipe`: True if there was something, False at its end, None when it is empty for now."""
        try:
            if self.fd < 0:
                events = _events(pipe)
                if not events & select.POLLIN:
                    return False if events else None
                self._open()
            if self.max_bytes and self.size >= self.max_bytes and _has_data(pipe):
                self._rotate()
            moved = os.splice(pipe, self.fd, _CHUNK, offset_dst=self.size, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return None
        except OSError:
            return self._discard(pipe)
        if not moved:
            return False
        self._record(self.size, moved, stream)
        self.size += moved
        return True

    def _discard(self, pipe: int) -> bool | None:
        """The disk is full or broken: the container must not stop for that. What it writes is counted and dropped."""
        try:
            moved = os.splice(pipe, self.null, _CHUNK, flags=os.SPLICE_F_NONBLOCK)
        except OSError:
            return None
        self.lost_bytes += moved
        return moved > 0

    def _record(self, offset: int, length: int, stream: int) -> None:
        with contextlib.suppress(OSError):  # A full disk; the next one to open the log makes good for it.
            os.write(self.index, RECORD.pack(offset, length, stream, time.time_ns()))

    def _rename(self, old: str, new: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            name = self.container
            os.rename(f"{name}.{old}", f"{name}.{new}", src_dir_fd=self.directory, dst_dir_fd=self.directory)

    def _rotate(self) -> None:
        self.close()
        for number in range(self.max_files - 1, 0, -1):
            for kind in ("log", "idx"):
                self._rename(kind if number == 1 else f"{kind}.{number - 1}", f"{kind}.{number}")
        if self.max_files == 1:
            for kind in ("log", "idx"):
                os.unlink(f"{self.container}.{kind}", dir_fd=self.directory)
        self._open()

    def close(self) -> None:
        for fd in (self.fd, self.index):
            if fd >= 0:
                os.close(fd)
        self.fd = self.index = -1
