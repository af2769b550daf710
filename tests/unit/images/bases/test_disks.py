"""qcow2 and ext4, read without qemu and without a mount."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import OperationError
from orchestrator.images.bases.ext4 import Ext4
from orchestrator.images.bases.qcow2 import Qcow2
from orchestrator.images.unpack.entries import Entry, Kind
from tests.unit.images.bases import disks


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("disk")
    tree = root / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_bytes(os.urandom(300_000))
    (tree / "bin/tool").chmod(0o4755)
    os.link(tree / "bin/tool", tree / "bin/tool2")
    (tree / "short").symlink_to("bin/tool")
    (tree / "long").symlink_to("/" + "x" * 200)
    (tree / "many").mkdir()
    for number in range(300):
        (tree / f"many/file-{number:03}").write_text(str(number))
    with open(tree / "hole", "wb") as file:
        file.truncate(1_000_000)
        file.seek(500_000)
        file.write(b"middle")
    os.utime(tree / "hole", times=(5, 1_600_000_000))
    return disks.ext4(tree, root / "image")


def entries_of(disk: bytes) -> dict[str, tuple[Entry, bytes]]:
    found = Ext4(Qcow2(io.BytesIO(disks.qcow2(disk)))).entries()
    return {os.fsdecode(entry.path): (entry, data.read() if data else b"") for entry, data in found}


def test_a_file_system_is_read_as_it_was_made(disk: bytes, tmp_path: Path) -> None:
    found = entries_of(disk)
    tool, content = found["/bin/tool"]
    assert (tool.kind, tool.mode, len(content)) == (Kind.FILE, 0o4755, 300_000)
    again, _ = found["/bin/tool2"]
    assert (again.kind, again.link) == (Kind.HARDLINK, b"/bin/tool")
    assert found["/short"][0].link == b"bin/tool"
    assert found["/long"][0].link == b"/" + b"x" * 200
    assert [name for name in found if name.startswith("/many/")] == [f"/many/file-{n:03}" for n in range(300)]
    assert found["/many/file-042"][1] == b"42"
    hole, content = found["/hole"]
    assert (hole.mtime_ns, len(content), content[500_000:500_006]) == (1_600_000_000 * 10**9, 1_000_000, b"middle")
    assert list(found).index("/bin") < list(found).index("/bin/tool")


def test_a_disk_gives_the_same_bytes_through_qcow2(disk: bytes) -> None:
    image = Qcow2(io.BytesIO(disks.qcow2(disk)))
    assert image.size == len(disk)
    assert image.read(65_000, 200_000) == disk[65_000:265_000]
    with pytest.raises(OperationError, match="beyond its end"):
        image.read(len(disk) - 1, 2)


def test_what_is_no_disk_is_refused(disk: bytes) -> None:
    with pytest.raises(OperationError, match="no qcow2"):
        Qcow2(io.BytesIO(bytes(200)))
    with pytest.raises(OperationError, match="no ext4"):
        Ext4(Qcow2(io.BytesIO(disks.qcow2(bytes(1 << 20)))))
    with pytest.raises(OperationError, match="ends too early"):
        Qcow2(io.BytesIO(b"QFI\xfb"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_disk_ends_in_an_error_or_in_entries(disk: bytes, data: st.DataObject) -> None:
    """Metadata lies in the first megabyte: superblock, descriptors, inodes, directories."""
    damaged = bytearray(disk)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(1024, 1 << 20))] = data.draw(st.integers(0, 255))
    plain = Plain(bytes(damaged))
    try:
        count = sum(1 for _ in Ext4(plain).entries())
    except OperationError:
        return
    assert count < 1_000


class Plain:
    """A disk that lies in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, offset: int, count: int) -> bytes:
        if offset + count > len(self.content):
            raise OperationError("beyond the end")
        return self.content[offset : offset + count]
