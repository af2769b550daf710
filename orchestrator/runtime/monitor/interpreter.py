"""What a file that was not executed, though it is there, would be executed by: execve(2), elf(5).

This runs in the final child: nothing may be imported or looked up.
"""

from __future__ import annotations

import os
import struct

_HEAD_BYTES = 4096
"""The kernel reads 256 for a script; the program headers of an ELF file follow its header."""
_ELF = b"\x7fELF"
_64_BITS = 2
_PT_INTERP = 3
LONGEST = 256


def interpreter_of(path: bytes) -> bytes | None:
    """The interpreter that the first line of the script, or the loader that the ELF file at `path` names; b"" when that
    cannot be read. None: there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b"" if os.access(path, os.F_OK) else None
    try:
        head = os.pread(fd, _HEAD_BYTES, 0)
        if head.startswith(b"#!"):
            words = head[2:LONGEST].partition(b"\n")[0].split()
            return words[0] if words else b""
        if head.startswith(_ELF) and head[4] == _64_BITS:
            return _loader(fd, head)[:LONGEST]
        return b""
    except (OSError, struct.error, IndexError):
        return b""
    finally:
        os.close(fd)


def _loader(fd: int, head: bytes) -> bytes:
    order = "<" if head[5] == 1 else ">"
    (table,) = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    for number in range(count):
        kind, _, offset, _, _, length = struct.unpack_from(order + "IIQQQQ", head, table + number * size)
        if kind == _PT_INTERP:
            return os.pread(fd, min(length, LONGEST), offset).rstrip(b"\0")
    return b""
