"""A file that lies in a tree as the entry that would make it again."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.unpack.attributes import xattrs_of
from orchestrator.images.unpack.entries import Entry, Kind, shown

KINDS = {
    stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK, stat.S_IFIFO: Kind.FIFO,
}  # fmt: skip
"""A socket is none: it is nothing without the process that listens."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def entry_of(directory: int, name: bytes, path: bytes, found: os.stat_result | None = None) -> Entry:
    """`name` in `directory` as the entry `path`. Raises OSError; OperationError for a socket."""
    found = found or os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise OperationError(f"{shown(path)} is a socket, which no archive can have")
    return Entry(
        path,
        kind,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_size if kind is Kind.FILE else 0,
        found.st_mtime_ns,
        os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else b"",
        (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
        xattrs_of(b"/proc/self/fd/%d/%b" % (directory, name), follow=False),
    )


def open_file(directory: int, name: bytes) -> BinaryIO:
    """A regular file that was seen to be one. Unbuffered. Raises OSError."""
    return open(os.open(name, _OPEN, dir_fd=directory), "rb", buffering=0)


@contextlib.contextmanager
def copied(directory: int, name: bytes, path: bytes) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """The entry of a file, with its data, holes left out."""
    entry = entry_of(directory, name, path)
    if entry.kind is not Kind.FILE:
        yield entry, None
        return
    with open_file(directory, name) as file:
        from orchestrator.values import replace

        pieces = tuple(_pieces(file.fileno(), entry.size))
        yield replace(entry, sparse=pieces), _Pieces(file, pieces)  # type: ignore[misc]
