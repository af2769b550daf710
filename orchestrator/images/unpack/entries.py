"""An entry of a tar archive, as a value: what tarformat reads, what an `Applier` makes and what `packing` writes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from orchestrator.values import field, frozen

MOST_ID = 2**32 - 2
"""The highest uid or gid: 2^32-1 is -1, "leave it as it is" (chown(2))."""
_SHOWN_CHARACTERS = 200


class Kind(Enum):
    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()
    HARDLINK = auto()
    CHARACTER = auto()
    BLOCK = auto()
    FIFO = auto()


@frozen
class Entry:
    """One entry. `path` and `link` as they stand there: not cleaned, not trusted.

    `mode`: the 12 permission bits. `link`: a symbolic link's text, or the path of a hard link's first name. `device`:
    major, minor. `size`: of the file as it will be. `sparse`: offset and length of each piece of data, in order; then the
    entry's data is these pieces, one after the other, and the rest of the file is a hole. () is for an ordinary file: one
    that is nothing but a hole has ``((size, 0),)``.
    """

    path: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    sparse: tuple[tuple[int, int], ...] = ()

    @property
    def data_bytes(self) -> int:
        """How much data comes with it."""
        return sum(length for _, length in self.sparse) if self.sparse else self.size


def shown(path: bytes) -> str:
    """`path` for people: printable, and cut in the middle when it is long."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path.decode("utf-8", "backslashreplace"))
    half = _SHOWN_CHARACTERS // 2
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:half]}...{text[-half:]}"
