"""A tree as a tar stream: the other direction of `applier`."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.unpack.applier import OPAQUE, WHITEOUT
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.images.unpack.lowers import DIRECTORY, is_opaque, is_whiteout
from orchestrator.images.unpack.tarformat import BLOCK
from orchestrator.images.unpack.tarwriting import END, header
from orchestrator.images.unpack.treefiles import entry_of, open_file
from orchestrator.values import frozen, replace

CHUNK = 1 << 20


@frozen
class Packed:
    """`diff_id`: the digest of the stream (``sha256:HEX``). `bytes`: its length."""

    diff_id: str
    bytes: int
    entries: int


def write_tree(tree: str, out: BinaryIO, *, times_at_most_s: int | None = None, whole: bool = False) -> Packed:
    """The directory `tree` as a tar stream in `out`: the same bytes for the same tree, wherever it lies.

    A layer's tree: whiteouts are written as ``.wh.NAME``, opaque directories as ``.wh..wh..opq``, and the root is left
    out. `whole`: a merged root file system or a volume, no layer: its root is an entry (``./``), there are no marks, and
    what would be one is left out. `times_at_most_s`: later times become this one (SOURCE_DATE_EPOCH). Sockets are left
    out. Raises OperationError for what no layer can say (a file named ``.wh.x``) and for a file that shrinks while it is
    read, OSError for what cannot be read or written.
    """
    return _Writer(out, times_at_most_s, whole).write(tree)


class TarStream:
    """A tar archive that is written entry by entry. `links`: the first path of each file with several names."""

    def __init__(self, out: BinaryIO, times_at_most_s: int | None = None) -> None:
        self.out = out
        self.latest_ns = None if times_at_most_s is None else times_at_most_s * 10**9
        self.hash = hashlib.sha256()
        self.bytes = self.entries = 0
        self.links: dict[tuple[int, int], bytes] = {}

    def put(self, entry: Entry) -> None:
        if self.latest_ns is not None and entry.mtime_ns > self.latest_ns:
            entry = replace(entry, mtime_ns=self.latest_ns)
        self.entries += 1
        self.emit(header(entry))

    def put_again(self, entry: Entry, found: os.stat_result) -> bool:
        """Whether `entry` is a further name of a file that was put: then it is put as one."""
        if found.st_nlink < 2:
            return False
        first = self.links.setdefault((found.st_dev, found.st_ino), entry.path)
        if first == entry.path:
            return False
        self.put(replace(entry, kind=Kind.HARDLINK, link=first, size=0, device=(0, 0), xattrs={}))
        return True

    def data(self, file: BinaryIO, size: int) -> int:
        """`size` bytes of `file`, filled up to a whole block; how many it did not have: nothing stands for them yet."""
        left = size
        while left and (data := file.read(min(left, CHUNK))):
            self.emit(data)
            left -= len(data)
        if not left:
            self.emit(bytes(-size % BLOCK))
        return left

    def emit(self, data: bytes) -> None:
        self.hash.update(data)
        self.bytes += len(data)
        self.out.write(data)

    def end(self) -> Packed:
        self.emit(END)
        return Packed(f"sha256:{self.hash.hexdigest()}", self.bytes, self.entries)


class _Writer:
    """`current`: a descriptor of the directory that `names` lead to. `todo`: for each level what is still to be written,
    last first. Only one directory is open, however deep the tree is: the way up is ``..``, checked by inode."""

    def __init__(self, out: BinaryIO, times_at_most_s: int | None, whole: bool) -> None:
        self.whole = whole
        self.stream = TarStream(out, times_at_most_s)
        self.current = -1
        self.names: list[bytes] = []
        self.todo: list[list[bytes]] = []
        self.inodes: list[int] = []

    def write(self, tree: str) -> Packed:
        self.current = os.open(tree, DIRECTORY)
        try:
            if self.whole:
                self.stream.put(entry_of(self.current, b".", b"./"))
            self._begin()
            while self.todo:
                if self.todo[-1]:
                    self._one(self.todo[-1].pop())
                else:
                    self._leave()
        finally:
            os.close(self.current)
        return self.stream.end()

    def _begin(self) -> None:
        """Of the current directory."""
        self.todo.append(sorted((os.fsencode(name) for name in os.listdir(self.current)), reverse=True))
        self.inodes.append(os.fstat(self.current).st_ino)
        if not self.whole and self.names and is_opaque(self.current):
            self.stream.put(Entry(self._path(OPAQUE), Kind.FILE, 0o600))

    def _enter(self, name: bytes) -> None:
        below = os.open(name, DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = below
        self.names.append(name)
        self._begin()

    def _leave(self) -> None:
        self.todo.pop()
        self.inodes.pop()
        if not self.todo:
            return
        above = os.open("..", DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = above
        name = self.names.pop()
        if os.fstat(above).st_ino != self.inodes[-1]:
            raise OperationError(f"{shown(self._path(name))} was moved while it was being read")

    def _one(self, name: bytes) -> None:
        found = os.stat(name, dir_fd=self.current, follow_symlinks=False)
        path = self._path(name)
        if is_whiteout(found):
            if not self.whole:
                self.stream.put(Entry(self._path(WHITEOUT + name), Kind.FILE, 0o600))
        elif not self.whole and name.startswith(WHITEOUT):
            raise OperationError(f"{shown(path)} cannot be in a layer: its name would be a mark", hint="rename it")
        elif stat.S_ISDIR(found.st_mode):
            self.stream.put(entry_of(self.current, name, path + b"/", found))
            self._enter(name)
        elif not stat.S_ISSOCK(found.st_mode):
            self._file(name, path, found)

    def _file(self, name: bytes, path: bytes, found: os.stat_result) -> None:
        entry = entry_of(self.current, name, path, found)
        if self.stream.put_again(entry, found):
            return
        if entry.kind is not Kind.FILE:
            self.stream.put(entry)
            return
        with open_file(self.current, name) as file:
            self.stream.put(entry)
            if self.stream.data(file, entry.size):
                raise OperationError(f"{shown(entry.path)} became shorter while it was being read")

    def _path(self, name: bytes) -> bytes:
        return b"/".join((*self.names, name))
