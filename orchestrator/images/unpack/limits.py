"""How much of a layer is accepted: against archives that were made to fill a disk, a memory or a day."""

from __future__ import annotations

from orchestrator.values import frozen

GIB = 1 << 30


@frozen
class Limits:
    """`bytes`: of all files together, holes included. `entries`: in the archive. `ratio`: how many times larger than the
    compressed stream the unpacked one may be (looked at beyond the first 128 MiB). `depth`: levels of directories.
    `name_bytes`: of a whole path.
    """

    bytes: int = 256 * GIB
    entries: int = 2_000_000
    ratio: int = 500
    depth: int = 10_000
    name_bytes: int = 1 << 16


DEFAULT = Limits()
