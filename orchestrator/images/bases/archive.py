"""A .deb (deb(5)): an ar archive of a version, the control archive and the tree, each of them compressed by itself."""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from orchestrator.errors import OperationError
from orchestrator.images.bases.dpkg import Control, parse_control
from orchestrator.images.unpack.channel import Channel, Closed
from orchestrator.images.unpack.decode import unpacked
from orchestrator.images.unpack.entries import Kind
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.reading import Member, read_entries

_AHEAD = 3
"""Packages that are decompressed while one is written."""
_CHUNKS_AHEAD = 16
"""Of each."""
_CONTROL_LIMITS = Limits(bytes=16 << 20, entries=1000)
_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_HEADER_END = b"`\n"
_MOST_MEMBERS = 100


def read_control(path: str) -> Control:
    """What a package says of itself. Raises OperationError."""
    files = {}
    stream = cast(BinaryIO, _Joined(_chunks(path, b"control.tar", _CONTROL_LIMITS)))
    for entry, data in read_entries(stream, _CONTROL_LIMITS):
        if entry.kind is Kind.FILE:
            files[os.path.basename(os.fsdecode(entry.path))] = b"".join(iter(data.read, b""))
    try:
        return parse_control(files)
    except ValueError as exc:
        raise _damaged(path, str(exc)) from exc


class Stream:
    """A package's tree as a tar stream: `with` gives the stream, and ends with the error that unpacking met. A thread
    decompresses ahead, as far as a channel holds."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._channel = Channel(_CHUNKS_AHEAD)
        self._thread = threading.Thread(target=self._decompress, name="package", daemon=True)
        self._thread.start()

    def __enter__(self) -> BinaryIO:
        return cast(BinaryIO, _Joined(self._chunks()))

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for _chunk in self._chunks():
                    pass  # what pads the archive, and its checksum
        finally:
            self.end()

    def end(self) -> None:
        self._channel.close()
        self._thread.join()

    def _chunks(self) -> Iterator[bytes]:
        while (item := self._channel.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
        self._channel.put(None)  # for who asks again

    def _decompress(self) -> None:
        with suppress(Closed):
            try:
                for chunk in _chunks(self._path, b"data.tar", DEFAULT):
                    self._channel.put(chunk)
                self._channel.put(None)
            except OperationError as exc:
                self._channel.put(exc)  # The thread that reads raises it.


def opened(archives: Sequence[str]) -> Generator[Stream, None, None]:
    """The trees of packages, in order; some are decompressed ahead. All threads have ended when the caller is done or
    stops."""
    ahead: deque[Stream] = deque()
    rest = iter(archives)
    try:
        while True:
            while len(ahead) <= _AHEAD and (path := next(rest, None)) is not None:
                ahead.append(Stream(path))
            if not ahead:
                return
            yield ahead[0]
            ahead.popleft()
    finally:
        for stream in ahead:
            stream.end()


class _Joined(io.RawIOBase):
    """Chunks as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk, self._at = b"", 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, often less; b"" at the end."""
        if size is None or size < 0:
            return b"".join(self._chunks)
        if self._at == len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        data = self._chunk[self._at : self._at + size]
        self._at += len(data)
        return data


def _chunks(path: str, name: bytes, limits: Limits) -> Iterator[bytes]:
    """The unpacked member of the package `path` whose name begins with `name`. Raises OperationError."""
    try:
        with open(path, "rb", buffering=0) as file:
            member = cast(BinaryIO, Member(file, _seek(file, name), name))
            for chunk, _ in unpacked(member, limits):
                if chunk:
                    yield chunk
    except OSError as exc:
        raise OperationError(f"the package {path} cannot be read: {exc.strerror or exc}") from exc
    except (OperationError, ValueError) as exc:
        raise _damaged(path, str(exc)) from exc


def _seek(file: BinaryIO, name: bytes) -> int:
    """Go to the data of the member whose name begins with `name`; its size. Raises ValueError."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no ar archive")
    for _ in range(_MOST_MEMBERS):
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or not header.endswith(_HEADER_END):
            break
        size = int(header[48:58])
        if size < 0:
            break
        if header[:16].startswith(name):
            return size
        file.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError(f"it has no {name.decode()}")


def _damaged(path: str, reason: str) -> OperationError:
    return OperationError(f"the package {path} is damaged: {reason}", hint="delete it; it is fetched again")
