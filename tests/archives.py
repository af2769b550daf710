"""Tar archives built block by block, so that they can say what no program would write; and trees, compared whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

BLOCK = 512
END = bytes(2 * BLOCK)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    return (value & (1 << 8 * width) - 1 | 0x80 << 8 * (width - 1)).to_bytes(width, "big")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def raw(
    path: bytes,
    flag: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1000,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int, int] = (0, 0),
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header block. A field that is given as bytes is taken as it is."""

    def field(value: int | bytes, width: int) -> bytes:
        return value.ljust(width, b"\0") if isinstance(value, bytes) else octal(value, width)

    block = (
        path[:100].ljust(100, b"\0") + field(mode, 8) + field(uid, 8) + field(gid, 8) + field(size, 12) + field(mtime, 12)
        + b" " * 8 + flag + link[:100].ljust(100, b"\0") + magic + bytes(64) + octal(device[0], 8) + octal(device[1], 8)
        + rest.ljust(167, b"\0")
    )  # fmt: skip
    assert len(block) == BLOCK
    return block[:148] + (b"%06o\0 " % sum(block) if checksum is None else checksum) + block[156:]


def file(path: bytes, data: bytes = b"", **fields: object) -> bytes:
    return raw(path, b"0", size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(path: bytes, mode: int = 0o755, **fields: object) -> bytes:
    return raw(path, b"5", mode=mode, **fields)  # type: ignore[arg-type]


def symlink(path: bytes, link: bytes) -> bytes:
    return raw(path, b"2", link=link, mode=0o777)


def hardlink(path: bytes, link: bytes) -> bytes:
    return raw(path, b"1", link=link)


def long_name(path: bytes, flag: bytes = b"L") -> bytes:
    return raw(b"././@LongLink", flag, size=len(path) + 1, magic=b"ustar  \0") + padded(path + b"\0")


def record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest + len(str(rest))))
    return b"%d %b=%b\n" % (length, key, value)


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    body = b"".join(record(key, value) for key, value in records)
    return raw(b"PaxHeaders/x", flag, size=len(body)) + padded(body)


# Trees.


def facts(path: Path, *, times: bool = True) -> tuple[object, ...]:
    found = path.lstat()
    kind = stat.S_IFMT(found.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        content = path.read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(os.fsencode(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = found.st_rdev
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    links = found.st_nlink if kind != stat.S_IFDIR else 0
    mtime = found.st_mtime_ns if times else 0
    return kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, links, mtime, content, xattrs


def tree(top: Path, *, without: Path | None = None, times: bool = True) -> Mapping[str, tuple[object, ...]]:
    """Everything below `top`, and `top` itself, by relative path."""
    found = {".": facts(top, times=times)}
    ahead = [top]
    while ahead:
        for path in sorted(ahead.pop().iterdir()):
            if path == without:
                continue
            found[str(path.relative_to(top))] = facts(path, times=times)
            if path.is_dir() and not path.is_symlink():
                ahead.append(path)
    return found
