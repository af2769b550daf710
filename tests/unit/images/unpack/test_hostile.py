"""Layers that try to leave their tree, or to take the machine with them. Beside and around the tree that each is applied
to lies a canary, which must be as it was: content, owners, modes, times, extended attributes, numbers of links."""

from __future__ import annotations

import gzip
import io
import os
import resource
import stat
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.errors import OperationError
from orchestrator.images.unpack.layers import apply_layer
from orchestrator.images.unpack.limits import Limits
from orchestrator.kernel.trees import remove_tree
from tests.archives import (
    END,
    base256,
    directory,
    file,
    hardlink,
    long_name,
    pax,
    raw,
    symlink,
    tree,
)  # fmt: skip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")

SMALL = Limits(bytes=1 << 20, entries=1000, depth=50, name_bytes=2000)


class Room:
    """A canary, a lower tree and a target, side by side."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.canary, self.lower, self.target = top / "canary", top / "lower", top / "target"
        for path in (self.canary, self.lower, self.target, self.canary / "dir"):
            path.mkdir()
        (self.canary / "file").write_bytes(b"alive")
        (self.canary / "dir/inner").write_bytes(b"alive too")
        os.symlink("file", self.canary / "link")
        os.chmod(self.canary / "file", 0o640)
        os.setxattr(self.canary / "file", "user.note", b"untouched")
        for path in (self.canary / "file", self.canary / "dir", self.canary, top):
            os.utime(path, ns=(10**18, 10**18))

    def around(self) -> object:
        found = dict(tree(self.top, without=self.target))
        return found


@pytest.fixture
def room() -> Iterator[Room]:
    """Under a short name: the absolute path of the canary has to fit into a header."""
    top = Path(tempfile.mkdtemp(prefix="pst-", dir="/tmp"))
    yield Room(top)
    remove_tree(str(top))


Layer = Callable[[bytes], bytes]
"""Of the absolute path of the canary."""


class Case(NamedTuple):
    """`refused`: what the error says. `then`: what is in the tree, else: content, ``-> text`` of a link, "dir", None."""

    title: str
    layer: Layer
    refused: str = ""
    then: dict[str, object] = {}
    below: Layer | None = None


UP = b"../" * 8
CASES = [
    # Absolute paths and dots.
    Case("an absolute path", lambda c: file(c + b"/new", b"x"), then={"CANARY/new": b"x"}),
    Case("an absolute path to a file that is there", lambda c: file(c + b"/file", b"x"), then={"CANARY/file": b"x"}),
    Case("two slashes in front", lambda c: file(b"/" + c + b"/file", b"x"), then={"CANARY/file": b"x"}),
    Case("dots in front", lambda c: file(b"../canary/file", b"x"), then={"canary/file": b"x"}),
    Case("many dots in front", lambda c: file(UP + c[1:] + b"/file", b"x"), then={"CANARY/file": b"x"}),
    Case("dots in the middle", lambda c: file(b"a/../../canary/file", b"x"), then={"canary/file": b"x", "a": None}),
    Case("dots at the end", lambda c: directory(b"a/.."), then={"a": None}),
    Case("a file that is two dots", lambda c: file(b".."), refused="is the root"),
    Case("a file that is one dot", lambda c: file(b"."), refused="is the root"),
    Case("a file without a name", lambda c: file(b""), refused="is the root"),
    Case("the root as a symbolic link", lambda c: symlink(b"./", c), refused="is the root"),
    Case("the root as a file", lambda c: file(b"/"), refused=""),
    Case("a directory above", lambda c: directory(b"../canary/dir", 0o777, uid=7), then={"canary/dir": "dir"}),
    # Symbolic links, then something through them.
    Case("a write through an absolute link", lambda c: symlink(b"a", c) + file(b"a/file", b"x"),
         then={"a": ("-> CANARY",), "CANARY/file": b"x"}),
    Case("a write through a relative link", lambda c: symlink(b"a", b"../canary") + file(b"a/file", b"x"),
         then={"canary/file": b"x"}),
    Case("a write through many dots", lambda c: symlink(b"a", UP + c[1:]) + file(b"a/file", b"x"),
         then={"CANARY/file": b"x"}),
    Case("a write to a link's own name", lambda c: symlink(b"a", c + b"/file") + file(b"a", b"x"), then={"a": b"x"}),
    Case("a chain of links", lambda c: symlink(b"a", b"b") + symlink(b"b", b"c") + symlink(b"c", c) + file(b"a/file", b"x"),
         then={"CANARY/file": b"x"}),
    Case("links in steps upwards",
         lambda c: directory(b"d") + symlink(b"d/up", b"..") + symlink(b"up2", b"d/up/..") + file(b"up2/canary/file", b"x"),
         then={"canary/file": b"x"}),
    Case("a loop of two links", lambda c: symlink(b"a", b"b") + symlink(b"b", b"a") + file(b"a/x"),
         refused="40 symbolic links"),
    Case("a link to itself", lambda c: symlink(b"a", b"a") + file(b"a/x"), refused="40 symbolic links"),
    Case("a link that grows", lambda c: symlink(b"a", b"a/a/a") + file(b"a/x"), refused="40 symbolic links"),
    Case("a link to the root", lambda c: symlink(b"a", b"/") + file(b"a/a2", b"x"), then={"a2": b"x"}),
    Case("a link with an absolute path in a pax record",
         lambda c: pax((b"linkpath", c)) + symlink(b"a", b"harmless") + file(b"a/file", b"x"), then={"CANARY/file": b"x"}),
    Case("a link with a long GNU name",
         lambda c: long_name(c + b"/" * 120, b"K") + symlink(b"a", b"") + file(b"a/file", b"x"),
         then={"CANARY/file": b"x"}),
    Case("a directory over a link", lambda c: symlink(b"a", c) + directory(b"a", 0o777) + file(b"a/file", b"x"),
         then={"a/file": b"x"}),
    Case("a directory replaced by a link", lambda c: directory(b"a") + file(b"a/f") + symlink(b"a", c)
         + file(b"a/file", b"x"),
         then={"a": ("-> CANARY",), "CANARY/file": b"x"}),
    Case("a deep directory replaced by a link above it",
         lambda c: directory(b"a/b/c") + file(b"a/b/c/f") + symlink(b"a/b", c) + file(b"a/b/c/file", b"x"),
         then={"CANARY/c/file": b"x"}),
    Case("a link replaced by a directory, and by a link again",
         lambda c: symlink(b"a", c) + directory(b"a") + symlink(b"a", c) + file(b"a/file", b"x"),
         then={"CANARY/file": b"x"}),
    Case("an empty link", lambda c: symlink(b"a", b""), refused="leads nowhere"),
    Case("a link of 5000 bytes", lambda c: pax((b"linkpath", b"x" * 5000)) + symlink(b"a", b"x"), refused="name"),
    Case("a write through a link of the tree below", lambda c: file(b"a/file", b"x"), below=lambda c: symlink(b"a", c),
         then={"a": None, "CANARY/file": b"x"}),
    Case("a write through a chain in the tree below", lambda c: file(b"a/file", b"x"),
         below=lambda c: symlink(b"a", b"b/../d") + directory(b"b") + symlink(b"d", UP + c[1:]),
         then={"CANARY/file": b"x"}),
    Case("a loop in the tree below", lambda c: file(b"a/x"), below=lambda c: symlink(b"a", b"a"),
         refused="40 symbolic links"),
    Case("through links of both trees", lambda c: symlink(b"b", c) + file(b"a/file", b"x"),
         below=lambda c: symlink(b"a", b"b"), then={"CANARY/file": b"x"}),
    Case("below a file", lambda c: file(b"a") + file(b"a/b"), refused="is no directory"),
    Case("below a file of the tree below", lambda c: file(b"a/b"), below=lambda c: file(b"a"), refused="is no directory"),
    Case("below a device", lambda c: raw(b"a", b"3", device=(1, 3)) + file(b"a/b"), refused="is no directory"),
    # /proc-like names are names.
    Case("a link to /proc/self/root", lambda c: symlink(b"a", b"/proc/self/root") + file(b"a" + c + b"/file", b"x"),
         then={"proc/self/root": "dir"}),
    Case("a link to /proc/self/cwd", lambda c: symlink(b"a", b"/proc/self/cwd/..") + file(b"a/x", b"x"),
         then={"proc/self/x": b"x"}),
    Case("a link to /proc/self/fd/3", lambda c: symlink(b"a", b"/proc/self/fd/3") + file(b"a/x", b"x"),
         then={"proc/self/fd/3/x": b"x"}),
    Case("a file at /proc/self/mem", lambda c: file(b"/proc/self/mem", b"x"), then={"proc/self/mem": b"x"}),
    # Hard links.
    Case("a hard link out of it", lambda c: hardlink(b"a", c + b"/file") + file(b"a", b"x"), refused="does not exist"),
    Case("a hard link out of it with dots", lambda c: hardlink(b"a", b"../canary/file"), refused="does not exist"),
    Case("a hard link through a link out of it", lambda c: symlink(b"l", c) + hardlink(b"a", b"l/file"),
         refused="does not exist"),
    Case("a hard link to a symbolic link out of it, then a write",
         lambda c: symlink(b"l", c + b"/file") + hardlink(b"a", b"l") + file(b"a", b"x"),
         then={"a": b"x", "l": ("-> CANARY/file",)}),
    Case("a hard link to a symbolic link to a directory, then a write through it",
         lambda c: symlink(b"l", c) + hardlink(b"a", b"l") + file(b"a/file", b"x"), then={"CANARY/file": b"x"}),
    Case("a hard link to a symbolic link of the tree below", lambda c: hardlink(b"a", b"l"),
         below=lambda c: symlink(b"l", c + b"/file"), then={"a": ("-> CANARY/file",), "l": ("-> CANARY/file",)}),
    Case("a hard link through a link of the tree below", lambda c: hardlink(b"a", b"l/file"),
         below=lambda c: symlink(b"l", c), refused="does not exist"),
    Case("a hard link to a file of the tree below, then a write", lambda c: hardlink(b"a", b"f") + file(b"f", b"new"),
         below=lambda c: file(b"f", b"old"), then={"a": b"old", "f": b"new"}),
    Case("a hard link to a directory", lambda c: directory(b"d") + hardlink(b"a", b"d"), refused="which is a directory"),
    Case("a hard link to a directory below", lambda c: hardlink(b"a", b"d"), below=lambda c: directory(b"d"),
         refused="which is a directory"),
    Case("a hard link to the root", lambda c: hardlink(b"a", b"/"), refused="hard link to the root"),
    Case("a hard link to itself", lambda c: file(b"a", b"x") + hardlink(b"a", b"./a"), then={"a": b"x"}),
    Case("a hard link to itself, which is not there", lambda c: hardlink(b"a", b"a"), refused="does not exist"),
    Case("a hard link over the directory that its target is in",
         lambda c: file(b"d/f", b"x") + hardlink(b"d", b"d/f"), refused="which it replaces"),
    Case("a hard link to a whiteout", lambda c: file(b".wh.f") + hardlink(b"a", b"f"), below=lambda c: file(b"f"),
         refused="does not exist"),
    Case("a hard link without a target", lambda c: hardlink(b"a", b""), refused="hard link to the root"),
    # Devices, FIFOs, modes, owners.
    Case("a device over a file", lambda c: file(b"a", b"x") + raw(b"a", b"3", device=(1, 3)), then={"a": "device"}),
    Case("a file over a device", lambda c: raw(b"a", b"4", device=(254, 0)) + file(b"a", b"x"), then={"a": b"x"}),
    Case("a file over a FIFO", lambda c: raw(b"a", b"6") + file(b"a", b"x"), then={"a": b"x"}),
    Case("a hard link to a device, then a file", lambda c: raw(b"d", b"3", device=(1, 3)) + hardlink(b"a", b"d")
         + file(b"a", b"x"),
         then={"a": b"x", "d": "device"}),
    Case("the device 0:0, which is a whiteout", lambda c: raw(b"a", b"3", device=(0, 0)), refused="would be a whiteout"),
    Case("a device that no kernel has", lambda c: raw(b"a", b"4", device=(0o777777, 0)), refused="no kernel has"),
    Case("a set-id program", lambda c: file(b"a", b"x", mode=0o6755, uid=0), then={"a": b"x"}),
    Case("a mode with bits of a type", lambda c: file(b"a", b"x", mode=0o120777), then={"a": b"x"}),
    Case("a uid of -1", lambda c: file(b"a", uid=base256(2**32 - 1, 8)), refused="highest id"),
    Case("a gid of -1", lambda c: pax((b"gid", b"4294967295")) + file(b"a"), refused="highest id"),
    Case("a negative uid", lambda c: file(b"a", uid=base256(-1, 8)), refused="negative"),
    Case("a uid with a sign in it", lambda c: file(b"a", uid=b"-000001"), refused="no number"),
    Case("a huge uid", lambda c: pax((b"uid", b"9" * 30)) + file(b"a"), refused="no number"),
    # Marks.
    Case("a whiteout of the parent", lambda c: file(b".wh..."), then={}, refused="whiteout of nothing"),
    Case("a whiteout of the directory", lambda c: file(b"d/.wh.."), refused="whiteout of nothing"),
    Case("a whiteout without a name", lambda c: file(b".wh."), refused="whiteout of nothing"),
    Case("something in a whiteout", lambda c: file(b".wh.../x"), refused="lies in a whiteout"),
    Case("something in a whiteout that is a directory", lambda c: directory(b".wh.a") + file(b".wh.a/x"), refused=""),
    Case("a whiteout with dots", lambda c: file(b"a/.wh.../../canary"), refused="", then={"a/canary": b""}),
    Case("a whiteout through a link", lambda c: symlink(b"a", c) + file(b"a/.wh.file"), then={"CANARY/file": None}),
    Case("a whiteout through a link of the tree below", lambda c: file(b"a/.wh.file"), below=lambda c: symlink(b"a", c),
         then={"CANARY/file": None}),
    Case("a whiteout of a link", lambda c: file(b".wh.a"), below=lambda c: symlink(b"a", c), then={"a": "whiteout"}),
    Case("an opaque mark through a link", lambda c: symlink(b"a", c) + file(b"a/.wh..wh..opq"), then={"CANARY": "dir"}),
    Case("a name of aufs", lambda c: file(b".wh..wh.plnk/1.2", b"x") + hardlink(b"a", b".wh..wh.plnk/1.2"),
         refused="does not exist"),
    Case("a mark of aufs", lambda c: file(b".wh..wh.aufs", b"x"), then={".wh..wh.aufs": None, "h..aufs": None}),
    Case("a symbolic link that is a mark", lambda c: symlink(b".wh.a", c), below=lambda c: file(b"a"),
         then={"a": "whiteout"}),
    Case("overlayfs's own attributes",
         lambda c: pax(*[(b"SCHILY.xattr." + n, b"y") for n in (
             b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"user.overlay.opaque", b"trusted.overlay.metacopy")])
         + directory(b"a"), then={"a": "dir"}),
    Case("a policy's label", lambda c: pax((b"SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0"))
         + file(b"a"),
         then={"a": b""}),
    Case("a capability that is none", lambda c: pax((b"SCHILY.xattr.security.capability", b"junk")) + file(b"a"),
         refused="security.capability"),
    Case("an empty capability", lambda c: pax((b"SCHILY.xattr.security.capability", b"")) + file(b"a"), refused="is empty"),
    Case("a capability of a directory", lambda c: pax((b"SCHILY.xattr.security.capability", b"junk")) + directory(b"a"),
         then={"a": "dir"}),
    Case("a link to what would be a mark", lambda c: symlink(b"a", b".wh.b/c") + file(b"a/x"), refused="would be a mark"),
    Case("an attribute too large", lambda c: pax((b"SCHILY.xattr.user.a", b"x" * 70_000)) + file(b"a"), refused="user.a"),
    Case("an attribute with a NUL in its name",
         lambda c: pax((b"LIBARCHIVE.xattr.user.a%00b", b"eHg=")) + file(b"a"), refused="NUL in its name"),
    # Names.
    Case("a newline and an escape in a name", lambda c: file(b"a\n\x1b[2Jb", b"x"), then={"a\n\x1b[2Jb": b"x"}),
    Case("a NUL in a pax path", lambda c: pax((b"path", b"a\0/../../canary/file")) + file(b"a"), refused="NUL"),
    Case("a NUL in a pax link", lambda c: pax((b"linkpath", b"a\0b")) + symlink(b"a", b"x"), refused="NUL"),
    Case("a pax path over a harmless one", lambda c: pax((b"path", b"../canary/file")) + file(b"ok", b"x"),
         then={"ok": None, "canary/file": b"x"}),
    Case("a global pax path", lambda c: pax((b"path", c + b"/file"), flag=b"g") + file(b"ok", b"x") + file(b"ok2", b"y"),
         then={"CANARY/file": b"y"}),
    Case("a component of 256 bytes", lambda c: pax((b"path", b"n" * 256)) + file(b"a"), refused="File name too long"),
    Case("a backslash is a letter", lambda c: file(b"..\\canary\\file", b"x"), then={"..\\canary\\file": b"x"}),
    Case("a path with a prefix that climbs", lambda c: file(b"file", b"x", rest=b"../../canary"),
         then={"canary/file": b"x"}),
    Case("too many levels", lambda c: pax((b"path", b"d/" * 60)) + file(b"a"), refused="limit depth is 50"),
    Case("a name too long", lambda c: pax((b"path", b"d" * 100 + b"/d" * 1000)) + file(b"a"),
         refused="limit name_bytes is 2000"),
    Case("a GNU name too long", lambda c: long_name(b"d" * 3000) + file(b"a"), refused="limit name_bytes is 2000"),
    # Sizes.
    Case("a huge size", lambda c: raw(b"a", size=base256(2**62, 12)), refused="limit bytes is"),
    Case("a huge size in a pax record", lambda c: pax((b"size", b"9" * 18)) + raw(b"a"), refused="limit bytes is"),
    Case("a negative size", lambda c: raw(b"a", size=base256(-512, 12)), refused="negative"),
    Case("a negative size in a pax record", lambda c: pax((b"size", b"-512")) + raw(b"a"), refused="no number"),
    Case("a size beyond the archive", lambda c: raw(b"a", size=100_000) + b"x" * 512, refused="ends in the middle"),
    Case("a directory with a size", lambda c: raw(b"d", b"5", size=10_000) + file(b"a", b"x"), then={"a": b"x"}),
    Case("a sparse file that is nothing but a hole of exabytes",
         lambda c: pax((b"GNU.sparse.size", b"9" * 18), (b"GNU.sparse.map", b"0,0")) + raw(b"a"), refused="limit bytes is"),
    Case("pieces that overlap",
         lambda c: pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,10,5,10")) + file(b"a", b"x" * 20),
         refused="map"),
    Case("a piece behind the end",
         lambda c: pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"95,10")) + file(b"a", b"x" * 10), refused="map"),
    Case("pieces that are more than the data",
         lambda c: pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,20")) + file(b"a", b"x" * 10), refused="map"),
    Case("an offset that overflows",
         lambda c: pax((b"GNU.sparse.size", b"9" * 19), (b"GNU.sparse.map", b"18446744073709551615,1")) + file(b"a", b"x"),
         refused="map"),
    Case("more entries than allowed", lambda c: b"".join(file(b"f%d" % n) for n in range(1001)),
         refused="limit entries is 1000"),
    # No archive.
    Case("a wrong checksum", lambda c: file(b"a", checksum=b"000001\0 "), refused="checksum"),
    Case("an unknown type", lambda c: raw(b"a", b"Z"), refused="unknown type"),
    Case("half a header", lambda c: file(b"a")[:300], refused="ends in the middle of a header"),
    Case("an extended header for nothing", lambda c: pax((b"path", b"x")), refused="belongs to no entry"),
    Case("a block of zeros and then more", lambda c: bytes(512) + file(b"a"), refused="single block of zeros"),
]  # fmt: skip


def apply(data: bytes, target: Path, lowers: list[Path], limits: Limits = SMALL) -> None:
    apply_layer(io.BytesIO(data), str(target), [str(lower) for lower in lowers], limits=limits)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_nothing_outside_is_touched_by(case: Case, room: Room) -> None:
    canary = os.fsencode(room.canary)
    if case.below is not None:
        apply(case.below(canary) + END, room.lower, [])
    before, threads, descriptors = room.around(), set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    data = case.layer(canary)
    data += b"" if len(data) % 512 else END
    error = ""
    try:
        apply(data, room.target, [room.lower])
    except OperationError as exc:
        error = str(exc)
    if case.refused == "":
        assert not (case.then and error)
    else:
        assert case.refused in error
    assert error.isprintable()
    assert room.around() == before
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
    if not error:
        for path, wanted in case.then.items():
            check(room.target / path.replace("CANARY", str(room.canary)[1:]), wanted, room)
        no_overlay_marks_but_ours(room.target)


def check(path: Path, wanted: object, room: Room) -> None:
    # What is on the way must be in the target itself: nothing below may be reached through a link.
    inside = room.target
    for part in path.relative_to(room.target).parts[:-1]:
        inside /= part
        assert not inside.is_symlink() or wanted is None, inside
    if wanted is None:
        assert not os.path.lexists(path)
    elif isinstance(wanted, bytes):
        assert not path.is_symlink()
        assert path.read_bytes() == wanted
    elif isinstance(wanted, tuple):
        assert f"-> {os.readlink(path)}" == wanted[0].replace("CANARY", str(room.canary))
    else:
        mode = path.lstat().st_mode
        device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        whiteout = device and path.lstat().st_rdev == 0
        assert {"dir": stat.S_ISDIR(mode), "device": device and not whiteout, "whiteout": whiteout}[str(wanted)]


def no_overlay_marks_but_ours(top: Path) -> None:
    for folder, names, files in os.walk(top):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            marks = [x for x in os.listxattr(path, follow_symlinks=False) if ".overlay." in x or x.startswith("security.")]
            assert all(x == "trusted.overlay.opaque" and os.getxattr(path, x) == b"y" for x in marks), (path, marks)


def test_there_are_at_least_sixty_of_them() -> None:
    assert len({case.title for case in CASES}) == len(CASES) >= 60


# Bombs.


def gzip_of_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def test_a_bomb_is_stopped_by_its_ratio(room: Room) -> None:
    bomb = gzip.compress(file(b"a") + END) + gzip_of_zeros(150 << 20)
    with pytest.raises(OperationError, match="limit ratio is 500"):
        apply(bomb, room.target, [], Limits())


def test_a_bomb_behind_the_end_of_the_archive_is_stopped(room: Room) -> None:
    with pytest.raises(OperationError, match="limit bytes is"):
        apply(gzip.compress(file(b"a") + END) + gzip_of_zeros(64 << 20), room.target, [])


def test_a_zstd_window_of_gigabytes_is_refused(room: Room) -> None:
    # A frame header with a window of 2 GiB (RFC 8878, 3.1.1.1.2): exponent 21, so 2^31 bytes.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(OperationError, match="zstd data is damaged"):
        apply(frame, room.target, [])


# Many, and deep.


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_many_entries_are_entries_like_others(room: Room, count: int) -> None:
    layer = gzip.compress(b"".join(file(b"d/%d/%d" % (n % 100, n)) for n in range(count)) + END, 1)
    done = apply_layer(io.BytesIO(layer), str(room.target), [], limits=Limits())
    assert done.entries == count
    assert sum(len(os.listdir(room.target / "d" / str(n))) for n in range(100)) == count


def test_a_tree_of_thousands_of_levels_is_made_with_few_descriptors(room: Room) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, hard))
    depth = 1200
    try:
        layer = b"".join(
            pax((b"path", b"d/" * level)) + directory(b"d", mode=0o711, mtime=level) for level in range(1, depth + 1)
        )
        deep = pax((b"path", b"d/" * depth + b"file")) + file(b"x", b"deep")
        apply(layer + deep + END, room.target, [], Limits())
        assert apply_layer(io.BytesIO(deep + END), str(room.lower), [str(room.target)], limits=Limits()).complete is False
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for top in (room.target, room.lower):
        at = os.open(top, os.O_RDONLY)
        for level in range(1, depth + 1):
            below = os.open("d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
            found = os.fstat(at)
            assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o711, level)
        assert os.listdir(at) == ["file"]
        os.close(at)

def test_a_link_that_is_put_in_place_of_the_tree_meanwhile_is_not_followed(room: Room) -> None:
    """Nobody can do this in the store; if somebody could, the descriptor still stands for the old directory."""
    before = room.around()

    def swap(_count: int) -> None:
        if not room.target.is_symlink():
            os.rename(room.target, room.top / "aside")
            os.symlink(room.canary, room.target)

    apply_layer(io.BytesIO(file(b"file", b"x") + file(b"dir/inner", b"x") + END), str(room.target), [], on_bytes=swap)
    assert (room.top / "aside/file").read_bytes() == b"x"
    os.unlink(room.target)
    os.rename(room.top / "aside", room.target)
    os.utime(room.top, ns=(10**18, 10**18))
    after = room.around()
    assert after == before
