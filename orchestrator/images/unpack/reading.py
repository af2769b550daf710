"""A tar stream as entries: header blocks, GNU's long names and extended headers put together, each with its data.

Which data belongs to an entry, and so where the next header is, follows from type and size alone: links, directories and
devices have none, whatever their size says (as Go's archive/tar, which wrote and reads most layers, has it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.unpack import pax, sparse
from orchestrator.images.unpack.entries import MOST_ID, Entry, Kind, shown
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.tarformat import BLOCK, ZERO_BLOCK, Header, bad, parse_header

CHUNK = 1 << 20
_MOST_EXTENDED_BYTES = 1 << 20
"""Of one extended header: more than the extended attributes that a file can have."""
_MOST_SIZE = 2**63 - 1
_MOST_HEADERS = 4
"""For one entry: two long names, and an extended header."""
_KINDS = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"S": Kind.FILE, b"1": Kind.HARDLINK, b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER, b"4": Kind.BLOCK, b"5": Kind.DIRECTORY, b"D": Kind.DIRECTORY, b"6": Kind.FIFO,
}  # fmt: skip
_NOTHING: Mapping[bytes, bytes] = {}
_FILE = Kind.FILE
"""An enumeration's members are slow to get (Python 3.11)."""
_WITH_DATA = b"07SD\0"
_ABOUT_THE_NEXT = b"LKxXg"
_SKIPPED = b"VA"
"""A volume's label (GNU), an ACL (Solaris)."""


def read_entries(stream: BinaryIO, limits: Limits = DEFAULT) -> Iterator[tuple[Entry, BinaryIO]]:
    """The entries of a tar stream that is not compressed (for one that is: `decode.decoded`), each with its data.

    Data that was not read when the next entry is asked for is skipped. After the last entry the stream stands behind the
    end-of-archive blocks; what follows them is nobody's. Raises OperationError for whatever is no tar archive, or is more
    than `limits`.
    """
    return _Reader(stream, limits).entries()


class Member:
    """The data of one entry: `left` bytes of `stream`. No more of a file than `read`: one is made for each entry."""

    __slots__ = ("_name", "_stream", "left")

    def __init__(self, stream: BinaryIO, left: int, name: bytes) -> None:
        self._stream, self.left, self._name = stream, left, name

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, often less; b"" at the end."""
        wanted = self.left if size is None or size < 0 or size > self.left else size
        if not wanted:
            return b""
        data = self._stream.read(wanted)
        if not data:
            raise bad(f"the archive ends in the middle of {shown(self._name)}: {self.left} bytes are missing")
        self.left -= len(data)
        return data


class _Reader:
    """`records`: extended headers read, for the next entry. `link`, `name`: GNU's long ones. `noted`: whether there is any
    of that, or a global header, in `world`."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self.stream, self.limits = stream, limits
        self.world: dict[bytes, bytes] = {}
        self.records: list[tuple[bytes, bytes]] = []
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.noted = False
        self.headers_seen = self.entries_seen = self.bytes_seen = 0

    def entries(self) -> Iterator[tuple[Entry, BinaryIO]]:
        padding, most_headers = 0, _MOST_HEADERS * self.limits.entries + _MOST_HEADERS
        while (block := self._header_block(padding)) is not None:
            padding = 0
            self.headers_seen += 1
            if self.headers_seen > most_headers:
                raise over("the archive has many more headers than entries", "entries", self.limits.entries)
            header = parse_header(block)
            if header.flag in _ABOUT_THE_NEXT:
                self._note(header)
                continue
            if header.flag in _SKIPPED:
                self._skip(_padded(header.size))
                continue
            entry, left = self._entry(header, block)
            member = Member(self.stream, left, entry.path)
            yield entry, member  # type: ignore[misc]
            if member.left:
                self._skip(member.left)
            padding = -left % BLOCK
        if self.records or self.name is not None or self.link is not None:
            raise bad("the archive ends behind an extended header that belongs to no entry")

    # Blocks.

    def _header_block(self, padding: int) -> bytes | None:
        """What follows `padding` bytes. None at the end: two blocks of zeros (one, if nothing follows), or no more data.

        umoci 0.4 writes neither the padding of a last file nor an end; Go's reader takes that for the end too.
        """
        block = self._take(padding + BLOCK, "a header", may_end_after=padding)
        if padding:
            block = block[padding:]
        if not block:
            return None
        if block != ZERO_BLOCK:
            return block
        if self._take(BLOCK, "a header", may_end_after=0) not in (b"", ZERO_BLOCK):
            raise bad("the archive goes on behind a single block of zeros")
        return None

    def _take(self, size: int, what: str, *, may_end_after: int | None = None) -> bytes:
        """`size` bytes; fewer if the archive ends before the first of them, or after `may_end_after`."""
        data = self.stream.read(size)
        while len(data) < size:
            more = self.stream.read(size - len(data))
            if not more:
                if may_end_after is not None and len(data) in (0, may_end_after):
                    return data
                raise bad(f"the archive ends in the middle of {what}")
            data += more
        return data

    def _block(self) -> bytes:
        return self._take(BLOCK, "the map of a sparse file")

    def _skip(self, size: int) -> None:
        while size > 0:
            data = self.stream.read(min(size, CHUNK))
            if not data:
                raise bad(f"the archive ends in the middle of an entry: {size} bytes are missing")
            size -= len(data)

    # What belongs to the next entry.

    def _note(self, header: Header) -> None:
        self.noted = True
        match header.flag:
            case b"L":
                self.name = self._extended(header, self.limits.name_bytes).rstrip(b"\0")
            case b"K":
                self.link = self._extended(header, self.limits.name_bytes).rstrip(b"\0")
            case b"x" | b"X":
                self.records += pax.parse_records(self._extended(header, _MOST_EXTENDED_BYTES))
            case b"g":
                self.world = pax.merged(self.world, pax.parse_records(self._extended(header, _MOST_EXTENDED_BYTES)))
                if sum(len(key) + len(value) for key, value in self.world.items()) > _MOST_EXTENDED_BYTES:
                    raise bad(f"the global extended headers are larger than {_MOST_EXTENDED_BYTES} bytes")

    def _extended(self, header: Header, most: int) -> bytes:
        if header.size > most or sum(len(key) + len(value) for key, value in self.records) > _MOST_EXTENDED_BYTES:
            what = f"an extended header of {header.size} bytes"
            if header.flag in b"LK":
                raise bad(f"a name of {header.size} bytes, and the limit name_bytes is {most}", hint=LIMIT_HINT)
            raise bad(f"{what}, and {most} are allowed")
        data = self._take(_padded(header.size), "an extended header")
        return data[: header.size]

    # Entries.

    def _entry(self, header: Header, block: bytes) -> tuple[Entry, int]:
        """The entry and how much data there is in the archive, without padding and maps."""
        path, link, said = header.path, header.link, _NOTHING
        records: pax.Records = ()
        if self.noted:
            path, link, said, records = self._noted(path, link)
        kind = _KINDS.get(header.flag)
        if kind is None:
            raise bad(f"{shown(path)} has the unknown type {header.flag!r}", hint=KINDS_HINT)
        if header.flag in b"0\0" and path.endswith(b"/"):
            kind = Kind.DIRECTORY  # Before POSIX this was how one was written.
        size, mtime_ns = header.size, header.mtime_s * 10**9
        uid, gid = header.uid, header.gid
        if said:
            size = sparse.decimal(said[b"size"], "the size", path) if b"size" in said else size
            uid = sparse.decimal(said[b"uid"], "the uid", path) if b"uid" in said else uid
            gid = sparse.decimal(said[b"gid"], "the gid", path) if b"gid" in said else gid
            mtime_ns = pax.time_ns(said[b"mtime"], path) if b"mtime" in said else mtime_ns
        if not -pax.MOST_NS <= mtime_ns <= pax.MOST_NS:
            mtime_ns = pax.bounded_ns(mtime_ns)
        if uid > MOST_ID or gid > MOST_ID:
            raise bad(f"{shown(path)} belongs to {uid}:{gid}, and the highest id is {MOST_ID}")
        left = size if header.flag in _WITH_DATA else 0
        if left > _MOST_SIZE:
            raise bad(f"{shown(path)} has the impossible size {left}")
        pieces: sparse.Map = ()
        if kind is not _FILE:
            size = 0
        elif said or header.flag == b"S":
            pieces, size, left = self._sparse(header, block, records, said, left, path)
        self._check(path, link, size)
        xattrs = pax.xattrs(said) if said else _NOTHING
        return Entry(path, kind, header.mode, uid, gid, size, mtime_ns, link, header.device, xattrs, pieces), left

    def _noted(self, path: bytes, link: bytes) -> tuple[bytes, bytes, Mapping[bytes, bytes], pax.Records]:
        """Path, link and all that extended headers say of the entry; and its own records, as they stand there."""
        path, link = self.name or path, self.link or link
        records, self.records, self.name, self.link, self.noted = self.records, [], None, None, bool(self.world)
        if not (records or self.world):
            return path, link, _NOTHING, records
        said = pax.merged(self.world, records)
        return said.get(b"GNU.sparse.name") or said.get(b"path") or path, said.get(b"linkpath") or link, said, records

    def _sparse(
        self, header: Header, block: bytes, records: pax.Records, said: Mapping[bytes, bytes], left: int, path: bytes
    ) -> tuple[sparse.Map, int, int]:
        """(map, size of the file, bytes in the archive behind the map)."""
        if header.flag == b"S":
            pieces, size = sparse.old_gnu(block, self._block, path)
            return sparse.checked(pieces, size, left, path), size, left
        real = said.get(b"GNU.sparse.realsize") or said.get(b"GNU.sparse.size")
        found = sparse.from_records(records, path)
        if said.get(b"GNU.sparse.major") == b"1" and said.get(b"GNU.sparse.minor", b"0") == b"0":
            found, used = sparse.from_data(self._block, path)
            if used > left:
                raise bad(f"the map of the sparse file {shown(path)} is longer than its {left} bytes")
            left -= used
        if found is None:
            return (), left, left
        if real is None:
            raise bad(f"the sparse file {shown(path)} has no size")
        size = sparse.decimal(real, "the size", path)
        return sparse.checked(found, size, left, path), size, left

    def _check(self, path: bytes, link: bytes, size: int) -> None:
        if b"\0" in path or b"\0" in link:
            raise bad(f"{shown(path)} has a NUL in its name")
        if len(path) > self.limits.name_bytes or len(link) > self.limits.name_bytes:
            length = max(len(path), len(link))
            raise over(f"{shown(path)} has a name of {length} bytes", "name_bytes", self.limits.name_bytes)
        self.bytes_seen += size
        if size > _MOST_SIZE or self.bytes_seen > self.limits.bytes:
            raise over(f"its files are {self.bytes_seen} bytes with {shown(path)}", "bytes", self.limits.bytes)
        self.entries_seen += 1
        if self.entries_seen > self.limits.entries:
            raise over("the archive has more entries", "entries", self.limits.entries)


KINDS_HINT = "only files, directories, links, devices and FIFOs are unpacked"
LIMIT_HINT = "raise the limit if the archive is what you wanted"


def over(what: str, limit: str, value: int) -> OperationError:
    return OperationError(f"{what}, and the limit {limit} is {value}", hint=LIMIT_HINT)


def _padded(size: int) -> int:
    return size + -size % BLOCK
