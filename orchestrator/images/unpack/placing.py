"""Entries into a tree that is in use: what was there keeps its kind and, if it is a directory, its attributes."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.unpack.applier import Applier
from orchestrator.images.unpack.directories import Directory
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.lowers import Shown

UNLIMITED = Limits(bytes=(1 << 63) - 1, entries=1 << 62, ratio=1 << 62)
"""Whoever copies has chosen what."""


class Placer(Applier):
    """`owner`: of directories that no entry names. `keep`: directories that were there stay as they are.

    Nothing but a file or a link is ever taken away to make room, whoever changes the tree meanwhile."""

    def __init__(self, target: str, owner: tuple[int, int], *, keep: bool) -> None:
        super().__init__(target, (), UNLIMITED, whiteouts=False)
        self._owner, self._keep = owner, keep

    def _make(self, parent: Directory, name: bytes, entry: Entry, data: BinaryIO | None) -> None:
        there = self._directories.known(parent, name)
        if there is not None:
            if entry.kind is not Kind.DIRECTORY:
                raise OperationError(f"{shown(entry.path)} is a directory there, and cannot be replaced by a file")
            if self._keep and there.mtime_ns is None:  # Of ours there is a time to be set.
                return
        elif entry.kind is Kind.DIRECTORY:
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=self._directories.fd(parent), follow_symlinks=False)
                what = shown(entry.path.rstrip(b"/"))
                raise OperationError(f"{what} is no directory there, and cannot be replaced by one")
        super()._make(parent, name, entry, data)

    def _root(self, entry: Entry) -> None:
        """It was there."""

    def _imply(self, above: Directory, name: bytes, below: Shown | None) -> Directory:
        uid, gid = self._owner
        made = self._new_directory(above, name)
        path = self._directories.path(above) + b"/" + name
        self._set_directory(made, Entry(path, Kind.DIRECTORY, 0o755, uid, gid))
        made.mtime_ns = None
        return made

    def _new_file(self, parent: Directory, name: bytes, mode: int) -> int:
        """Where a file is mounted, that file with nothing in it."""
        mounted = self._mounted(parent, name)
        if mounted < 0:
            return super()._new_file(parent, name, mode)
        parent.gives = 0
        try:
            if not stat.S_ISREG(os.fstat(mounted).st_mode):
                raise _is_mounted(name)
            return os.open(f"/proc/self/fd/{mounted}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        finally:
            os.close(mounted)

    def _clear(self, parent: Directory, name: bytes) -> None:
        mounted = self._mounted(parent, name)
        if mounted >= 0:
            os.close(mounted)
            raise _is_mounted(name)
        fd = self._directories.fd(parent)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise OperationError(f"{shown(name)} is a directory there, and cannot be replaced by a file")
            os.unlink(name, dir_fd=fd)

    def _mounted(self, parent: Directory, name: bytes) -> int:
        """A descriptor (O_PATH) of `name`, if something is mounted there; else -1. In a mount namespace that is not ours
        the kernel would let us delete what it is mounted on, and the mount with it."""
        fd = self._directories.fd(parent)
        try:
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except FileNotFoundError:
            return -1
        if mount_of(held) != mount_of(fd):
            return held
        os.close(held)
        return -1


def mount_of(fd: int) -> bytes:
    """The number of the mount that `fd` is in (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        return next(line for line in file if line.startswith(b"mnt_id:"))


def _is_mounted(name: bytes) -> OperationError:
    return OperationError(f"something is mounted at {shown(name)} there, and cannot be replaced")
