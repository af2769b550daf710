"""The view of some trees for whoever reads it: paths as text, links followed inside the root."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Sequence
from typing import BinaryIO

from orchestrator.images.unpack.lowers import MOST_LINKS, Lowers, Shown

_CACHED = 4096
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Merged:
    """What overlayfs would show of `lowers` (topmost first), without a mount. A context manager; `close` lets go of the
    directories. Paths are from the root of that view, with or without a leading slash; names that are no UTF-8 are as
    `os.fsdecode` has them. The trees must not change meanwhile, unless who changes them calls `forget`.
    """

    def __init__(self, lowers: Sequence[str]) -> None:
        self._lowers = Lowers(lowers)
        self._directories: dict[bytes, Shown] = {}
        below = self._lowers.root
        self._root = Shown(os.fstat(self._lowers.directory(0, b"")), 0, below) if below else None

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lowers"):
            self.close()

    def close(self) -> None:
        self._lowers.close()

    def forget(self) -> None:
        """A tree has got a directory that it had not: which of them have a part of it is found out anew."""
        self._directories.clear()

    def stat(self, path: str) -> os.stat_result | None:
        """None if there is nothing. Links on the way are followed inside the root, the last component is not."""
        _, found = self._find(path, follow=False)
        return found.stat if found is not None else None

    def readlink(self, path: str) -> str:
        """The text of the symbolic link `path`. Raises OSError(EINVAL) for anything else."""
        where, found = self._find(path, follow=False)
        if found is None or not found.is_link:
            raise _error(errno.EINVAL if found else errno.ENOENT, path)
        return os.fsdecode(self._lowers.readlink(found.tree, *posixpath.split(where)))

    def resolve(self, path: str) -> str:
        """`path` with all links followed inside the root. What does not exist keeps its name, so that it may be made
        there. Raises OSError(ELOOP)."""
        where, _ = self._find(path, follow=True)
        return "/" + os.fsdecode(where)

    def open(self, path: str) -> BinaryIO:
        """A regular file, for reading; links are followed inside the root. Raises OSError."""
        where, found = self._find(path, follow=True)
        if found is None:
            raise _error(errno.ENOENT, path)
        if not stat.S_ISREG(found.stat.st_mode):
            raise _error(errno.EISDIR if found.is_directory else errno.EINVAL, path)
        above, name = posixpath.split(where)
        return os.fdopen(os.open(name, _OPEN, dir_fd=self._lowers.directory(found.tree, above)), "rb")

    def listdir(self, path: str) -> list[str]:
        """Sorted; links are followed inside the root. Raises OSError."""
        where, found = self._find(path, follow=True)
        if found is None or not found.is_directory:
            raise _error(errno.ENOTDIR if found else errno.ENOENT, path)
        return [os.fsdecode(name) for name in self._lowers.names(where, found.below)]

    def real(self, path: str) -> str | None:
        """Where on the host that lies which `stat(path)` is about; None if there is nothing."""
        where, found = self._find(path, follow=False)
        return None if found is None else os.path.join(self._lowers.trees[found.tree], os.fsdecode(where))

    def _find(self, path: str, *, follow: bool) -> tuple[bytes, Shown | None]:
        """The path with its links followed, and what is there."""
        todo = os.fsencode(path).split(b"/")[::-1]
        here: list[bytes] = []
        stack = [self._root]  # What is shown at each level of `here`.
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if here:
                    here.pop()
                    stack.pop()
                continue
            above, found = stack[-1], None
            if above is not None and not above.is_directory:
                raise _error(errno.ENOTDIR, path)
            if above is not None:
                found = self._lookup(b"/".join(here), above, name)
            if found is not None and found.is_link and (todo or follow):
                links += 1
                if links > MOST_LINKS:
                    raise _error(errno.ELOOP, path)
                text = self._lowers.readlink(found.tree, b"/".join(here), name)
                todo += text.split(b"/")[::-1]
                if text.startswith(b"/"):
                    here, stack = [], stack[:1]
                continue
            here.append(name)
            stack.append(found)
        return b"/".join(here), stack[-1]

    def _lookup(self, directory: bytes, above: Shown, name: bytes) -> Shown | None:
        key = directory + b"/" + name
        found = self._directories.get(key)
        if found is None:
            found = self._lowers.lookup(directory, above.below, name)
            if found is not None and found.is_directory:
                if len(self._directories) >= _CACHED:
                    self._directories.clear()
                self._directories[key] = found
        return found


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
