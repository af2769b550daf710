"""The lines of a file from its end to its beginning, block by block, while others append to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

BLOCK_BYTES = 1 << 16


def lines_backwards(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its line break) of each whole line before `end`, last first. What stands before `end` without
    a line break is being written, or was torn: it is passed over."""
    rest: list[bytes] = []
    """Pieces of the line that begins before what was read, last first."""
    whole = False
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        block = os.pread(fd, end - start, start)
        at = len(block)
        while (cut := block.rfind(b"\n", 0, at)) >= 0:
            rest.append(block[cut + 1 : at])
            if whole:
                yield start + cut + 1, b"".join(reversed(rest))
            rest, whole, at = [], True, cut
        rest.append(block[:at])
        end = start
    if whole and rest:
        yield 0, b"".join(reversed(rest))
