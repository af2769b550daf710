"""A qcow2 disk image, read as a block device (qemu, docs/interop/qcow2). Versions 2 and 3, without backing file, encryption
or external data; compressed clusters by zlib. Every offset and size in it is checked: it came from outside."""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from typing import BinaryIO

from orchestrator.errors import OperationError

_MAGIC = b"QFI\xfb"
_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_ZERO = 1
_MOST_TABLE_BYTES = 64 << 20
_KEPT_CLUSTERS = 64
_KNOWN_INCOMPATIBLE = 1  # bit 0: dirty refcounts, which nobody needs for reading


class Qcow2:
    """`file` is read from; `size`: of the disk, in bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        header = self._at(0, 104)
        if header[:4] != _MAGIC:
            raise OperationError("the disk image is no qcow2")
        version, backing = struct.unpack(">IQ", header[4:16])
        bits, self.size, encryption, entries, offset = struct.unpack(">IQIIQ", header[20:48])
        incompatible = struct.unpack(">Q", header[72:80])[0] if version >= 3 else 0
        if version not in (2, 3) or backing or encryption or incompatible & ~_KNOWN_INCOMPATIBLE or not 9 <= bits <= 21:
            raise OperationError("the qcow2 image uses features that are not supported here")
        if entries * 8 > _MOST_TABLE_BYTES:
            raise OperationError("the qcow2 image is damaged: its table is too large")
        self._bits = bits
        self._cluster_bytes = 1 << bits
        self._l1 = struct.unpack(f">{entries}Q", self._at(offset, entries * 8))
        self._tables: dict[int, tuple[int, ...]] = {}
        self._clusters: OrderedDict[int, bytes] = OrderedDict()

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes of the disk from `offset`. Raises OperationError beyond its end."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise OperationError("the disk image is damaged: something lies beyond its end")
        parts = []
        while count:
            number, start = divmod(offset, self._cluster_bytes)
            part = self._cluster(number)[start : start + count]
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)

    def _cluster(self, number: int) -> bytes:
        if number in self._clusters:
            self._clusters.move_to_end(number)
            return self._clusters[number]
        data = self._load(number)
        self._clusters[number] = data
        if len(self._clusters) > _KEPT_CLUSTERS:
            self._clusters.popitem(last=False)
        return data

    def _load(self, number: int) -> bytes:
        per_table = self._cluster_bytes // 8
        high, low = divmod(number, per_table)
        at = self._l1[high] & _OFFSET if high < len(self._l1) else 0
        if not at:
            return bytes(self._cluster_bytes)
        if at not in self._tables:
            self._tables[at] = struct.unpack(f">{per_table}Q", self._at(at, self._cluster_bytes))
        entry = self._tables[at][low]
        if entry & _COMPRESSED:
            return self._inflated(entry)
        if entry & _ZERO or not entry & _OFFSET:
            return bytes(self._cluster_bytes)
        return self._at(entry & _OFFSET, self._cluster_bytes)

    def _inflated(self, entry: int) -> bytes:
        shift = 62 - (self._bits - 8)
        at = entry & ((1 << shift) - 1)
        sectors = ((entry >> shift) & ((1 << (self._bits - 8)) - 1)) + 1
        self._file.seek(at)
        packed = self._file.read(sectors * 512 - at % 512)
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self._cluster_bytes)
        except zlib.error as exc:
            raise OperationError("the qcow2 image is damaged: a cluster cannot be decompressed") from exc
        return data.ljust(self._cluster_bytes, b"\0")

    def _at(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) != count:
            raise OperationError("the qcow2 image is damaged: it ends too early")
        return data
