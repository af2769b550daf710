"""Large files, which a thread writes; and files that get their mode when they are made."""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import HostError, OperationError
from orchestrator.images.unpack.applier import Applier
from orchestrator.images.unpack.attributes import set_time
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.largefiles import LARGE_BYTES, LargeFiles
from orchestrator.images.unpack.layers import apply_layer
from tests.archives import END, directory, file, hardlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")

SIZES = (LARGE_BYTES - 1, LARGE_BYTES, (1 << 20) + 7, 5 << 20)
DEFAULT_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, 2**32 - 1) for tag, perm in ((1, 7), (4, 5), (16, 5), (32, 0))
)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    assert set(threading.enumerate()) <= threads  # One of trio's, from another test, may have ended meanwhile.
    assert len(os.listdir("/proc/self/fd")) == descriptors


def content(size: int) -> bytes:
    return (b"%d " % size * size)[:size]


def test_large_and_small_files_come_out_alike(tmp_path: Path) -> None:
    parts = [file(b"f%d" % size, content(size), mode=0o4751, uid=7, gid=8, mtime=size) for size in SIZES]
    parts += [hardlink(b"again", b"f%d" % SIZES[-1]), file(b"f%d" % SIZES[1], b"replaced")]
    apply_layer(io.BytesIO(b"".join(parts) + END), str(tmp_path))
    for size in SIZES:
        if size == SIZES[1]:
            assert (tmp_path / f"f{size}").read_bytes() == b"replaced"
            continue
        found = (tmp_path / f"f{size}").stat()
        assert (tmp_path / f"f{size}").read_bytes() == content(size)
        assert (found.st_mode, found.st_uid, found.st_gid, found.st_mtime) == (stat.S_IFREG | 0o4751, 7, 8, size)
    assert (tmp_path / "again").samefile(tmp_path / f"f{SIZES[-1]}")


@pytest.mark.parametrize("cut", [1, 2 << 20])
def test_an_archive_that_ends_within_a_large_file_is_refused(tmp_path: Path, cut: int) -> None:
    archive = file(b"before", content(3 << 20)) + file(b"cut", content(4 << 20))
    with pytest.raises(OperationError, match="in the middle of cut"):
        apply_layer(io.BytesIO(archive[:-cut]), str(tmp_path))


def test_what_cannot_be_written_is_told_and_the_rest_let_go(tmp_path: Path) -> None:
    def write(large: LargeFiles, target: str, times: int) -> None:
        entry = Entry(os.fsencode(target), Kind.FILE, size=2 << 20)
        for _ in range(times):
            large.write(os.open(target, os.O_WRONLY | os.O_CREAT), entry, io.BytesIO(content(entry.size)), set_time)

    with LargeFiles() as large:
        with pytest.raises(HostError, match="the disk is full: /dev/full cannot be written"):
            write(large, "/dev/full", 100)
        with pytest.raises(HostError, match="the disk is full"):
            write(large, str(tmp_path / "another"), 1)
        with pytest.raises(HostError, match="the disk is full"):
            large.wait()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes_and_owners_are_the_entry_s_whatever_the_directory_would_give(tmp_path: Path, umask: int) -> None:
    (tmp_path / "acl").mkdir()
    os.setxattr(tmp_path / "acl", "system.posix_acl_default", DEFAULT_ACL)
    (tmp_path / "acl").chmod(0o755)
    modes = (0o644, 0o777, 0o000, 0o666, 0o6755, 0o1644, 0o600)
    before = os.umask(umask)
    try:
        with Applier(str(tmp_path), whiteouts=False) as applier:
            applier.add(Entry(b"group", Kind.DIRECTORY, 0o2775, 0, 42))
            applier.add(Entry(b"plain", Kind.DIRECTORY, 0o755))
            for place in (b"group", b"plain", b"acl", b"late"):
                for mode in modes:
                    applier.add(Entry(place + b"/%o" % mode, Kind.FILE, mode))
            applier.add(Entry(b"late", Kind.DIRECTORY, 0o2755, 0, 42))
            applier.add(Entry(b"late/644", Kind.FILE, 0o644))
            applier.finish()
    finally:
        os.umask(before)
    for folder in ("group", "plain", "acl", "late"):
        for mode in modes:
            found = (tmp_path / folder / f"{mode:o}").stat()
            assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (mode, 0, 0)


def test_a_directory_keeps_what_is_in_it_when_it_comes_again(tmp_path: Path) -> None:
    parts = directory(b"d"), file(b"d/one", b"1"), directory(b"d"), file(b"d/two", b"2")
    apply_layer(io.BytesIO(b"".join(parts) + END), str(tmp_path))
    assert sorted(os.listdir(tmp_path / "d")) == ["one", "two"]
