"""A tar stream as a blob. The same bytes come out on every machine: no times, no names, and always the same library."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from enum import Enum
from typing import Any, BinaryIO

CHUNK = 1 << 20
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""RFC 1952: no flags, no time, an unknown system."""
_GZIP_LEVEL, _ZSTD_LEVEL = 6, 3


class Compression(Enum):
    """How a layer is packed; the value is the suffix of its OCI media type."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"


class _Gzip:
    """`zlib` itself would write which system it runs on."""

    def __init__(self, level: int) -> None:
        self._object = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._size = 0
        self._begin = _GZIP_HEADER

    def compress(self, data: bytes) -> bytes:
        self._crc, self._size = zlib.crc32(data, self._crc), self._size + len(data)
        begin, self._begin = self._begin, b""
        return begin + self._object.compress(data)

    def flush(self) -> bytes:
        end = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._begin + self._object.flush() + end


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _zstd(level: int) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    options = {zstd.CompressionParameter.compression_level: level, zstd.CompressionParameter.checksum_flag: 1}
    return zstd.ZstdCompressor(options=options)


_MAKERS: dict[Compression, Callable[[int | None], Any]] = {
    Compression.NONE: lambda level: _Plain(),
    Compression.GZIP: lambda level: _Gzip(_GZIP_LEVEL if level is None else level),
    Compression.ZSTD: lambda level: _zstd(_ZSTD_LEVEL if level is None else level),
}


def compress(source: BinaryIO, out: BinaryIO, kind: Compression, level: int | None = None) -> tuple[str, int]:
    """Copy `source` to `out`, compressed: the same bytes for the same input. Its digest (``sha256:HEX``) and size."""
    compressor = _MAKERS[kind](level)
    digest, size = hashlib.sha256(), 0
    while True:
        data = source.read(CHUNK)
        packed = compressor.compress(data) if data else compressor.flush()
        digest.update(packed)
        size += len(packed)
        out.write(packed)
        if not data:
            return f"sha256:{digest.hexdigest()}", size
