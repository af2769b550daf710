"""Header blocks of tar: POSIX ustar, GNU's and star's (pax(1) of POSIX; tar(5) of libarchive). Pure: bytes to values.

    offset  0 name[100]  100 mode[8]  108 uid[8]  116 gid[8]  124 size[12]  136 mtime[12]  148 checksum[8]  156 type
          157 linkname[100]  257 magic and version[8]  265 uname[32]  297 gname[32]  329 major[8]  337 minor[8]
          345 prefix[155] (ustar), [131] (star); times and the map of a sparse file (GNU)

User and group names are never looked at: the numbers count.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from zlib import adler32

from orchestrator.errors import OperationError
from orchestrator.images.unpack.entries import shown
from orchestrator.values import frozen

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
_FIELDS = struct.Struct("100s24s12s12s8sc100s8s64x8s8s167s")
_USTAR = b"ustar\0"
_BLANKS = b" \0"
HINT = "the archive is damaged or was made by a broken program: get it, or make it, again"


@frozen
class Header:
    """One header block, as it stands there: what extended headers say is not in it yet."""

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_s: int
    flag: bytes
    link: bytes
    device: tuple[int, int]


def bad(what: str, *, hint: str = HINT) -> OperationError:
    return OperationError(what, hint=hint)


def parse_header(block: bytes) -> Header:
    """`block`: 512 bytes. Raises OperationError."""
    name, access, size, mtime, checksum, flag, link, magic, major, minor, rest = _FIELDS.unpack(block)
    if not is_header(block):
        raise bad(f"no tar header where one has to be: the checksum {checksum!r} is wrong")
    path = name.partition(b"\0")[0]
    if magic[:6] == _USTAR:
        prefix = rest[:131] if rest[163:167] == b"tar\0" else rest[:155]
        if above := prefix.partition(b"\0")[0]:
            path = above + b"/" + path
    mode, uid, gid = _access(access) or (
        number(access[:8], "the mode", path), number(access[8:16], "the uid", path), number(access[16:], "the gid", path)
    )  # fmt: skip
    return Header(
        path,
        mode & 0o7777,
        uid,
        gid,
        number(size, "the size", path),
        number(mtime, "the mtime", path, negative=True),
        flag,
        link.partition(b"\0")[0] if link[0] else b"",
        (number(major, "the major", path), number(minor, "the minor", path)) if flag in b"34" else (0, 0),
    )


@lru_cache(1024)
def _access(raw: bytes) -> tuple[int, int, int] | None:
    """Mode, uid and gid, which are the same again and again. None if one is wrong."""
    mode, uid, gid = _value(raw[:8]), _value(raw[8:16]), _value(raw[16:])
    if mode is None or uid is None or gid is None or min(mode, uid, gid) < 0:
        return None
    return mode, uid, gid


def is_header(block: bytes) -> bool:
    """Whether the checksum is right: the sum of all bytes, its own as blanks; some old programs summed signed ones."""
    if len(block) != BLOCK:
        return False
    own = block[148:156]
    try:
        wanted = int(own.strip(_BLANKS) or b"0", 8)
    except ValueError:
        return False
    # Adler-32's low half is 1 and the sum of the bytes, below 65521: exact for 256 bytes, and 20 times as fast as sum().
    plain = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2 - sum(own) + 8 * 0x20
    if wanted == plain:
        return True
    high = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    return wanted == plain - 256 * high


def number(raw: bytes, what: str, path: bytes, *, negative: bool = False) -> int:
    """A numeric field: octal digits, or GNU's base 256, two's complement with the top bit set. `what` and whose it is are
    for the error. Raises OperationError."""
    value = _value(raw)
    if value is None:
        raise bad(f"{what} of {shown(path)} is no number: {raw!r}")
    if value < 0 and not negative:
        raise bad(f"{what} of {shown(path)} is negative: {value}")
    return value


@lru_cache(1024)
def _value(raw: bytes) -> int | None:
    """None for what is no number."""
    digits = raw.strip(_BLANKS)
    if not digits.isdigit():
        if raw[0] & 0x80:
            value = int.from_bytes(raw, "big") - (0x80 << 8 * (len(raw) - 1))
            return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
        digits = digits.split(b"\0", 1)[0]
        if not digits:
            return 0
    if digits.strip(b"01234567"):  # int() would take signs and underscores.
        return None
    return int(digits, 8)
