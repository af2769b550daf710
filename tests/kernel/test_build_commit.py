"""An upper directory, as overlayfs and a container's ids leave it, becomes a layer's tree."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from pathlib import Path

import pytest

from orchestrator.build.commit import settle
from orchestrator.contracts.site import IdMap
from orchestrator.errors import HostError
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel.trees import remove_tree

pytestmark = pytest.mark.kernel

IDS = IdMap(1 << 20)
BASE = IDS.host_base


@pytest.fixture
def upper(leaves_nothing_behind: None) -> Path:
    return Path(tempfile.mkdtemp(prefix="upper-"))


def settled(upper: Path, below: Path | None = None, stubs: tuple[str, ...] = (), latest_s: int | None = None) -> None:
    with Merged([str(below)] if below else []) as view:
        settle(str(upper), view, IDS, stubs, latest_s)


def test_ids_in_acls_and_capabilities_become_the_images(upper: Path) -> None:
    path = upper / "tool"
    path.write_text("x")
    os.chown(path, BASE + 5, BASE + 6)
    path.chmod(0o4755)
    third = struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, BASE)
    os.setxattr(path, "security.capability", third)
    entries = [(1, 7, 2**32 - 1), (2, 6, BASE + 7), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", acl)
    settled(upper)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (5, 6, 0o4775)
    assert os.getxattr(path, "security.capability") == struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    assert struct.unpack_from("<HHI", os.getxattr(path, "system.posix_acl_access"), 12) == (2, 6, 7)
    remove_tree(str(upper))


def test_marks_of_overlayfs_stay_where_they_hide_something(upper: Path) -> None:
    below = Path(tempfile.mkdtemp(prefix="below-"))
    (below / "there").mkdir()
    for name in ("there", "new"):
        (upper / name).mkdir()
        os.setxattr(upper / name, "trusted.overlay.opaque", b"y")
        os.setxattr(upper / name, "trusted.overlay.origin", b"x")
    os.mknod(upper / "gone", stat.S_IFCHR, 0)
    settled(upper, below)
    assert os.listxattr(upper / "there") == ["trusted.overlay.opaque"]
    assert os.listxattr(upper / "new") == []
    assert (upper / "gone").stat().st_rdev == 0
    for tree in (upper, below):
        remove_tree(str(tree))


def test_a_redirected_directory_is_refused_and_named(upper: Path) -> None:
    (upper / "moved").mkdir()
    os.setxattr(upper / "moved", "trusted.overlay.redirect", b"from")
    with pytest.raises(HostError, match="redirect"):
        settled(upper)
    remove_tree(str(upper))


def test_mount_points_go_and_what_was_written_beside_them_stays(upper: Path) -> None:
    below = Path(tempfile.mkdtemp(prefix="below-"))
    for name in ("etc", "kept", "srv"):
        (below / name).mkdir()
    for name in ("etc", "kept", "a/b/c", "x/y", "srv/full"):
        (upper / name).mkdir(parents=True)
    for name in ("etc/resolv.conf", "kept/resolv.conf", "kept/mine", "srv/full/file"):
        (upper / name).touch()
    (upper / "x/y/own").write_text("1")
    for directory, names, files in os.walk(upper):
        for name in (*names, *files):
            os.chown(os.path.join(directory, name), BASE, BASE)
    settled(upper, below, ("/etc/resolv.conf", "/kept/resolv.conf", "/a/b/c", "/x/y", "/srv/full", "/not/made"))
    left = {os.path.join(at, name) for at, names, files in os.walk(upper) for name in (*names, *files)}
    assert {os.path.relpath(path, upper) for path in left} == {
        "kept", "kept/mine", "x", "x/y", "x/y/own", "srv", "srv/full", "srv/full/file"
    }  # fmt: skip
    for tree in (upper, below):
        remove_tree(str(tree))


def test_a_tree_may_be_as_deep_as_a_container_likes(upper: Path) -> None:
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        os.chown("d", BASE, BASE, dir_fd=fd)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    settled(upper, latest_s=1000)
    found = os.fstat(fd)
    os.close(fd)
    assert (found.st_uid, found.st_mtime) == (0, 1000.0)
    remove_tree(str(upper))
