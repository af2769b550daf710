"""Archives and directories to read images from: files by their paths, opened in any order.

A tar file is gone through once, for where its files begin; then they are read where they lie. One that is compressed can
only be read from its beginning to its end: its blobs go to the store as they come, everything else to a directory of the
store's for as long as it is needed. Nothing is trusted: of a tar file only regular files are looked at, links lead to other
entries of it, and a directory is never left (openat2(2)).
"""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Protocol, cast

from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.unpack.decode import decoded
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.reading import read_entries
from orchestrator.images.unpack.tarformat import BLOCK, is_header
from orchestrator.kernel.rooted import open_in

MOST_DOCUMENT = 4 << 20
"""Bytes of an index, a manifest or a configuration."""
_MOST_LINKS = 8
_CHUNK = 1 << 20
_OUTER = Limits(entries=100_000, name_bytes=4096)
"""Of an archive of images: a few entries for each layer. What is in the layers has limits of its own."""
Check = Callable[[], None]
"""Called between chunks; what it raises ends the work."""


class Source(Protocol):
    def size(self, path: str) -> int | None:
        """Of a file, in bytes; None if there is none."""
        ...

    def open(self, path: str) -> BinaryIO: ...


def document(source: Source, path: str) -> bytes:
    """A small file. Raises OperationError if it is not there, or not small."""
    size = source.size(path)
    if size is None:
        raise OperationError(f"{path} is missing")
    if size > MOST_DOCUMENT:
        raise OperationError(f"{path} has {size} bytes, more than {MOST_DOCUMENT}")
    with source.open(path) as file:
        return _read_all(file, size)


@contextmanager
def opened(path: str, store: Store, lease: Lease, check: Check | None) -> Iterator[Source]:
    """The archive or the directory at `path`. Raises InputError if there is none, OperationError for what is no archive."""
    with ExitStack() as held:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise InputError(f"cannot open {path}: {exc.strerror}") from exc
        held.callback(os.close, fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            yield Directory(fd)
            return
        directory = store.tmp()
        held.callback(store.discard, directory)
        if not stat.S_ISREG(mode):
            fd = _kept(fd, directory, check)
            held.callback(os.close, fd)
        plain = PlainArchive(fd)
        if _is_tar(fd):
            plain.index(check)
            yield plain
        else:
            yield CompressedArchive(fd, directory, store, lease, check)


class Directory:
    """Files below a directory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def size(self, path: str) -> int | None:
        try:
            fd = open_in(self._fd, os.fsencode(path), os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise OperationError(f"cannot read {path}: {exc.strerror}") from exc
        found = os.fstat(fd)
        os.close(fd)
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, path: str) -> BinaryIO:
        try:
            fd = open_in(self._fd, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as exc:
            raise OperationError(f"cannot read {path}: {exc.strerror}") from exc
        return open(fd, "rb", buffering=0)


class _Archive:
    """`links`: paths that lead to others."""

    def __init__(self) -> None:
        self.links: dict[str, str] = {}

    def resolved(self, path: str) -> str:
        for _ in range(_MOST_LINKS):
            if path not in self.links:
                break
            path = self.links[path]
        return path

    def note_link(self, entry: Entry) -> bool:
        """Whether the entry is one."""
        path, target = _plain(entry.path), os.fsdecode(entry.link)
        if entry.kind is Kind.SYMLINK:
            self.links[path] = _plain(os.fsencode(posixpath.join(posixpath.dirname(path), target)))
        elif entry.kind is Kind.HARDLINK:
            self.links[path] = _plain(entry.link)
        else:
            self.links.pop(path, None)
            return False
        return True


class PlainArchive(_Archive):
    """A tar file."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._files: dict[str, tuple[int, int]] = {}

    def index(self, check: Check | None) -> None:
        stream = Piece(self._fd, 0, os.fstat(self._fd).st_size)
        for entry, _ in read_entries(cast(BinaryIO, stream), _OUTER):
            if check is not None:
                check()
            # The reader takes no byte more than it needs, so here the data begins.
            if not self.note_link(entry) and entry.kind is Kind.FILE and not entry.sparse:
                self._files[_plain(entry.path)] = (stream.at, entry.size)

    def size(self, path: str) -> int | None:
        found = self._files.get(self.resolved(path))
        return found[1] if found is not None else None

    def open(self, path: str) -> BinaryIO:
        found = self._files.get(self.resolved(path))
        if found is None:
            raise OperationError(f"{path} is missing")
        return cast(BinaryIO, Piece(self._fd, *found))


class CompressedArchive(_Archive):
    """A tar file in gzip, zstd, xz or bzip2."""

    def __init__(self, fd: int, directory: str, store: Store, lease: Lease, check: Check | None) -> None:
        super().__init__()
        self._files: dict[str, str] = {}
        told = (lambda _: check()) if check is not None else None
        with open(fd, "rb", buffering=0, closefd=False) as file, decoded(file, _OUTER, told) as stream:
            for entry, data in read_entries(cast(BinaryIO, stream), _OUTER):
                if self.note_link(entry) or entry.kind is not Kind.FILE or entry.sparse:
                    continue
                path = _plain(entry.path)
                of = _blob_at(path)
                if of is not None and entry.size > MOST_DOCUMENT:
                    lease.hold(of)
                    self._files[path] = fetched(store, of, entry.size, data, check)
                    continue
                self._files[path] = os.path.join(directory, str(len(self._files)))
                with open(self._files[path], "xb") as copy:
                    shutil.copyfileobj(data, copy, _CHUNK)

    def size(self, path: str) -> int | None:
        found = self._files.get(self.resolved(path))
        return os.stat(found).st_size if found is not None else None

    def open(self, path: str) -> BinaryIO:
        found = self._files.get(self.resolved(path))
        if found is None:
            raise OperationError(f"{path} is missing")
        return open(found, "rb", buffering=0)


class Piece(io.RawIOBase):
    """`left` bytes of a file, from `at` on."""

    def __init__(self, fd: int, at: int, left: int) -> None:
        self._fd, self.at, self._left = fd, at, left

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        data = os.pread(self._fd, wanted, self.at)
        self.at += len(data)
        self._left -= len(data)
        return data

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def fetched(
    store: Store,
    of: Digest,
    size: int,
    data: BinaryIO,
    check: Check | None,
    on_bytes: Callable[[int], None] | None = None,
) -> str:
    """The path of the blob, which `data` brings unless it is there. Raises OperationError if it is something else."""
    with store.ingest(of, size, on_wait=check) as ingest:
        if ingest.present:
            return ingest.commit()
        if ingest.offset:
            ingest.restart()
        while chunk := data.read(_CHUNK):
            if check is not None:
                check()
            ingest.write(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))
        return ingest.commit()


def _plain(path: bytes) -> str:
    """A path of an archive as one writes it, without ``./``; whatever leads out of the archive leads nowhere."""
    return posixpath.normpath("/" + os.fsdecode(path))[1:].lstrip("/")


def _blob_at(path: str) -> Digest | None:
    """Of ``blobs/sha256/HEX``."""
    parts = path.split("/")
    with suppress(ValueError):
        if len(parts) == 3 and parts[0] == "blobs":
            return digest(f"{parts[1]}:{parts[2]}")
    return None


def _is_tar(fd: int) -> bool:
    """Whether the file begins with a tar header, or with nothing (the reader has words for that): else it is compressed."""
    head = os.pread(fd, BLOCK, 0)
    return is_header(head) or not any(head)


def _kept(fd: int, directory: str, check: Check | None) -> int:
    """What cannot be read twice (a pipe), as a file."""
    path = os.path.join(directory, "archive")
    try:
        with open(path, "xb", buffering=0) as copy:
            while data := os.read(fd, _CHUNK):
                if check is not None:
                    check()
                copy.write(data)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(f"cannot keep what comes in {path}: {exc.strerror}") from exc


def _read_all(file: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
