"""Headers, names, numbers and maps: every way in which programs have written them."""

from __future__ import annotations

import contextlib
import io
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import OperationError
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.reading import read_entries
from orchestrator.images.unpack.tarformat import number, parse_header
from orchestrator.images.unpack.tarwriting import END as WRITTEN_END
from orchestrator.images.unpack.tarwriting import header
from tests.archives import END, base256, directory, file, long_name, octal, padded, pax, raw, symlink


class Drip(io.RawIOBase):
    """A stream that gives less than was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int | None = -1) -> bytes:
        count = min(7, size or 0)
        given_now, self.data = self.data[:count], self.data[count:]
        return given_now


def read(data: bytes, limits: Limits = DEFAULT) -> list[tuple[Entry, bytes]]:
    return [(entry, whole(member)) for entry, member in read_entries(io.BytesIO(data), limits)]


def whole(member: BinaryIO) -> bytes:
    return b"".join(iter(lambda: member.read(1 << 20), b""))


def one(data: bytes) -> tuple[Entry, bytes]:
    (found,) = read(data + END)
    return found


def test_a_plain_file() -> None:
    entry, data = one(file(b"a/b", b"hello", mode=0o4755, uid=7, gid=8, mtime=9))
    assert entry == Entry(b"a/b", Kind.FILE, 0o4755, 7, 8, 5, 9 * 10**9)
    assert data == b"hello"


@pytest.mark.parametrize(
    ("flag", "path", "kind"),
    [
        (b"0", b"a", Kind.FILE), (b"\0", b"a", Kind.FILE), (b"7", b"a", Kind.FILE), (b"\0", b"a/", Kind.DIRECTORY),
        (b"0", b"a/", Kind.DIRECTORY), (b"5", b"a", Kind.DIRECTORY), (b"1", b"a", Kind.HARDLINK),
        (b"2", b"a", Kind.SYMLINK),
        (b"3", b"a", Kind.CHARACTER), (b"4", b"a", Kind.BLOCK), (b"6", b"a", Kind.FIFO), (b"D", b"a", Kind.DIRECTORY),
    ],
)  # fmt: skip
def test_types(flag: bytes, path: bytes, kind: Kind) -> None:
    entry, _ = one(raw(path, flag, link=b"l", device=(1, 3)))
    assert entry.kind is kind
    assert entry.device == ((1, 3) if flag in b"34" else (0, 0))


def test_a_prefix_and_a_star_prefix() -> None:
    assert one(raw(b"name", rest=b"pre/fix"))[0].path == b"pre/fix/name"
    star = b"pre".ljust(131, b"\0") + b"0" * 11 + b"\0" + b"0" * 11 + b"\0" + b"\0" * 8 + b"tar\0"
    assert one(raw(b"name", rest=star))[0].path == b"pre/name"
    assert one(raw(b"name", rest=b"0123", magic=b"ustar  \0"))[0].path == b"name"


def test_numbers_in_octal_in_base_256_and_with_blanks() -> None:
    assert number(b" 644 \0\0\0", "x", b"") == 0o644
    assert number(b"\0" * 8, "x", b"") == number(b" " * 8, "x", b"") == 0
    assert number(b"00644\0xx", "x", b"") == 0o644
    for value in (0, 1, 2**32 - 2, 2**62):
        assert number(base256(value, 12), "x", b"") == value
    for value in (-1, -512, -(2**62)):
        assert number(base256(value, 12), "x", b"", negative=True) == value
    for wrong in (b"0000_644", b"+0000644", b"0x000644", b"00000888", b"abcdefgh"):
        with pytest.raises(OperationError, match="no number"):
            number(wrong, "x", b"")


def test_the_checksum_may_be_of_signed_bytes() -> None:
    block = bytearray(raw(b"\xff\xfe"))
    plain = int(block[148:154], 8)
    block[148:156] = b"%06o\0 " % (plain - 512)
    assert parse_header(bytes(block)).path == b"\xff\xfe"
    block[148:156] = b"%06o\0 " % (plain - 256)
    with pytest.raises(OperationError, match="checksum"):
        parse_header(bytes(block))


def test_long_names() -> None:
    path, link = b"p/" * 200 + b"x", b"l" * 300
    assert one(long_name(path) + long_name(link, b"K") + symlink(b"short", b"short"))[0].path == path
    assert one(long_name(link, b"K") + symlink(b"short", b"short"))[0].link == link
    found = read(long_name(path) + file(b"a") + file(b"b") + END)
    assert [entry.path for entry, _ in found] == [path, b"b"]


def test_pax_records() -> None:
    records = [
        (b"path", "ä".encode()), (b"uid", b"4294967294"), (b"gid", b"3000000"), (b"mtime", b"-1.5"), (b"size", b"3"),
        (b"SCHILY.xattr.user.a=b", b"x"), (b"hdrcharset", b"BINARY"), (b"SCHILY.xattr.user.b", b"a\nb\0=c"),
        (b"LIBARCHIVE.xattr.user.c%20d", b"eHl6"), (b"SCHILY.xattr.user.e", b""),
    ]  # fmt: skip
    entry, data = one(pax(*records) + raw(b"a") + padded(b"abc"))
    assert (entry.path, data) == ("ä".encode(), b"abc")
    assert (entry.uid, entry.gid, entry.mtime_ns) == (2**32 - 2, 3000000, -1500000000)
    assert entry.xattrs == {b"user.a": b"b=x", b"user.b": b"a\nb\0=c", b"user.c d": b"xyz", b"user.e": b""}


def test_the_last_record_counts_and_an_empty_one_takes_away() -> None:
    assert one(pax((b"path", b"x"), (b"path", b"y")) + file(b"a"))[0].path == b"y"
    assert one(pax((b"path", b"x"), (b"path", b"")) + file(b"a"))[0].path == b"a"
    both = read(pax((b"uid", b"5"), (b"mtime", b"2"), flag=b"g") + file(b"a") + pax((b"uid", b"6")) + file(b"b") + END)
    assert [(entry.uid, entry.mtime_ns) for entry, _ in both] == [(5, 2 * 10**9), (6, 2 * 10**9)]


def test_times_out_of_this_world_are_moved_to_its_ends() -> None:
    far = one(pax((b"mtime", b"99999999999999999")) + file(b"a"))[0].mtime_ns
    assert 2**62 < far < 2**63
    assert one(file(b"a", mtime=base256(-(2**60), 12)))[0].mtime_ns < -(2**62)
    assert one(pax((b"mtime", b"1.123456789123")) + file(b"a"))[0].mtime_ns == 1123456789


@pytest.mark.parametrize(
    "body",
    [
        b"x", b"5", b"5 ab\n", b"0 \n", b"99 a=b\n", b"6 a=bx", b"-6 a=b\n", b" 6 a=b\n", b"5 a=\n6 a=b", b"6 =bc\n",
        b"9999999999 a=b\n", b"8 a\0c=b\n", b"2 6 a=b\n",
    ],
)  # fmt: skip
def test_records_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(OperationError, match="extended header"):
        read(raw(b"x", b"x", size=len(body)) + padded(body) + file(b"a") + END)


def gnu_sparse(pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    """The old format: four pieces in the header, 21 in each block after it."""
    slots = [octal(offset, 12) + octal(length, 12) for offset, length in pieces]
    here, more = slots[:4], slots[4:]
    times = bytes(41)  # atime, ctime, offset, long names
    rest = times + b"".join(here).ljust(96, b"\0") + (b"\1" if more else b"\0") + octal(size, 12)
    blocks = raw(b"sparse", b"S", size=len(data), magic=b"ustar  \0", rest=rest)
    while more:
        now, more = more[:21], more[21:]
        blocks += b"".join(now).ljust(504, b"\0") + (b"\1" if more else b"\0") + bytes(7)
    return blocks + padded(data)


@pytest.mark.parametrize("count", [1, 4, 5, 25, 26, 60])
def test_sparse_files_in_all_four_formats(count: int) -> None:
    pieces = [(n * 1000, 10) for n in range(count)]
    data, size = bytes(range(10)) * count, count * 1000 + 5
    text = b",".join(b"%d,%d" % piece for piece in pieces)
    names = b"GNU.sparse.offset", b"GNU.sparse.numbytes"
    pairs = [(name, b"%d" % value) for piece in pieces for name, value in zip(names, piece)]
    table = padded(b"%d\n" % count + b"".join(b"%d\n%d\n" % piece for piece in pieces))
    ways = [
        gnu_sparse([*pieces, (size, 0)], size, data),
        pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % count), *pairs) + file(b"sparse", data),
        pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.name", b"sparse"), (b"GNU.sparse.map", text))
        + file(b"x", data),
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"sparse"),
            (b"GNU.sparse.realsize", b"%d" % size)) + raw(b"x", size=len(table + data)) + padded(table + data),
    ]  # fmt: skip
    for way in ways:
        (entry, got), (after, _) = read(way + file(b"after") + END)
        assert (entry.path, entry.size, entry.sparse, got) == (b"sparse", size, tuple(pieces), data)
        assert after.path == b"after"


def test_a_file_that_is_nothing_but_a_hole() -> None:
    entry, data = one(pax((b"GNU.sparse.size", b"5000"), (b"GNU.sparse.map", b"5000,0")) + file(b"a"))
    assert (entry.sparse, entry.size, entry.data_bytes, data) == (((5000, 0),), 5000, 0, b"")


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10240), bytes(1024) + b"garbage"])
def test_ends_of_archives(end: bytes) -> None:
    assert len(read(file(b"a", b"x") + end)) == 1
    assert read(end if end[:1] == b"\0" else b"") == []


def test_data_that_is_not_read_is_skipped() -> None:
    stream = io.BytesIO(file(b"a", b"x" * 5000) + file(b"b", b"y") + END)
    assert [entry.path for entry, _ in read_entries(stream, Limits())] == [b"a", b"b"]


def test_a_stream_may_come_in_drops() -> None:
    data = pax((b"path", b"p" * 150)) + file(b"a", b"x" * 1000) + directory(b"d") + END
    found = [(entry.path, whole(member)) for entry, member in read_entries(Drip(data), Limits())]  # type: ignore[arg-type]
    assert found == [(b"p" * 150, b"x" * 1000), (b"d", b"")]


def test_paths_are_shown_printable_and_short() -> None:
    assert shown(b"a\x1b[2J\xff\n") == "a\\x1b[2J\\xff\\n"
    assert len(shown(b"x" * 10_000)) < 210


NAMES = st.binary(min_size=1, max_size=180).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))
ENTRIES = st.builds(
    Entry,
    NAMES,
    st.sampled_from([Kind.DIRECTORY, Kind.FIFO, Kind.SYMLINK, Kind.HARDLINK]),
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    st.just(0),
    st.integers(-(2**61), 2**61),
    NAMES,
    st.just((0, 0)),
    st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda key: b"\0" not in key and b"=" not in key), st.binary(max_size=50)
    ),
)


@given(st.lists(ENTRIES, max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(entries: list[Entry]) -> None:
    data = b"".join(header(entry) for entry in entries) + WRITTEN_END
    assert [entry for entry, _ in read(data)] == entries


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_that_were_changed_are_read_or_refused(data: st.DataObject) -> None:
    good = bytearray(
        pax((b"path", b"p" * 120), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"v")) + file(b"a", b"x" * 600)
        + long_name(b"l" * 130) + file(b"b") + gnu_sparse([(0, 5), (100, 5)], 200, b"0123456789") + END
    )  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for start in range(0, len(good), 512):  # With right checksums more of it is looked at.
        block = good[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block) - sum(block[148:156]) + 256
            good[start + 148 : start + 156] = b"%06o\0 " % total
    with contextlib.suppress(OperationError):
        assert len(read(bytes(good[:cut]), Limits(bytes=1 << 20))) <= 4
