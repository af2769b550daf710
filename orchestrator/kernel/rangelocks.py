"""Read locks on bytes of an open file (fcntl(2), "Open file description locks"): a word between processes that ends with
its speaker, however that ends. The bytes need not be there, and the file may be a directory."""

from __future__ import annotations

import fcntl
from _struct import Struct  # The module around it takes longer to import than `logs` to read a log.

_FLOCK = Struct("@hhqqi0q")
"""struct flock: type, whence (SEEK_SET), start, length, pid."""


def hold(fd: int, start: int, length: int = 1) -> None:
    """Others that hold them too are no hindrance. Raises OSError."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, 0, start, length, 0))


def release(fd: int, start: int, length: int = 1) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, start, length, 0))


def is_held(fd: int, start: int, length: int = 1) -> bool:
    """Whether another open file description holds one of them. Raises OSError."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, start, length, 0))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
