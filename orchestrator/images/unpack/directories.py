"""The directories of a tree that is being made: which there are, how they are reached, and what is below each.

Only this knows where a path of an archive leads. A path is walked name by name: a name is a directory that we know, or
something else in the tree, or something that the trees below show; a symbolic link is followed inside the root, by taking
its text as the path to go on with. The kernel never sees a path, only one name and the descriptor of a directory, with
O_NOFOLLOW: it can follow nothing.

Descriptors are kept for the directories used last; any other is opened again from the nearest one above that has one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from orchestrator.errors import OperationError
from orchestrator.images.unpack.entries import shown
from orchestrator.images.unpack.lowers import DIRECTORY, MOST_LINKS, Below, Lowers, Shown, is_opaque, is_whiteout

_OPEN_DIRECTORIES = 128
_RECENT = 256


class Directory:
    """One directory of the tree. `named`: an entry made it, and not only what lies in it. `mtime_ns`, `default_acl`: what
    it gets in the end. `opaque`: nothing is shown through it. `below`: None until somebody asks (`Directories.below`).
    `gives`: mode bits that files made in it were seen to get, with root as owner."""

    __slots__ = ("below", "children", "default_acl", "fd", "gives", "gone", "mtime_ns", "name", "named", "opaque", "parent")

    def __init__(self, name: bytes, parent: Directory | None) -> None:
        self.name, self.parent = name, parent
        self.children: dict[bytes, Directory] = {}
        self.fd = -1
        self.gives = 0
        self.named = self.opaque = self.gone = False
        self.mtime_ns: int | None = None
        self.default_acl: bytes | None = None
        self.below: Below | None = None


Imply = Callable[[Directory, bytes, Shown | None], Directory]
"""Makes a directory that no entry has named: above, name, and what is shown there by the trees below."""


class Directories:
    def __init__(self, target: str, lowers: Sequence[str]) -> None:
        self.lowers = Lowers(lowers)
        self.root = Directory(b"", None)
        self.depends = False
        """Whether something of the trees below decided where a path leads."""
        self._open: dict[Directory, None] = {}
        self._recent: dict[bytes, Directory] = {}
        self._paths: dict[Directory, bytes] = {self.root: b""}
        try:
            self.root.fd = os.open(target, DIRECTORY)
        except BaseException:
            self.lowers.close()
            raise
        self.root.below = self.lowers.root

    def close(self) -> None:
        for directory in (*self._open, self.root):
            if directory.fd >= 0:
                os.close(directory.fd)
                directory.fd = -1
        self._open.clear()
        self.lowers.close()

    # Descriptors.

    def fd(self, directory: Directory) -> int:
        """A descriptor of `directory`, which stays ours. At least the two asked for last are open."""
        if directory.fd >= 0:
            if directory in self._open:
                del self._open[directory]
                self._open[directory] = None
            return directory.fd
        names = []
        at = directory
        while at.fd < 0:
            assert at.parent is not None
            names.append(at.name)
            at = at.parent
        fd = at.fd
        for name in reversed(names):
            try:
                below = os.open(name, DIRECTORY, dir_fd=fd)
            finally:
                if fd != at.fd:
                    os.close(fd)
            fd = below
        if len(self._open) >= _OPEN_DIRECTORIES:
            oldest = next(iter(self._open))
            del self._open[oldest]
            os.close(oldest.fd)
            oldest.fd = -1
        directory.fd = fd
        self._open[directory] = None
        return fd

    # The tree.

    def added(self, parent: Directory, name: bytes, *, opaque: bool) -> Directory:
        """`name` has been made in `parent`, as a directory."""
        made = Directory(name, parent)
        if opaque:
            made.opaque, made.below = True, ()
        parent.children[name] = made
        return made

    def removed(self, directory: Directory) -> None:
        """`directory` and all below it are no more."""
        assert directory.parent is not None
        del directory.parent.children[directory.name]
        self._recent.clear()
        ahead = [directory]
        while ahead:
            at = ahead.pop()
            ahead += at.children.values()
            at.gone = True
            self._paths.pop(at, None)
            if at.fd >= 0:
                del self._open[at]
                os.close(at.fd)
                at.fd = -1

    def make_opaque(self, directory: Directory) -> Iterator[Directory]:
        """From now on nothing is shown through `directory`. Gives those of it, itself too, of which that is new."""
        directory.opaque = True
        ahead = [directory]
        while ahead:
            at = ahead.pop()
            if at.below != ():
                at.below = ()
                ahead += at.children.values()
                yield at

    def below(self, directory: Directory) -> Below:
        """Which trees below have a part of `directory`."""
        unknown = []
        at = directory
        while at.below is None:
            unknown.append(at)
            assert at.parent is not None
            at = at.parent
        for at in reversed(unknown):
            assert at.parent is not None
            above = at.parent.below or ()
            found = self.lowers.lookup(self.path(at.parent), above, at.name) if above else None
            at.below = found.below if found is not None else ()
        return directory.below or ()

    def path(self, directory: Directory) -> bytes:
        """From the root, of names alone. Those of a few are remembered: in a deep tree they are long."""
        names = []
        at = directory
        while at not in self._paths:
            names.append(at.name)
            assert at.parent is not None
            at = at.parent
        above = self._paths[at]
        path = b"/".join((above, *reversed(names))) if above else b"/".join(reversed(names))
        if len(self._paths) >= _RECENT:
            self._paths = {self.root: b""}
        self._paths[directory] = path
        return path

    def shown_below(self, directory: Directory, name: bytes) -> Shown | None:
        """What the trees below show as `name`, whatever the tree itself has there."""
        below = self.below(directory)
        return self.lowers.lookup(self.path(directory), below, name) if below else None

    # Paths.

    def recent(self, path: bytes) -> Directory | None:
        """What `find` gave for `path` a moment ago."""
        return self._recent.get(path)

    def find(self, path: bytes, imply: Imply) -> Directory:
        """The directory that `path` (clean, of names alone) leads to. What is missing on the way is made by `imply`.
        Raises OperationError for a loop of links and for what is no directory."""
        found = self._recent.get(path)
        if found is not None:
            return found
        at, todo = self.root, path.split(b"/")[::-1] if path else []
        # Mostly it is a directory in one that is known.
        above, _, name = path.rpartition(b"/")
        if (near := self._recent.get(above)) is not None and name in near.children:
            at, todo = near.children[name], []
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                at = at.parent or at
                continue
            child = at.children.get(name)
            if child is not None:
                at = child
                continue
            step = self._step(at, name, path, imply)
            if isinstance(step, Directory):
                at = step
                continue
            links += 1
            if links > MOST_LINKS:
                raise OperationError(f"{shown(path)} leads through more than {MOST_LINKS} symbolic links")
            if step.startswith(b"/"):
                at = self.root
            todo += step.split(b"/")[::-1]
        if not links:
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[path] = at
        return at

    def _step(self, at: Directory, name: bytes, path: bytes, imply: Imply) -> Directory | bytes:
        """A directory, or the text of a link."""
        fd = self.fd(at)
        below: Shown | None = None
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            below = self.shown_below(at, name)
        else:
            if stat.S_ISDIR(found.st_mode):
                return self._adopted(at, name)
            if stat.S_ISLNK(found.st_mode):
                return os.readlink(name, dir_fd=fd)
            if not is_whiteout(found):
                raise OperationError(f"{shown(path)} leads through {shown(name)}, which is no directory")
        if below is not None and not below.is_directory:
            self.depends = True
            if below.is_link:
                return self.lowers.readlink(below.tree, self.path(at), name)
            raise OperationError(f"{shown(path)} leads through {shown(name)}, which is no directory below")
        return imply(at, name, below)

    def _adopted(self, at: Directory, name: bytes) -> Directory:
        """A directory that was in the target before the first entry."""
        fd = os.open(name, DIRECTORY, dir_fd=self.fd(at))
        try:
            made = self.added(at, name, opaque=is_opaque(fd))
        finally:
            os.close(fd)
        made.named = True
        return made

    def known(self, at: Directory, name: bytes) -> Directory | None:
        """The directory `name` in `at`, if it is one."""
        child = at.children.get(name)
        if child is not None:
            return child
        try:
            found = os.stat(name, dir_fd=self.fd(at), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return self._adopted(at, name) if stat.S_ISDIR(found.st_mode) else None
