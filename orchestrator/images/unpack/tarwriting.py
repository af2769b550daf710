"""An entry as tar blocks: ustar where that can say it, an extended header in front where it cannot. Pure."""

from __future__ import annotations

from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.pax import SCHILY
from orchestrator.images.unpack.tarformat import BLOCK

_FLAGS = {
    Kind.FILE: b"0", Kind.HARDLINK: b"1", Kind.SYMLINK: b"2", Kind.CHARACTER: b"3", Kind.BLOCK: b"4", Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}  # fmt: skip
_MOST_ID, _MOST_SIZE, _MOST_TIME = 8**7 - 1, 8**11 - 1, 8**11 - 1
_NAME = 100
END = bytes(2 * BLOCK)


def header(entry: Entry) -> bytes:
    """All blocks that come before the data of `entry`, whose `sparse` is not used."""
    records: list[tuple[bytes, bytes]] = []
    seconds, fraction = divmod(entry.mtime_ns, 10**9)
    if len(entry.path) > _NAME:
        records.append((b"path", entry.path))
    if len(entry.link) > _NAME:
        records.append((b"linkpath", entry.link))
    if entry.uid > _MOST_ID:
        records.append((b"uid", b"%d" % entry.uid))
    if entry.gid > _MOST_ID:
        records.append((b"gid", b"%d" % entry.gid))
    if entry.size > _MOST_SIZE:
        records.append((b"size", b"%d" % entry.size))
    if fraction or not 0 <= seconds <= _MOST_TIME:
        records.append((b"mtime", _decimal(entry.mtime_ns)))
    records += [(SCHILY + name, value) for name, value in sorted(entry.xattrs.items())]
    plain = _block(entry, entry.path, _FLAGS[entry.kind], entry.size, seconds)
    if not records:
        return plain
    if any(not _is_utf8(value) for key, value in records if key in (b"path", b"linkpath")):
        records.insert(0, (b"hdrcharset", b"BINARY"))
    body = b"".join(_record(key, value) for key, value in records)
    extended = Entry(entry.path, Kind.FILE, 0o644, mtime_ns=0)
    name = b"PaxHeaders.0/" + entry.path.rstrip(b"/").rpartition(b"/")[2]
    return _block(extended, name, b"x", len(body), 0) + body + bytes(-len(body) % BLOCK) + plain


def _block(entry: Entry, path: bytes, flag: bytes, size: int, seconds: int) -> bytes:
    major, minor = entry.device
    block = b"".join(
        (
            path[:_NAME].ljust(_NAME, b"\0"),
            _octal(entry.mode & 0o7777, 8),
            _octal(entry.uid if entry.uid <= _MOST_ID else 0, 8),
            _octal(entry.gid if entry.gid <= _MOST_ID else 0, 8),
            _octal(size if size <= _MOST_SIZE else 0, 12),
            _octal(seconds if 0 <= seconds <= _MOST_TIME else 0, 12),
            b" " * 8,
            flag,
            entry.link[:_NAME].ljust(_NAME, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _octal(major, 8),
            _octal(minor, 8),
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _record(key: bytes, value: bytes) -> bytes:
    """Its length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _decimal(time_ns: int) -> bytes:
    whole, fraction = divmod(abs(time_ns), 10**9)
    text = f"{'-' if time_ns < 0 else ''}{whole}.{fraction:09d}"
    return text.rstrip("0").rstrip(".").encode()


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
