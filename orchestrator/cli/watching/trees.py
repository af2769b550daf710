"""What is in a folder that is watched, against what was there at the last look.

Links are never followed. Paths are relative to the root, names that are no UTF-8 as `os.fsdecode` has them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable

from orchestrator.cli.watching.rules import Filter, Ground

Stamp = tuple[int, ...]
_FOLDER: Stamp = ()
"""Of all folders: what is in them is looked at by itself."""
_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_RACY_NS = 50_000_000
"""A file may change twice within a tick of the kernel's clock, and look the same."""


class Tree:
    """What a rule is about, below its root. `look` finds what has changed; the first look at "" reads everything."""

    def __init__(self, ground: Ground, filter: Filter) -> None:
        self.ground = ground
        self._filter = filter
        self._known: dict[str, tuple[Stamp, bool]] = {}
        """Paths that are meant: how they looked, and whether a later change would show."""
        self._children: dict[str, set[str]] = {}
        """Of folders, whether they are meant themselves or not: names of what is known in them."""
        self._links: dict[Stamp, set[str]] = {}
        """Of files with several names, by device and inode: those that are known. An event is about one of them."""
        self._linked: set[Stamp] = set()
        """Of these, those that were found to have changed in this look."""

    @property
    def paths(self) -> set[str]:
        """All that the rule is about and that is there."""
        return set(self._known)

    @property
    def identity(self) -> tuple[int, int] | None:
        """Of the root, which may be deleted and made again. None: it is not there, and nothing is said of what was in it
        until it is back."""
        with contextlib.suppress(OSError):
            found = self._stat("")
            return (found.st_dev, found.st_ino) if found is not None and stat.S_ISDIR(found.st_mode) else None
        return None

    def look(self, hints: Iterable[str]) -> set[str]:
        """At these paths, and all below those that are folders: paths that are new, different or gone."""
        seen: set[str] = set()
        if self.identity is None:
            return seen
        hints = set(hints)
        if only := self.ground.only:
            if only in hints or "" in hints:
                self._look_at(only, seen, exact=only in hints)
            return seen
        folders = set()
        for hint in hints:
            try:
                path, found = self._reach(hint)
            except OSError:
                continue
            if (unknown := self._unknown_above(path)) is not None:
                folders.add(unknown)
            elif found is not None and stat.S_ISDIR(found.st_mode):
                folders.add(path)
            else:
                self._entry(path, found, seen, exact=path == hint)
        for folder in _outermost(folders):
            self._folder(folder, seen)
        linked, self._linked = self._linked, set()
        for inode in linked:
            for path in tuple(self._links.get(inode, ())):
                self._look_at(path, seen)
        self._linked.clear()  # What changes on and on has its next event.
        return seen

    def _unknown_above(self, path: str) -> str | None:
        """The outermost folder around `path` that was never looked at; None if all were."""
        if path and path.rpartition("/")[0] in self._children:
            return None
        at = ""
        for name in path.split("/") if path else ():
            if at not in self._children:
                return at
            at = f"{at}/{name}" if at else name
        return None

    def _stat(self, path: str) -> os.stat_result | None:
        """None: there is nothing. Raises OSError when nobody can say: its file system does not answer."""
        try:
            return os.lstat(os.path.join(self.ground.root, path))
        except ValueError:
            return None
        except OSError as exc:
            if exc.errno in _NOTHING:
                return None
            raise

    def _reach(self, path: str) -> tuple[str, os.stat_result | None]:
        """The first on the way to `path` that is no folder, or `path`; and what it is, None for nothing."""
        at, found = "", self._stat("")
        for name in path.split("/") if path else ():
            if found is None or not stat.S_ISDIR(found.st_mode):
                break
            at = f"{at}/{name}" if at else name
            found = self._stat(at)
        return at, found

    def _folder(self, top: str, seen: set[str]) -> None:
        todo = [top]
        while todo:
            path = todo.pop()
            if path and not self._filter.enters(path):
                self._forget(path, seen)
                continue
            try:
                with os.scandir(os.path.join(self.ground.root, path)) as entries:
                    names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            except OSError:  # It went, or became something else: its event is on the way.
                self._look_at(path, seen)
                continue
            known = self._children.get(path)
            if known is None:
                self._new_folder(path, seen)
                known = self._children[path]
            for name in sorted(known - names.keys()):
                self._forget(f"{path}/{name}" if path else name, seen)
            for name, directory in names.items():
                below = f"{path}/{name}" if path else name
                if directory:
                    todo.append(below)
                else:
                    self._look_at(below, seen)

    def _look_at(self, path: str, seen: set[str], *, exact: bool = False) -> None:
        """What nobody can say anything of stays as it is known."""
        with contextlib.suppress(OSError):
            self._entry(path, self._stat(path), seen, exact=exact)

    def _new_folder(self, path: str, seen: set[str]) -> None:
        self._forget(path, seen)  # It may have been a file.
        self._children[path] = set()
        if not path:
            return
        self._note_name(path)
        if self._filter.meant(path):
            self._known[path] = _FOLDER, True
            seen.add(path)

    def _entry(self, path: str, found: os.stat_result | None, seen: set[str], *, exact: bool) -> None:
        """`path` is no folder, or nothing. `exact`: something happened to it, and not to what is around it."""
        if not path:  # The root, which went just now.
            return
        kept = found is not None and (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode))
        if found is None or not kept or not self._filter.meant(path):
            if found is None or not stat.S_ISDIR(found.st_mode):
                self._forget(path, seen)
            return
        if path in self._children:
            self._forget(path, seen)
        stamp = (found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(path)
        if known is None or known[0] != stamp or (exact and not known[1]):
            seen.add(path)
            if found.st_nlink > 1 and stat.S_ISREG(found.st_mode):
                self._links.setdefault((found.st_dev, found.st_ino), set()).add(path)
                self._linked.add((found.st_dev, found.st_ino))
        if known is not None and known[0][1:3] != stamp[1:3]:
            self._unlink(path, known[0])
        self._known[path] = stamp, time.time_ns() - found.st_ctime_ns > _RACY_NS
        self._note_name(path)

    def _unlink(self, path: str, stamp: Stamp) -> None:
        if (names := self._links.get(stamp[1:3])) is not None:
            names.discard(path)
            if not names:
                del self._links[stamp[1:3]]

    def _note_name(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        self._children.setdefault(above, set()).add(name)

    def _forget(self, top: str, seen: set[str]) -> None:
        """Nothing that the rule is about is at `top` any more, nor below it."""
        todo = [top]
        while todo:
            path = todo.pop()
            todo += [f"{path}/{name}" if path else name for name in self._children.pop(path, ())]
            if (known := self._known.pop(path, None)) is not None:
                seen.add(path)
                self._unlink(path, known[0])
        above, _, name = top.rpartition("/")
        if (names := self._children.get(above)) is not None:
            names.discard(name)


def _outermost(folders: set[str]) -> list[str]:
    """Those that are in no other of them."""
    found: list[str] = []
    for path in sorted(folders, key=lambda path: path.split("/") if path else []):
        if not found or not (found[-1] == "" or path == found[-1] or path.startswith(f"{found[-1]}/")):
            found.append(path)
    return found
