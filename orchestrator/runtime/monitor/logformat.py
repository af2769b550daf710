"""What writer and readers of a log have in common: the index's records, and how a reader says where it is.

docs/monitor-protocol.md ("Logs") tells the format and the leases.
"""

from __future__ import annotations

import errno
import os
from _struct import Struct  # The module around it takes longer to import than `logs` to read a log.

from orchestrator.kernel.plain import open_plain

RECORD = Struct("<QIIQ")
"""Offset in the file, length, kind, time in ns since the epoch (or a mark's value)."""
UNKNOWN, STDOUT, STDERR = 0, 1, 2
MARKS = 16
"""Kinds from here on are marks: no bytes, but something about this place. Readers before version 5 pass them over."""
SERIAL, BEFORE, BREAK, LOST = 16, 17, 18, 19
"""SERIAL: when the file was begun; each file of a container has a later one than those before it. BEFORE: how many bytes
the container's log has before this file. BREAK: a run begins or has ended here. LOST: so many bytes were not written."""

_SLOTS = (1 << 21) - 9
"""A prime: a container's slot is its name as a number, modulo this. Two in one slot hold each other's files: no harm."""
_SLOT_BITS = 42
_NS_PER_MS = 1_000_000
EVERYTHING = ((1 << 21) - 1) << _SLOT_BITS
"""Held by whoever follows containers that are still to be made."""


def place_of(container: str, serial: int = 0) -> int:
    """The byte of the logs directory that a reader holds while it needs the file `serial` and those after it; 0: all."""
    return (int.from_bytes(os.fsencode(container), "big") % _SLOTS << _SLOT_BITS) + serial // _NS_PER_MS


def serial_after(previous: int, now_ns: int) -> int:
    return max(now_ns, previous + _NS_PER_MS)


def open_own(path: str, flags: int, directory: int | None = None) -> int:
    """As `kernel.plain.open_plain`; EEXIST for anything else of that name: told apart from a file that is not there, and
    from a disk that is full."""
    try:
        return open_plain(path, flags | os.O_NOCTTY, dir_fd=directory)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise OSError(errno.EEXIST, NOT_OURS, path) from None


NOT_OURS = "not a file of ours"


def head_of(index: int) -> tuple[int, int | None]:
    """The serial of the file that `index` belongs to (0: it has none), and how many bytes came before it (None: not known).
    """
    serial, before = 0, None
    data = os.pread(index, 2 * RECORD.size, 0)
    for _, length, kind, value in RECORD.iter_unpack(data[: len(data) - len(data) % RECORD.size]):
        if kind == SERIAL and not length:
            serial = value
        elif kind == BEFORE and not length:
            before = value
    return serial, before
