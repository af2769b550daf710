"""A tree that is being made: every write goes through the unpacker, so that nothing in the tree can lead it out."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO

from orchestrator.images.unpack.applier import Applier
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.merged import Merged
from orchestrator.images.unpack.treefiles import KINDS
from orchestrator.values import replace

NS_PER_SECOND = 1_000_000_000
_CHECKED_EVERY = 256


class Tree:
    """The tree at `directory`, empty at first. A context manager: what is only known at its end, times of directories, is
    set by `finish`. Everything made here has the time of the newest thing that was put in, so it depends on nothing but
    the content; none is later than `most_s`, if that is given. `check` is called now and then, and may raise. Paths are
    absolute, from the tree's root.

    `lowers`: finished trees below it, topmost first, whose newest thing is of `newest_s`. What is read is what all of them
    show together, and what is made here as it is there already is not made again."""

    def __init__(
        self,
        directory: str,
        most_s: int | None = None,
        check: Callable[[], None] = lambda: None,
        lowers: Sequence[str] = (),
        newest_s: int = 0,
    ) -> None:
        self.directory_path = directory
        self.lowers = tuple(lowers)
        self.newest_s = newest_s
        self.bytes = 0
        self.puts = 0
        self._most_s = most_s
        self._check = check
        self._applier = Applier(directory, lowers, Limits(), whiteouts=False)
        self.shown = Merged([directory, *lowers])

    def __enter__(self) -> Tree:
        self._applier.__enter__()
        self._applier.add(Entry(b".", Kind.DIRECTORY, 0o755))
        return self

    def __exit__(self, *exc: object) -> None:
        self._applier.__exit__(*exc)
        self.shown.close()

    def put(self, entry: Entry, data: BinaryIO | None = None) -> None:
        """An entry of an archive."""
        seconds = entry.mtime_ns // NS_PER_SECOND
        if self._most_s is not None and seconds > self._most_s:
            entry = replace(entry, mtime_ns=self._most_s * NS_PER_SECOND)
        self.newest_s = max(self.newest_s, entry.mtime_ns // NS_PER_SECOND)
        self.puts += 1
        if self.puts % _CHECKED_EVERY == 0:
            self._check()
        self.bytes += entry.size
        self._add(entry, data)

    def file(self, path: str, content: bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        """In the place of what is there."""
        self._make(path, Kind.FILE, mode, owner, content=content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link, in the place of what is there."""
        self._make(path, Kind.SYMLINK, 0o777, (0, 0), link=target)

    def directory(self, path: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> None:
        """It may be there: then it gets mode and owner."""
        self._make(path, Kind.DIRECTORY, mode, owner)

    def own(self, path: str, owner: tuple[int, int]) -> None:
        """Give what is there, and is a directory, to `owner`."""
        info = self.shown.stat(path)
        if info is not None and stat.S_ISDIR(info.st_mode):
            self.directory(path, stat.S_IMODE(info.st_mode), owner)

    def read(self, path: str) -> bytes | None:
        """A regular file's content; links are followed inside the tree. None if there is none."""
        with suppress(OSError), self.shown.open(path) as file:
            return file.read()
        return None

    def is_link(self, path: str) -> bool:
        with suppress(OSError):
            info = self.shown.stat(path)
            return info is not None and stat.S_ISLNK(info.st_mode)
        return False

    def exists(self, path: str) -> bool:
        """Also a link, wherever it leads."""
        with suppress(OSError):
            return self.shown.stat(path) is not None
        return False

    def names(self, directory: str) -> list[str]:
        """Sorted; none if it is no directory."""
        with suppress(OSError):
            return sorted(self.shown.listdir(directory))
        return []

    def finish(self) -> int:
        """The number of entries."""
        return self._applier.finish().entries

    def _make(
        self, path: str, kind: Kind, mode: int, owner: tuple[int, int], content: bytes = b"", link: str = ""
    ) -> None:
        entry = Entry(
            os.fsencode(path.lstrip("/")),
            kind,
            mode,
            *owner,
            size=len(content),
            mtime_ns=self.newest_s * NS_PER_SECOND,
            link=os.fsencode(link),
        )
        if self.lowers and self._is_there(path, entry, content):
            return
        self.bytes += len(content)
        self._add(entry, io.BytesIO(content) if kind is Kind.FILE else None)

    def _add(self, entry: Entry, data: BinaryIO | None) -> None:
        self._applier.add(entry, data)
        if self.lowers:
            self.shown.forget()

    def _is_there(self, path: str, entry: Entry, content: bytes) -> bool:
        """Whether what is shown is what `entry` would make, but for its time."""
        with suppress(OSError):
            found = self.shown.stat(path)
            if found is None or KINDS.get(stat.S_IFMT(found.st_mode)) is not entry.kind:
                return False
            if (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
                return False
            if entry.kind is Kind.SYMLINK:
                return os.fsencode(self.shown.readlink(path)) == entry.link
            if stat.S_IMODE(found.st_mode) != entry.mode:
                return False
            return entry.kind is Kind.DIRECTORY or (found.st_size == entry.size and self.read(path) == content)
        return False
