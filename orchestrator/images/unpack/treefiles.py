"""A file that lies in a tree as the entry that would make it again."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from orchestrator.errors import OperationError
from orchestrator.images.unpack.attributes import xattrs_of
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.values import replace

KINDS = {
    stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK, stat.S_IFIFO: Kind.FIFO,
}  # fmt: skip
"""A socket is none: it is nothing without the process that listens."""
_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def entry_of(directory: int, name: bytes, path: bytes, found: os.stat_result | None = None) -> Entry:
    """`name` in `directory` as the entry `path`. Raises OSError; OperationError for a socket."""
    found = found or os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise OperationError(f"{shown(path)} is a socket, which no archive can have")
    link = os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else b""
    return entry_as(path, kind, found, link, xattrs_of(b"/proc/self/fd/%d/%b" % (directory, name), follow=False))


def entry_as(path: bytes, kind: Kind, found: os.stat_result, link: bytes, xattrs: Mapping[bytes, bytes]) -> Entry:
    """What was `found` as the entry `path`. `link`: of a symbolic link, where it leads."""
    return Entry(
        path,
        kind,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_size if kind is Kind.FILE else 0,
        found.st_mtime_ns,
        link,
        (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
        xattrs,
    )


def open_file(directory: int, name: bytes) -> BinaryIO:
    """A regular file that was seen to be one. Unbuffered. Raises OSError."""
    return open(os.open(name, _OPEN, dir_fd=directory), "rb", buffering=0)


@contextlib.contextmanager
def copied(directory: int, name: bytes, path: bytes) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """The entry of a file, with its data; holes are left out."""
    entry = entry_of(directory, name, path)
    if entry.kind is not Kind.FILE:
        yield entry, None
        return
    with open_file(directory, name) as file:
        pieces = data_pieces(file.fileno(), entry.size)
        if pieces == ((0, entry.size),):
            yield entry, file
        else:
            yield replace(entry, sparse=pieces), cast(BinaryIO, Pieces(file.fileno(), pieces))


def data_pieces(fd: int, size: int, most: int | None = None) -> tuple[tuple[int, int], ...]:
    """Where a file has data (lseek(2), SEEK_DATA); ``((size, 0),)`` if nowhere. After `most` pieces holes are data, too."""
    pieces: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, at, os.SEEK_HOLE) if len(pieces) != most else size
        if at >= size:
            break
        pieces.append((at, min(end, size) - at))
        at = end
    os.lseek(fd, 0, os.SEEK_SET)
    return tuple(pieces) or ((size, 0),)


class Pieces(io.RawIOBase):
    """Some pieces of a file, one after the other."""

    def __init__(self, fd: int, pieces: Sequence[tuple[int, int]]) -> None:
        self._fd, self._todo = fd, list(pieces)[::-1]

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        while self._todo and not self._todo[-1][1]:
            self._todo.pop()
        if not self._todo or not size:
            return b""
        offset, left = self._todo.pop()
        data = os.pread(self._fd, min(left, size), offset)
        if data:
            self._todo.append((offset + len(data), left - len(data)))
        return data
