"""What overlayfs would show of some trees, as a tar stream: without a mount, and whatever happens to the topmost meanwhile.

The trees below are layers, which nobody changes; the topmost may be a running container's. Names are looked for and opened
without a link being followed, so what is changed there can make the archive odd, and nothing else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import BinaryIO

from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.lowers import Below, Lowers
from orchestrator.images.unpack.packing import CHUNK, TarStream
from orchestrator.images.unpack.tarformat import BLOCK
from orchestrator.images.unpack.treefiles import entry_of, open_file

_CHANGED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ESTALE})
"""What the kernel says when a name means something else than a moment ago."""


def write_merged(trees: Sequence[str], out: BinaryIO, seen: Callable[[Entry], Entry]) -> int:
    """`trees`: topmost first. `seen`: what an entry of the topmost is to whoever looks. Sockets are left out. Gives how
    many names vanished, or became shorter, while they were read. Raises OSError."""
    lowers = Lowers(trees)
    try:
        return _Writing(lowers, TarStream(out), seen).run()
    finally:
        lowers.close()


class _Writing:
    """`todo`: for each level the directory, its parts, and the names in it still to be written, last first."""

    def __init__(self, lowers: Lowers, stream: TarStream, seen: Callable[[Entry], Entry]) -> None:
        self.lowers = lowers
        self.stream = stream
        self.seen = seen
        self.changed = 0
        self.todo: list[tuple[bytes, Below, list[bytes]]] = []

    def run(self) -> int:
        self.stream.put(self._entry(0, self.lowers.directory(0, b""), b".", b"./"))
        self._enter(b"", self.lowers.root)
        while self.todo:
            directory, below, names = self.todo[-1]
            if not names:
                self.todo.pop()
                continue
            try:
                self._one(directory, below, names.pop())
            except OSError as exc:
                if exc.errno not in _CHANGED:
                    raise
                self.changed += 1
        self.stream.end()
        return self.changed

    def _enter(self, path: bytes, below: Below) -> None:
        self.todo.append((path, below, self.lowers.names(path, below)[::-1]))

    def _one(self, directory: bytes, below: Below, name: bytes) -> None:
        shown = self.lowers.lookup(directory, below, name)
        if shown is None:
            raise _vanished(name)
        path = directory + b"/" + name if directory else name
        where = self.lowers.directory(shown.tree, directory)
        if shown.is_directory:
            self.stream.put(self._entry(shown.tree, where, name, path + b"/", shown.stat))
            self._enter(path, shown.below)
        elif stat.S_ISREG(shown.stat.st_mode):
            self._file(shown.tree, where, name, path)
        elif not stat.S_ISSOCK(shown.stat.st_mode):
            entry = self._entry(shown.tree, where, name, path, shown.stat)
            if not self.stream.put_again(entry, shown.stat):
                self.stream.put(entry)

    def _file(self, tree: int, where: int, name: bytes, path: bytes) -> None:
        with open_file(where, name) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _vanished(name)
            entry = self._entry(tree, where, name, path, found)
            if self.stream.put_again(entry, found):
                return
            self.stream.put(entry)
            missing = self.stream.data(file, entry.size)
        if missing:
            self.changed += 1
            missing += -entry.size % BLOCK
            while missing:
                self.stream.emit(bytes(min(missing, CHUNK)))
                missing -= min(missing, CHUNK)

    def _entry(
        self, tree: int, where: int, name: bytes, path: bytes, found: os.stat_result | None = None
    ) -> Entry:
        entry = entry_of(where, name, path, found)
        if entry.kind is Kind.CHARACTER and entry.device == (0, 0):
            raise _vanished(name)
        return entry if tree else self.seen(entry)


def _vanished(name: bytes) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
