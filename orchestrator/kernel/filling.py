"""Giving an empty directory its first content, so that a killed attempt is repeated and never taken for done.

    directory/MARK/...      what is being made; while MARK is there, the directory counts as empty
    directory/...           entries are moved up one by one when all is made; then MARK goes

The directory itself stays the same: it may be a mount point, and containers may have it mounted already. One process fills
it at a time (flock(2) on the directory); whoever comes meanwhile waits, and finds it filled.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.kernel.trees import copy_attributes, remove_tree

_NO_CONTENT = frozenset({"lost+found"})
"""What a fresh file system has in its root, if the directory is one."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_filled(directory: str, mark: str) -> bool:
    """Whether there is content. Raises OSError."""
    names = set(os.listdir(directory)) - _NO_CONTENT
    return bool(names) and mark not in names


@contextmanager
def filling(directory: str, mark: str) -> Iterator[str | None]:
    """An empty directory (a path) into which the content is to be put, and which may be given the attributes that
    `directory` is to have: at the end all of it is moved. None if there is content already. An exception leaves what was
    there before. Raises OSError. Blocking."""
    top = os.open(directory, _DIRECTORY)
    try:
        fcntl.flock(top, fcntl.LOCK_EX)
        names = set(os.listdir(top)) - _NO_CONTENT
        if names and mark not in names:
            yield None
            return
        making = os.path.join(directory, mark)
        if not remove_tree(making, keep_top=True):
            os.mkdir(mark, 0o700, dir_fd=top)
        try:
            _take_attributes(top, mark)
            yield making
        except BaseException:
            with suppress(OSError):  # The reason of the first is what matters.
                # The mark of an earlier attempt that was killed while it moved things stays.
                remove_tree(making, keep_top=bool(names - {mark}))
            raise
        _move(top, mark)
    finally:
        os.close(top)


def _take_attributes(top: int, mark: str) -> None:
    making = os.open(mark, _DIRECTORY, dir_fd=top)
    try:
        copy_attributes(top, making)
    finally:
        os.close(making)


def _move(top: int, mark: str) -> None:
    making = os.open(mark, _DIRECTORY, dir_fd=top)
    try:
        found = os.fstat(making)  # With the time that it was given: moving things out changes that.
        there = set(os.listdir(top))
        for name in os.listdir(making):
            if name not in there:  # An attempt that was killed has moved it.
                os.rename(name, name, src_dir_fd=making, dst_dir_fd=top)
        copy_attributes(making, top)
    finally:
        os.close(making)
    remove_tree(f"/proc/self/fd/{top}/{mark}")
    os.utime(top, ns=(found.st_atime_ns, found.st_mtime_ns))
