"""What overlayfs would show of some trees, one name at a time (Documentation/filesystems/overlayfs.rst).

A directory of the view is its path, all of whose components are directories, and `below`: the numbers of the trees that
have a part of it, topmost first. A name in it is looked for in these trees in turn: the first thing that is no directory
ends the search, a whiteout ends it with nothing, and directories are put together until one of them is opaque.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from orchestrator.kernel import constants as c
from orchestrator.kernel.syscalls import openat2
from orchestrator.values import frozen

MOST_LINKS = 40
"""Symbolic links on the way of one path (path_resolution(7))."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INSIDE = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_SYMLINKS | c.RESOLVE_NO_MAGICLINKS
_MOST_PATH_BYTES = 4000
_OPEN_DIRECTORIES = 64
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")

Below = tuple[int, ...]


@frozen
class Shown:
    """What a name shows. `tree`: the number of the tree that it is in; `below`: of a directory."""

    stat: os.stat_result
    tree: int
    below: Below = ()

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.stat.st_mode)


def is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(directory: int) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(directory, name) == b"y":
                return True
        except OSError as exc:
            if exc.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise
    return False


def open_inside(root: int, path: bytes, flags: int) -> int:
    """Open `path` below `root`; no component may be a link. Longer than PATH_MAX is opened in steps. Raises OSError."""
    at, close = root, -1
    try:
        while len(path) > _MOST_PATH_BYTES:
            cut = path.rindex(b"/", 0, _MOST_PATH_BYTES)
            at, before = openat2(at, path[:cut], os.O_PATH | os.O_DIRECTORY, _INSIDE), close
            if before >= 0:
                os.close(before)
            close, path = at, path[cut + 1 :]
        return openat2(at, path or b".", flags, _INSIDE)
    finally:
        if close >= 0:
            os.close(close)


class Lowers:
    """`trees`: directories on the host, topmost first; one descriptor of each is held until `close`."""

    def __init__(self, trees: Sequence[str]) -> None:
        self.trees = tuple(trees)
        self._roots: list[int] = []
        self._open: dict[tuple[int, bytes], int] = {}
        try:
            for tree in trees:
                self._roots.append(os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for fd in (*self._roots, *self._open.values()):
            os.close(fd)
        self._roots, self._open = [], {}

    @property
    def root(self) -> Below:
        return tuple(range(len(self._roots)))

    def lookup(self, directory: bytes, below: Below, name: bytes) -> Shown | None:
        parts: list[int] = []
        first: os.stat_result | None = None
        for tree in below:
            above = self.directory(tree, directory)
            try:
                found = os.stat(name, dir_fd=above, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                if first is None and not is_whiteout(found):
                    return Shown(found, tree)
                break
            parts.append(tree)
            first = first or found
            if len(below) > 1 and tree != below[-1]:
                fd = os.open(name, DIRECTORY, dir_fd=above)
                try:
                    if is_opaque(fd):
                        break
                finally:
                    os.close(fd)
        return Shown(first, parts[0], tuple(parts)) if first is not None else None

    def names(self, directory: bytes, below: Below) -> list[bytes]:
        """All that `lookup` would find in a directory, sorted."""
        seen: dict[bytes, bool] = {}
        for tree in below:
            with os.scandir(self.directory(tree, directory)) as listing:
                for item in listing:
                    name = os.fsencode(item.name)
                    if name not in seen:
                        seen[name] = not is_whiteout(item.stat(follow_symlinks=False))
        return sorted(name for name, there in seen.items() if there)

    def directory(self, tree: int, path: bytes) -> int:
        """A descriptor of a directory of one tree, which stays ours."""
        if not path:
            return self._roots[tree]
        key = tree, path
        fd = self._open.pop(key, -1)
        if fd < 0:
            above, _, name = path.rpartition(b"/")
            near = self._open.get((tree, above), -1)
            at, rest = (near, name) if near >= 0 else (self._roots[tree], path)
            fd = open_inside(at, rest, DIRECTORY)
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[key] = fd
        return fd

    def readlink(self, tree: int, directory: bytes, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=self.directory(tree, directory))
