"""compression"""

from __future__ import annotations

from enum import Enum
from typing import BinaryIO


class Compression(Enum):
    """How a layer is packed; the value is the suffix of its OCI media type."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"


def compress(source: BinaryIO, out: BinaryIO, kind: Compression, level: int | None = None) -> tuple[str, int]:
    """Copy `source` to `out`, compressed: the same bytes for the same input. Its digest (``sha256:HEX``) and size."""
    raise NotImplementedError
