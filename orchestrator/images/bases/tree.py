"""A tree that is being made: every write goes through the unpacker, so that nothing in the tree can lead it out."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from orchestrator.images.unpack.applier import Applier
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.merged import Merged
from orchestrator.values import replace

NS_PER_SECOND = 1_000_000_000
_CHECKED_EVERY = 256


class Tree:
    """The tree at `directory`, empty at first. A context manager: what is only known at its end, times of directories, is
    set by `finish`. Everything made here has the time of the newest thing that was put in, so it depends on nothing but
    the content; none is later than `most_s`, if that is given. `check` is called now and then, and may raise. Paths are
    absolute, from the tree's root."""

    def __init__(self, directory: str, most_s: int | None = None, check: Callable[[], None] = lambda: None) -> None:
        self.directory_path = directory
        self.newest_s = 0
        self.bytes = 0
        self.puts = 0
        self._most_s = most_s
        self._check = check
        self._applier = Applier(directory, (), Limits(), whiteouts=False)
        self._shown = Merged([directory])

    def __enter__(self) -> Tree:
        self._applier.__enter__()
        self._applier.add(Entry(b".", Kind.DIRECTORY, 0o755))
        return self

    def __exit__(self, *exc: object) -> None:
        self._applier.__exit__(*exc)
        self._shown.close()

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
        self._applier.add(entry, data)

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
        info = self._shown.stat(path)
        if info is not None and stat.S_ISDIR(info.st_mode):
            self.directory(path, stat.S_IMODE(info.st_mode), owner)

    def read(self, path: str) -> bytes | None:
        """A regular file's content; links are followed inside the tree. None if there is none."""
        with suppress(OSError), self._shown.open(path) as file:
            return file.read()
        return None

    def is_link(self, path: str) -> bool:
        with suppress(OSError):
            info = self._shown.stat(path)
            return info is not None and stat.S_ISLNK(info.st_mode)
        return False

    def exists(self, path: str) -> bool:
        """Also a link, wherever it leads."""
        with suppress(OSError):
            return self._shown.stat(path) is not None
        return False

    def names(self, directory: str) -> list[str]:
        """Sorted; none if it is no directory."""
        with suppress(OSError):
            return sorted(self._shown.listdir(directory))
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
        self.bytes += len(content)
        self._applier.add(entry, io.BytesIO(content) if kind is Kind.FILE else None)
