"""inotify(7): being told that files change."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

from orchestrator.kernel.syscalls import fail, libc

_BUFFER = 1 << 16
_MOST_READS = 16
_EVENT = struct.Struct("iIII")
"""Of ``struct inotify_event``: the watch, what happened, a cookie, the bytes of the name behind it."""


class Inotify:
    """One instance (a machine may allow no more than 128 a user) with any number of watches. Readable when something
    happened; what it was, the user of it looks up itself: events are merged and may be dropped, the files are the truth."""

    def __init__(self) -> None:
        self._fd: int = libc.inotify_init1(ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._fd < 0:
            raise fail("inotify")

    def watch(self, path: str, mask: int) -> int:
        """The watch's number. Of what is watched already it is the same one. Raises OSError."""
        number: int = libc.inotify_add_watch(ctypes.c_int(self._fd), os.fsencode(path), ctypes.c_uint32(mask))
        if number < 0:
            raise fail(path)
        return number

    def forget(self, number: int) -> None:
        """End a watch, which may have ended by itself. What happened before may still be told."""
        libc.inotify_rm_watch(ctypes.c_int(self._fd), ctypes.c_int(number))

    def fileno(self) -> int:
        return self._fd

    def clear(self) -> bool:
        """Forget what happened so far; whether anything had. Call it before looking at the files."""
        happened = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _BUFFER):
                happened = True
        return happened

    def events(self) -> list[tuple[int, int, str]]:
        """What happened so far, or the first thousands of it: the watch's number (-1 with IN_Q_OVERFLOW: what came then was
        dropped), the mask, and the name in the folder that is watched, "" for that itself."""
        found = []
        for _ in range(_MOST_READS):
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                found.append((number, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
                at += length
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
