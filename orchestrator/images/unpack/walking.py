"""A part of a tree as entries, whatever its makers do to it meanwhile: links, moves, FIFOs, devices, any depth.

A name is looked at without following it, and a file is opened only once it is held and known to be one (O_PATH first): so
no FIFO is waited for and no device is woken, whoever exchanges names. Directories are opened from the root, and no
component may be a link by then (`Lowers`). What is mounted in the tree belongs to it, but for the kernel's file systems.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

from orchestrator.images.unpack.attributes import xattrs_of
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.images.unpack.lowers import Lowers
from orchestrator.images.unpack.treefiles import KINDS, Pieces, data_pieces, entry_as
from orchestrator.kernel.syscalls import filesystem_type
from orchestrator.values import replace

_HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CHANGED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ESTALE})
"""What the kernel says when a name means something else than a moment ago."""
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTCONN})
_MOST_PIECES = 1 << 14
_CHUNK = 1 << 17
_TRIES = 8
_MOST_UNTOLD = 1 << 26
"""So many bytes are read of what does not say its size; it may have no end."""
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_OF_THE_KERNEL = frozenset({
    0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x19800202, 0x64626720, 0x74726163, 0x73636673, 0xCAFE4A11,
    0x62656570, 0xDE5E81E4, 0x6165676C, 0x65735543, 0x42494E4D, 0x6E736673, 0xF97CFF8C, 0x187,
})  # fmt: skip
"""linux/magic.h: proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf, configfs, efivarfs,
pstore, fusectl, binfmt_misc, nsfs, selinuxfs, autofs: what is read there says no size, may block, or acts. It is read if it
is itself what is asked for."""
_NO_XATTRS: Mapping[bytes, bytes] = {}


class Walk:
    """Entries of the tree at `root`, a directory, which people call `label`. A context manager. `xattrs`: with extended
    attributes. `holes`: sparse files with their map. `devices`: with device nodes, which are left out else; sockets always
    are.

    `changed`: how many names vanished, or became shorter, while they were read. `left_out`: a sentence for each thing."""

    def __init__(
        self, root: str, label: str = "", *, xattrs: bool = False, holes: bool = True, devices: bool = False
    ) -> None:
        self._label = os.fsencode(label.rstrip("/")) + b"/"
        self._lowers = Lowers([root])
        self._xattrs, self._holes, self._devices = xattrs, holes, devices
        self._first_names: dict[tuple[int, int], bytes] = {}
        self.changed = 0
        self.left_out: list[str] = []

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self._lowers.close()

    def entries(self, top: bytes, name: bytes) -> Iterator[tuple[Entry, BinaryIO | None]]:
        """What is at `top` (from the root, without links on the way; b"": the root), called `name`, and all below it,
        parents first. Data is there until the next entry is asked for. Raises OSError for `top` itself."""
        above, _, last = top.rpartition(b"/")
        where = self._lowers.directory(0, above)
        found = os.stat(last, dir_fd=where, follow_symlinks=False) if top else os.fstat(where)
        if not stat.S_ISDIR(found.st_mode):
            yield from self._other(where, top, name, found, None)
            return
        if filesystem_type(self._lowers.directory(0, top)) in _OF_THE_KERNEL:
            self.left_out.append(f"{shown(self._label + top)} is the kernel's")
            return
        yield self._entry(where, last or b".", name, found), None
        yield from self._below(top, name, found.st_dev)

    def _below(self, top: bytes, name: bytes, device: int) -> Iterator[tuple[Entry, BinaryIO | None]]:
        todo = [(top, name, device, self._names(top))]
        while todo:
            path, called, device, names = todo[-1]
            if not names:
                todo.pop()
                continue
            own = names.pop()
            below, own_name = (path + b"/" + own if path else own), called + b"/" + own
            try:
                where = self._lowers.directory(0, path)
                found = os.stat(own, dir_fd=where, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    yield from self._other(where, below, own_name, found, device)
                    continue
                if found.st_dev != device and filesystem_type(self._lowers.directory(0, below)) in _OF_THE_KERNEL:
                    self.left_out.append(f"{shown(self._label + below)} is the kernel's")
                    continue
                entry, inside = self._entry(where, own, own_name, found), self._names(below)
            except OSError as exc:
                self._passed(exc, below)
                continue
            yield entry, None
            todo.append((below, own_name, found.st_dev, inside))

    def _names(self, path: bytes) -> list[bytes]:
        """Last first."""
        names = os.listdir(self._lowers.directory(0, path))
        return sorted((os.fsencode(name) for name in names), reverse=True)

    def _passed(self, exc: OSError, path: bytes) -> None:
        """What happened at `path` does not end the walk, or is raised."""
        if exc.errno in _CHANGED:
            self.changed += 1
        elif exc.errno in _REFUSED:
            self.left_out.append(f"{shown(self._label + path)} cannot be read: {exc.strerror}")
        else:
            raise exc

    def _other(
        self, where: int, path: bytes, name: bytes, found: os.stat_result, device: int | None
    ) -> Iterator[tuple[Entry, BinaryIO | None]]:
        """Anything but a directory. `where`: a descriptor of the one that it is in. `device`: that one's; None:
        it is itself what is asked for."""
        if stat.S_ISREG(found.st_mode):
            yield from self._file(where, path, name, device)
            return
        kind = KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None or (kind in _DEVICES and not self._devices):
            self.left_out.append(f"{shown(self._label + path)} is a {'socket' if kind is None else 'device'}")
            return
        if (again := self._further_name(name, found)) is not None:
            yield again, None
            return
        yield self._entry(where, path.rpartition(b"/")[2], name, found), None

    def _file(self, where: int, path: bytes, name: bytes, device: int | None) -> Iterator[tuple[Entry, BinaryIO | None]]:
        held = os.open(path.rpartition(b"/")[2], _HELD, dir_fd=where)
        try:
            found = os.fstat(held)
            if not stat.S_ISREG(found.st_mode):
                self.changed += 1
                return
            if device not in (None, found.st_dev) and filesystem_type(held) in _OF_THE_KERNEL:
                self.left_out.append(f"{shown(self._label + path)} is the kernel's")
                return
            if (again := self._further_name(name, found)) is not None:
                yield again, None
                return
            file = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(held)
        try:
            if not found.st_size or (device is None and filesystem_type(file) in _OF_THE_KERNEL):
                found, content = _as_read(file)
                if content is not None:
                    yield from self._content(file, path, name, found, content)
                    return
            found, pieces = self._extent(file, found)
            entry = self._entry(file, b"", name, found)
            if pieces != ((0, entry.size),):
                entry = replace(entry, sparse=pieces)
            data = _Data(file, pieces)
            yield entry, cast(BinaryIO, data)
            self.changed += data.short
        finally:
            os.close(file)

    def _extent(self, file: int, found: os.stat_result) -> tuple[os.stat_result, tuple[tuple[int, int], ...]]:
        """Where it has data. What has been cut meanwhile is not taken for a hole, unless that happens again and again."""
        for _ in range(_TRIES):
            size = found.st_size
            pieces = data_pieces(file, size, _MOST_PIECES) if self._holes and size else ((0, size),)
            now = os.fstat(file)
            if now.st_size >= size:
                return found, pieces
            found = now
        return found, ((0, found.st_size),)

    def _content(
        self, file: int, path: bytes, name: bytes, found: os.stat_result, content: bytes
    ) -> Iterator[tuple[Entry, BinaryIO | None]]:
        """A file whose size nobody knows before all of it has been read."""
        if len(content) > _MOST_UNTOLD:
            what = f"does not say its size, and has more than {_MOST_UNTOLD >> 20} MiB"
            self.left_out.append(f"{shown(self._label + path)} {what}")
            return
        yield replace(self._entry(file, b"", name, found), size=len(content)), io.BytesIO(content)

    def _further_name(self, name: bytes, found: os.stat_result) -> Entry | None:
        """Of a file that was there already."""
        if found.st_nlink < 2:
            return None
        first = self._first_names.setdefault((found.st_dev, found.st_ino), name)
        return Entry(name, Kind.HARDLINK, link=first) if first != name else None

    def _entry(self, where: int, own: bytes, name: bytes, found: os.stat_result) -> Entry:
        """`own` b"": `where` is itself a descriptor of what the entry is about."""
        kind = KINDS[stat.S_IFMT(found.st_mode)]
        target = b"/proc/self/fd/%d/%b" % (where, own) if own else where
        link = os.readlink(own, dir_fd=where) if kind is Kind.SYMLINK else b""
        xattrs = xattrs_of(target, follow=not own) if self._xattrs else _NO_XATTRS
        return entry_as(name + b"/" if kind is Kind.DIRECTORY else name, kind, found, link, xattrs)


def _as_read(file: int) -> tuple[os.stat_result, bytes | None]:
    """What is there, of a file whose size says nothing: one of the kernel's, or of a file system that makes up what it
    has while it is read (fuse). None when the size says it after all."""
    found = os.fstat(file)
    if found.st_size and filesystem_type(file) not in _OF_THE_KERNEL:
        return found, None
    content = bytearray()
    while len(content) <= _MOST_UNTOLD and (chunk := os.read(file, _CHUNK)):
        content += chunk
    return os.fstat(file), bytes(content)


class _Data(Pieces):
    """As many bytes as the pieces say: a file that has become shorter goes on with zeros (`short`)."""

    def __init__(self, fd: int, pieces: tuple[tuple[int, int], ...]) -> None:
        super().__init__(fd, pieces)
        self._left = sum(length for _, length in pieces)
        self.short = False

    def read(self, size: int | None = -1) -> bytes:
        wanted = min(self._left, io.DEFAULT_BUFFER_SIZE << 7 if size is None or size < 0 else size)
        data = super().read(wanted) if wanted and not self.short else b""
        if wanted and not data:
            self.short = True
            data = bytes(wanted)
        self._left -= len(data)
        return data
