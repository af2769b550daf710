"""An ext4 file system, read without mounting it (Documentation/filesystems/ext4 of the kernel): neither root, nor a loop
device, nor the kernel's trust in what came from outside is needed.

Read are directories (linear ones, which hashed ones are as well), extents, inline and external extended attributes, links.
The journal is not replayed: a file system that needs it is refused.
"""

from __future__ import annotations

import io
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Protocol

from orchestrator.errors import OperationError
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.values import frozen

NS_PER_SECOND = 1_000_000_000
_MAGIC = 0xEF53
_ROOT = 2
_KNOWN = 0x0002 | 0x0040 | 0x0080 | 0x0200 | 0x0400 | 0x2000  # filetype extents 64bit flex_bg ea_inode csum_seed
_EXTENTS = 0x00080000
_XATTR_MAGIC = 0xEA020000
_XATTR_PREFIXES = {1: b"user.", 6: b"security."}
"""ACLs have another form on the disk than in a tar archive, and nothing of an image's is ``trusted``."""
_MOST_DEPTH = 64
_MOST_ENTRIES = 1_000_000
_MOST_EXTENTS = 100_000
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


class Disk(Protocol):
    def read(self, offset: int, count: int) -> bytes: ...


@frozen
class _Inode:
    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    links: int
    flags: int
    block: bytes
    xattrs: Mapping[bytes, bytes]


class Ext4:
    """The file system on `disk`. Raises OperationError for what is damaged or not supported."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        block = disk.read(1024, 1024)
        (self._inodes,) = struct.unpack_from("<I", block, 0)
        (magic,) = struct.unpack_from("<H", block, 56)
        (incompatible,) = struct.unpack_from("<I", block, 96)
        if magic != _MAGIC:
            raise OperationError("there is no ext4 file system in the disk image")
        if incompatible & ~_KNOWN:
            raise OperationError("the ext4 file system of the disk image needs its journal, or has unknown features")
        (shift,) = struct.unpack_from("<I", block, 24)
        (self._per_group,) = struct.unpack_from("<I", block, 40)
        (self._inode_bytes,) = struct.unpack_from("<H", block, 88)
        (descriptor_bytes,) = struct.unpack_from("<H", block, 254)
        if shift > 6 or not self._per_group or not 128 <= self._inode_bytes <= 4096:
            raise OperationError("the ext4 file system of the disk image is damaged: its superblock makes no sense")
        self._block_bytes = 1024 << shift
        self._descriptor_bytes = descriptor_bytes if incompatible & 0x80 else 32
        (first,) = struct.unpack_from("<I", block, 20)
        self._descriptors = (first + 1) * self._block_bytes

    def entries(self) -> Iterator[tuple[Entry, BinaryIO | None]]:
        """All but the root, parents first, names of a directory sorted; further names of a file as hard links."""
        first_names: dict[int, bytes] = {}
        seen: set[int] = {_ROOT}
        ahead: list[tuple[bytes, int]] = [(b"", _ROOT)]
        count = 0
        while ahead:
            path, number = ahead.pop()
            if path.count(b"/") > _MOST_DEPTH:
                raise OperationError("the ext4 file system of the disk image is damaged: its directories are too deep")
            below: list[tuple[bytes, int]] = []
            for name, child in sorted(self._names(self._inode(number))):
                count += 1
                if count > _MOST_ENTRIES:
                    raise OperationError("the ext4 file system of the disk image has too many files")
                inode = self._inode(child)
                kind = _KINDS.get(stat.S_IFMT(inode.mode))
                if kind is None:
                    continue
                whole = path + b"/" + name
                if kind is Kind.DIRECTORY:
                    if child in seen:
                        raise OperationError("the ext4 file system of the disk image is damaged: a directory has two names")
                    seen.add(child)
                    below.append((whole, child))
                yield self._entry(whole, kind, inode, first_names)
            ahead += reversed(below)

    def _entry(
        self, path: bytes, kind: Kind, inode: _Inode, first_names: dict[int, bytes]
    ) -> tuple[Entry, BinaryIO | None]:
        mode, link, device = stat.S_IMODE(inode.mode), b"", (0, 0)
        if kind is not Kind.DIRECTORY and inode.links > 1:
            first = first_names.setdefault(inode.number, path)
            if first != path:
                return Entry(path, Kind.HARDLINK, mode, inode.uid, inode.gid, mtime_ns=inode.mtime_ns, link=first), None
        if kind is Kind.SYMLINK:
            link = inode.block[: inode.size] if inode.size < 60 else self._content(inode, 4096)
        elif kind in (Kind.CHARACTER, Kind.BLOCK):
            old, new = struct.unpack_from("<II", inode.block)
            device = (old >> 8 & 0xFF, old & 0xFF) if old else (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
        data = io.BytesIO(self._content(inode, 1 << 30)) if kind is Kind.FILE else None
        size = inode.size if kind is Kind.FILE else 0
        return (
            Entry(path, kind, mode, inode.uid, inode.gid, size, inode.mtime_ns, link, device, xattrs=inode.xattrs),
            data,
        )

    def _names(self, inode: _Inode) -> Iterator[tuple[bytes, int]]:
        content = self._content(inode, 64 << 20)
        at = 0
        while at + 8 <= len(content):
            number, length, name_length = struct.unpack_from("<IHB", content, at)
            name = content[at + 8 : at + 8 + name_length]
            if length < 8 + name_length or b"/" in name or b"\0" in name:
                raise OperationError("the ext4 file system of the disk image is damaged: a directory makes no sense")
            if number and name not in (b".", b"..", b""):
                yield name, number
            at += length

    def _inode(self, number: int) -> _Inode:
        if not 0 < number <= self._inodes:
            raise OperationError("the ext4 file system of the disk image is damaged: there is no such inode")
        group, index = divmod(number - 1, self._per_group)
        descriptor = self._disk.read(self._descriptors + group * self._descriptor_bytes, self._descriptor_bytes)
        (table,) = struct.unpack_from("<I", descriptor, 8)
        if self._descriptor_bytes >= 64:
            table |= struct.unpack_from("<I", descriptor, 40)[0] << 32
        raw = self._disk.read(table * self._block_bytes + index * self._inode_bytes, self._inode_bytes)
        mode, uid, low_size, _, _, mtime, _, gid, links = struct.unpack_from("<HHIIIIIHH", raw, 0)
        (flags,) = struct.unpack_from("<I", raw, 32)
        low_acl, high_size = struct.unpack_from("<II", raw, 104)
        high_acl, high_uid, high_gid = struct.unpack_from("<HHH", raw, 118)
        extra = struct.unpack_from("<H", raw, 128)[0] if self._inode_bytes > 128 else 0
        nanoseconds = struct.unpack_from("<I", raw, 136)[0] >> 2 if extra >= 12 else 0
        return _Inode(
            number,
            mode,
            uid | high_uid << 16,
            gid | high_gid << 16,
            low_size | high_size << 32,
            mtime * NS_PER_SECOND + nanoseconds,
            links,
            flags,
            raw[40:100],
            dict(self._xattrs(raw, extra, low_acl | high_acl << 32)),
        )

    def _xattrs(self, raw: bytes, extra: int, block: int) -> Iterator[tuple[bytes, bytes]]:
        start = 128 + extra
        if self._inode_bytes > 128 and start + 4 <= len(raw) and struct.unpack_from("<I", raw, start)[0] == _XATTR_MAGIC:
            yield from _read_xattrs(raw[start + 4 :], 0)
        if block:
            content = self._disk.read(block * self._block_bytes, self._block_bytes)
            if struct.unpack_from("<I", content)[0] == _XATTR_MAGIC:
                yield from _read_xattrs(content, 32)

    def _content(self, inode: _Inode, most_bytes: int) -> bytes:
        if inode.size > most_bytes:
            raise OperationError("the ext4 file system of the disk image is damaged: a file is too large")
        if not inode.flags & _EXTENTS:
            if inode.size:
                raise OperationError("the ext4 file system of the disk image has files without extents")
            return b""
        content = bytearray(inode.size)
        for logical, count, physical in self._extents(inode.block, 0, [0]):
            start = logical * self._block_bytes
            length = min(count * self._block_bytes, inode.size - start)
            if length > 0:
                content[start : start + length] = self._disk.read(physical * self._block_bytes, length)
        return bytes(content)

    def _extents(self, node: bytes, level: int, seen: list[int]) -> Iterator[tuple[int, int, int]]:
        """(first block of the file, blocks, first block of the disk); what is allocated and not written is a hole."""
        magic, count, _, depth = struct.unpack_from("<HHHH", node)
        if magic != 0xF30A or level > 5 or 12 + count * 12 > len(node):
            raise OperationError("the ext4 file system of the disk image is damaged: an extent tree makes no sense")
        for number in range(count):
            seen[0] += 1
            if seen[0] > _MOST_EXTENTS:
                raise OperationError("the ext4 file system of the disk image is damaged: a file has too many extents")
            at = 12 + number * 12
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, at)
                child = self._disk.read((low | high << 32) * self._block_bytes, self._block_bytes)
                yield from self._extents(child, level + 1, seen)
            else:
                logical, length, high, low = struct.unpack_from("<IHHI", node, at)
                if length <= 32768:
                    yield logical, length, low | high << 32


def _read_xattrs(area: bytes, first: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of an attribute area from `first` on, values at offsets from its beginning; others are left out."""
    at = first
    while at + 16 <= len(area) and area[at : at + 4] != b"\0\0\0\0":
        name_length, prefix, offset, other, size = struct.unpack_from("<BBHII", area, at)
        name = area[at + 16 : at + 16 + name_length]
        if prefix in _XATTR_PREFIXES and not other and offset + size <= len(area):
            yield _XATTR_PREFIXES[prefix] + name, area[offset : offset + size]
        at += 16 + (name_length + 3) // 4 * 4
