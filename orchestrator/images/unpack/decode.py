"""decode"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from orchestrator.images.unpack.limits import Limits


class Decoded(io.RawIOBase):
    """The unpacked stream."""

    def drain(self) -> str:
        """Read and drop the rest; the digest of all the unpacked bytes (a diffID: ``sha256:HEX``)."""
        raise NotImplementedError


@contextlib.contextmanager
def decoded(
    blob: BinaryIO, limits: Limits = Limits(), on_bytes: Callable[[int], None] | None = None
) -> Iterator[Decoded]:
    """What is in `blob`: gzip, zstd, xz, bzip2, or itself; recognised by its first bytes.

    `on_bytes` is called, in the caller's thread, with the number of compressed bytes used since the last time; what it
    raises ends all. Raises OperationError for damaged data and for more than `limits`.
    """
    raise NotImplementedError
    yield
