"""Large files of a layer, written by a thread of their own while the caller's makes the next ones: it is the kernel that
takes the time, and Python's lock is not held meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.unpack.attributes import explained
from orchestrator.images.unpack.channel import Channel
from orchestrator.images.unpack.entries import Entry, shown

CHUNK = 1 << 20
LARGE_BYTES = 1 << 16
"""From here on a write takes longer than to give it to another thread."""
_CHUNKS_AHEAD = 8

Complete = Callable[[int, Entry], None]
"""What is done to a file when all of it is there."""


class LargeFiles:
    """A context manager: at its end the thread has gone, and what it was given is closed."""

    def __init__(self) -> None:
        self._jobs = Channel(_CHUNKS_AHEAD)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> LargeFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def write(self, fd: int, entry: Entry, data: BinaryIO, complete: Complete) -> None:
        """Take `entry.size` bytes of `data`, which come into `fd` sometime; so does what `complete` does, and then it is
        closed, also on errors. Raises what `data` raises, and what went wrong until now, whatever file it was."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="large files", daemon=True)
            self._thread.start()
        left, closed = entry.size, False
        try:
            while left:
                chunk = some(entry, data, left)
                left -= len(chunk)
                closed = not left
                self._jobs.put((fd, chunk, entry, None if left else complete))
                if self._error is not None:
                    raise self._error
        finally:
            if not closed:
                self._jobs.put((fd, b"", None, None))

    def wait(self) -> None:
        """Until all is written. Raises what went wrong."""
        self._join()
        if self._error is not None:
            raise self._error

    def _join(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            fd, chunk, entry, complete = job
            try:
                if self._error is None and entry is not None:
                    write_all(fd, chunk)
                    if complete is not None:
                        complete(fd, entry)
            except OSError as exc:
                self._error = explained(exc, entry.path)
            except BaseException as exc:  # The caller's thread raises it.
                self._error = exc
            finally:
                if entry is None or complete is not None:
                    os.close(fd)


def some(entry: Entry, data: BinaryIO, most: int) -> bytes:
    """A chunk of the data, which is not at its end yet."""
    chunk = data.read(most if most < CHUNK else CHUNK)
    if not chunk:
        raise OperationError(f"the data of {shown(entry.path)} ends {most} bytes too early")
    return chunk


def write_all(fd: int, chunk: bytes) -> None:
    written = os.write(fd, chunk)
    while written < len(chunk):
        written += os.write(fd, memoryview(chunk)[written:])
