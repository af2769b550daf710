"""What one function writes, read while it is written: a thread and a pipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Generic, TypeVar

T = TypeVar("T")


class Piped(Generic[T]):
    """A context manager: gives the reading side of what `write` writes in a thread. `result`: what it returned, once the
    stream has been read to its end; raises what it raised. A writer that is not read to its end is ended, silently."""

    def __init__(self, write: Callable[[BinaryIO], T]) -> None:
        self._write = write
        self._made: list[T] = []
        self._raised: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> BinaryIO:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._reader = open(reading, "rb", buffering=0)
        self._writer = open(writing, "wb", buffering=1 << 16)
        self._thread.start()
        return self._reader

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()
        self._thread.join()
        if exc is not None and self._raised is not None and not isinstance(self._raised, BrokenPipeError):
            raise self._raised from exc  # The reader failed because the writer had.

    def result(self) -> T:
        self._thread.join()
        if self._raised is not None:
            raise self._raised
        return self._made[0]

    def _run(self) -> None:
        try:
            try:
                self._made.append(self._write(self._writer))
            finally:
                self._writer.close()
        except BaseException as exc:  # The reader's thread raises it.
            self._raised = exc
