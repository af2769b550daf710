"""Trees merged into an archive, also while the topmost changes."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from pathlib import Path

import pytest

from orchestrator.images.unpack.entries import Entry
from orchestrator.images.unpack.whole import write_merged
from orchestrator.values import replace


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    """Topmost first."""
    top, below = tmp_path / "top", tmp_path / "below"
    for path in (top, top / "both", below, below / "both", below / "gone"):
        path.mkdir()
    (below / "both" / "old").write_text("old")
    (below / "both" / "hidden").write_text("hidden")
    (below / "gone" / "x").write_text("x")
    os.link(below / "both" / "old", below / "both" / "other")
    (top / "both" / "new").write_text("new")
    (top / "link").symlink_to("both/new")
    os.link(top / "both" / "new", top / "again")
    os.mkfifo(top / "fifo")
    return [top, below]


def read(trees: list[Path], seen: object = None, changed: int = 0) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    assert write_merged([str(path) for path in trees], out, seen or (lambda entry: entry)) == changed  # type: ignore[arg-type]
    out.seek(0)
    with tarfile.open(fileobj=out, errorlevel=2) as archive:
        return {item.name.removeprefix("./"): item for item in archive}


def test_all_that_overlayfs_would_show_and_nothing_else(trees: list[Path]) -> None:
    os.mknod(trees[0] / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(trees[0] / "both" / "hidden", stat.S_IFCHR, os.makedev(0, 0))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(trees[0] / "socket"))
        found = read(trees)
    assert sorted(found) == [".", "again", "both", "both/new", "both/old", "both/other", "fifo", "link"]
    assert (found["both/new"].type, found["both/new"].linkname) == (tarfile.LNKTYPE, "again")
    assert (found["both/other"].type, found["both/other"].linkname) == (tarfile.LNKTYPE, "both/old")
    assert found["fifo"].isfifo()
    assert found["link"].linkname == "both/new"


def test_only_what_is_of_the_topmost_is_seen_otherwise(trees: list[Path]) -> None:
    found = read(trees, lambda entry: replace(entry, uid=77))
    assert {name for name, item in found.items() if item.uid == 77} == {".", "again", "both", "both/new", "fifo", "link"}


def test_what_vanishes_is_left_out_and_what_shrinks_is_filled_with_zeros(trees: list[Path]) -> None:
    """`seen` is called between the look at a file and its reading: a moment at which a container can do anything."""
    top = trees[0]
    (top / "shrinks").write_bytes(b"a" * 1300)
    (top / "directory").mkdir()
    (top / "stays").write_text("stays")

    def meddle(entry: Entry) -> Entry:
        if entry.path == b"shrinks":
            os.truncate(top / "shrinks", 3)
        elif entry.path == b"directory/":
            (top / "directory").rmdir()
            (top / "directory").symlink_to("/etc")
        return entry

    found = read(trees, meddle, changed=2)
    assert found["shrinks"].size == 1300
    assert found["stays"].size == 5
    assert not [name for name in found if name.startswith("directory/")]


def test_a_device_that_does_not_take_it_is_an_error(trees: list[Path]) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        write_merged([str(path) for path in trees], full, lambda entry: entry)
