"""inotify(7): being told that files change."""

from __future__ import annotations

import contextlib
import ctypes
import os

from orchestrator.kernel.syscalls import fail, libc

_BUFFER = 1 << 16


class Inotify:
    """One instance (a machine may allow no more than 128 a user) with any number of watches. Readable when something
    happened; what it was, the user of it looks up itself: events may be merged or lost, the files are the truth."""

    def __init__(self) -> None:
        self._fd: int = libc.inotify_init1(ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._fd < 0:
            raise fail("inotify")

    def watch(self, path: str, mask: int) -> None:
        """Watching again what is watched already changes nothing. Raises OSError."""
        if libc.inotify_add_watch(ctypes.c_int(self._fd), os.fsencode(path), ctypes.c_uint32(mask)) < 0:
            raise fail(path)

    def fileno(self) -> int:
        return self._fd

    def clear(self) -> bool:
        """Forget what happened so far; whether anything had. Call it before looking at the files."""
        happened = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _BUFFER):
                happened = True
        return happened

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
