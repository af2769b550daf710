"""What a layer becomes: entries over the layers below, marks, attributes; and the same tree as GNU tar makes."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import HostError, OperationError
from orchestrator.images.unpack.applier import Applied, Applier
from orchestrator.images.unpack.compression import Compression, compress
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.layers import apply_layer
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.merged import Merged
from orchestrator.images.unpack.packing import write_tree
from orchestrator.kernel import trees
from tests.archives import END, directory, facts, file, hardlink, pax, raw, symlink, tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service, permitted and effective (capabilities(7), vfs_cap_data)."""
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, who) for tag, perm, who in ((1, 6, 2**32 - 1), (2, 4, 99), (4, 4, 2**32 - 1),
                                                               (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))
)  # fmt: skip
OPAQUE = {"trusted.overlay.opaque": b"y"}


class Stack:
    """Layers, each over those before it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.paths: list[Path] = []

    def add(self, *parts: bytes, limits: Limits = DEFAULT) -> Applied:
        self.paths.append(self.top / str(len(self.paths)))
        self.paths[-1].mkdir(mode=0o700)
        return apply_layer(io.BytesIO(b"".join(parts) + END), str(self.last), self.lowers, limits=limits)

    @property
    def last(self) -> Path:
        return self.paths[-1]

    @property
    def lowers(self) -> list[str]:
        return [str(path) for path in self.paths[-2::-1]]

    def names(self, path: str = "/") -> list[str]:
        with Merged([str(layer) for layer in self.paths[::-1]]) as merged:
            return merged.listdir(path)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    before = len(os.listdir("/proc/self/fd"))
    yield Stack(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def xattr(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return b"SCHILY.xattr." + name, value


# Attributes.


def test_owner_mode_times_and_attributes_are_what_the_archive_says(stack: Stack) -> None:
    stack.add(
        directory(b"d/", 0o2775, uid=5, gid=6, mtime=11), file(b"d/set-id", b"x", mode=0o6755, uid=7, gid=8, mtime=12),
        pax(xattr(b"security.capability", CAPABILITY), xattr(b"user.note", b"v"), (b"mtime", b"1.5"))
        + file(b"d/capable", b"x", mode=0o755, uid=9), symlink(b"d/link", b"set-id"), raw(b"d/fifo", b"6",
        mode=0o620, uid=3),
        raw(b"d/null", b"3", mode=0o666, device=(1, 3), gid=4), raw(b"d/disk", b"4", mode=0o600, device=(254, 300)),
        pax((b"uid", b"4294967294"), (b"gid", b"4294967294")) + file(b"d/nobody"),
    )  # fmt: skip
    seen = tree(stack.last / "d")
    assert seen["."][:4] == (stat.S_IFDIR, 0o2775, 5, 6)
    assert seen["."][5] == 11 * 10**9
    assert seen["set-id"][:7] == (stat.S_IFREG, 0o6755, 7, 8, 1, 12 * 10**9, b"x")
    assert seen["capable"][1:8] == (
        0o755, 9, 0, 1, 1500000000, b"x", {"security.capability": CAPABILITY, "user.note": b"v"},
    )  # fmt: skip
    assert seen["link"][6] == b"set-id"
    assert seen["fifo"][:3] == (stat.S_IFIFO, 0o620, 3)
    assert seen["null"][:7] == (stat.S_IFCHR, 0o666, 0, 4, 1, 1000 * 10**9, os.makedev(1, 3))
    assert seen["disk"][6] == os.makedev(254, 300)
    assert seen["nobody"][2:4] == (2**32 - 2, 2**32 - 2)


def test_a_directory_s_acl_is_not_inherited_by_what_the_archive_puts_into_it(stack: Stack) -> None:
    stack.add(
        pax(xattr(b"system.posix_acl_default", ACL), xattr(b"system.posix_acl_access", ACL)) + directory(b"d", 0o640),
        file(b"d/f", mode=0o644), directory(b"d/e", 0o700),
    )  # fmt: skip
    assert facts(stack.last / "d")[7] == {"system.posix_acl_access": ACL, "system.posix_acl_default": ACL}
    assert facts(stack.last / "d/f")[7] == facts(stack.last / "d/e")[7] == {}
    assert stat.S_IMODE((stack.last / "d/f").stat().st_mode) == 0o644


def test_overlayfs_s_marks_of_the_archive_are_dropped(stack: Stack) -> None:
    marks = [xattr(name, b"y") for name in (b"trusted.overlay.opaque", b"user.overlay.opaque", b"security.selinux")]
    stack.add(pax(*marks, xattr(b"trusted.mine", b"x")) + directory(b"d"))
    assert facts(stack.last / "d")[7] == {"trusted.mine": b"x"}


def test_a_sparse_file_stays_sparse(stack: Stack) -> None:
    size = 100 << 20
    stack.add(
        pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", b"1048576,4096,%d,0" % size)) + file(b"f", b"x" * 4096)
    )
    found = (stack.last / "f").stat()
    assert found.st_size == size
    assert found.st_blocks * 512 < 1 << 20
    with open(stack.last / "f", "rb") as opened:
        opened.seek(1 << 20)
        assert opened.read(4097) == b"x" * 4096 + b"\0"


def test_the_root_is_root_s_unless_the_layer_names_it(stack: Stack) -> None:
    stack.add(file(b"a"))
    assert facts(stack.last, times=False)[1:4] == (0o755, 0, 0)
    stack.add(directory(b"./", 0o700, uid=7, mtime=5))
    assert facts(stack.last)[1:4] == (0o700, 7, 0)
    assert stack.last.stat().st_mtime == 5


# Names.


def test_the_last_entry_of_a_name_counts(stack: Stack) -> None:
    stack.add(
        file(b"a", b"1"), file(b"a", b"2", mode=0o600), directory(b"d"), file(b"d/kept"), directory(b"d", 0o700),
        directory(b"e"), file(b"e/gone"), file(b"e", b"file"), symlink(b"f", b"a"), file(b"f", b"file"),
    )  # fmt: skip
    assert (stack.last / "a").read_bytes() == b"2"
    assert os.listdir(stack.last / "d") == ["kept"]
    assert stat.S_IMODE((stack.last / "d").stat().st_mode) == 0o700
    assert (stack.last / "e").read_bytes() == (stack.last / "f").read_bytes() == b"file"


def test_hard_links_are_one_file(stack: Stack) -> None:
    stack.add(file(b"d/a", b"x"), hardlink(b"b", b"d/a"), hardlink(b"c", b"/d/../b"), symlink(b"s", b"a"),
        hardlink(b"t", b"s"))
    assert len({(stack.last / name).lstat().st_ino for name in ("d/a", "b", "c")}) == 1
    assert os.readlink(stack.last / "t") == "a"


def test_names_may_be_any_bytes(stack: Stack) -> None:
    names = [bytes([number]) for number in range(1, 256) if number not in b"./"] + [b"n" * 255, b"..."]
    stack.add(*[pax((b"path", name)) + file(b"x", name) for name in names])
    assert sorted(os.listdir(os.fsencode(stack.last))) == sorted(names)


# Over other layers.


def test_a_parent_that_nobody_named_is_as_it_is_below(stack: Stack) -> None:
    assert stack.add(directory(b"d", 0o750, uid=5, gid=6, mtime=7), pax(xattr(b"user.a", b"b")) + directory(b"d/e",
        0o711)).complete
    assert not stack.add(file(b"d/e/new"), file(b"new/new")).complete
    assert facts(stack.last / "d")[1:6] == (0o750, 5, 6, 0, 7 * 10**9)
    assert facts(stack.last / "d/e")[7] == {"user.a": b"b"}
    assert facts(stack.last / "new")[1:4] == (0o755, 0, 0)


def test_a_parent_that_is_named_later_is_no_dependency(stack: Stack) -> None:
    assert stack.add(file(b"d/f"), directory(b"d", 0o700)).complete
    assert stat.S_IMODE((stack.last / "d").stat().st_mode) == 0o700


def test_a_link_below_is_followed_and_stays(stack: Stack) -> None:
    stack.add(directory(b"usr"), directory(b"usr/lib", 0o711), symlink(b"lib", b"usr/lib"), symlink(b"l2", b"/lib"))
    done = stack.add(file(b"lib/a", b"x"), file(b"l2/b", b"y"), hardlink(b"l2/c", b"lib/a"))
    assert not done.complete
    assert os.listdir(stack.last) == ["usr"]
    assert stack.names("/lib") == ["a", "b", "c"]
    assert stat.S_IMODE((stack.last / "usr/lib").stat().st_mode) == 0o711


def test_a_directory_that_the_layer_names_replaces_a_link_below(stack: Stack) -> None:
    stack.add(directory(b"usr/lib"), symlink(b"lib", b"usr/lib"))
    stack.add(directory(b"lib"), file(b"lib/a"))
    assert stack.names("/lib") == ["a"]


def test_a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer(stack: Stack) -> None:
    stack.add(file(b"a"), file(b"b"), directory(b"d"), file(b"d/x"), directory(b"e"), file(b"e/x"), file(b"keep"))
    done = stack.add(
        file(b"b", b"new"), file(b".wh.b"), file(b".wh.a"), directory(b"d"), file(b"d/y"), file(b".wh.d"), file(b".wh.e"),
        directory(b"e"), file(b"e/y"),
    )  # fmt: skip
    assert done.complete
    assert is_whiteout(stack.last / "a")
    assert (stack.last / "b").read_bytes() == b"new"
    assert facts(stack.last / "d")[7] == facts(stack.last / "e")[7] == OPAQUE
    assert stack.names() == ["b", "d", "e", "keep"]
    assert stack.names("/d") == stack.names("/e") == ["y"]


def test_a_whiteout_may_be_of_the_longest_name(stack: Stack) -> None:
    name = b"n" * 255
    stack.add(pax((b"path", name)) + file(b"x"))
    assert stack.add(pax((b"path", b".wh." + name)) + file(b"x")).complete
    out = io.BytesIO()
    assert write_tree(str(stack.last), out).entries == 1
    assert stack.names() == []


def test_a_whiteout_of_nothing_leaves_no_mark(stack: Stack) -> None:
    stack.add(file(b"a"))
    assert not stack.add(file(b".wh.nothing")).complete
    assert os.listdir(stack.last) == []


def test_a_name_that_comes_again_after_its_whiteout(stack: Stack) -> None:
    stack.add(directory(b"d"), file(b"d/x"), file(b"f", b"old"))
    stack.add(file(b".wh.d"), file(b"d"), file(b".wh.f"), symlink(b"f", b"d"))
    assert stack.names() == ["d", "f"]
    stack.add(file(b".wh.d"), file(b"d/new"))
    assert stack.names("/d") == ["new"]


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_directory_hides_all_that_is_below_wherever_the_mark_stands(stack: Stack, first: bool) -> None:
    stack.add(directory(b"d"), directory(b"d/e"), file(b"d/e/old"), file(b"d/f"))
    parts = [file(b"d/.wh..wh..opq"), directory(b"d"), directory(b"d/e"), file(b"d/e/new")]
    assert stack.add(*(parts if first else [*parts[1:], parts[0]])).complete
    assert stack.names("/d") == ["e"]
    assert stack.names("/d/e") == ["new"]
    stack.add(file(b"d/.wh.f"), file(b"d/.wh..wh..opq"), file(b"d/e/new"))
    assert os.listdir(stack.last / "d") == ["e"]
    stack.add(file(b"d/g"), hardlink(b"d/h", b"d/e/new"))
    assert stack.names("/d") == ["e", "g", "h"]


def test_what_an_opaque_directory_hides_is_not_there_for_the_next_layer_either(stack: Stack) -> None:
    stack.add(directory(b"d", 0o700), file(b"d/f"), symlink(b"d/l", b"/"))
    stack.add(directory(b"d"), file(b"d/.wh..wh..opq"))
    with pytest.raises(OperationError, match="does not exist"):
        stack.add(hardlink(b"a", b"d/f"))
    stack.add(file(b"d/l/x"))
    assert stack.names("/d/l") == ["x"]


def test_an_opaque_root_hides_each_name(stack: Stack) -> None:
    stack.add(file(b"a"), directory(b"d"), file(b"d/x"))
    assert not stack.add(file(b".wh..wh..opq"), directory(b"d"), file(b"new")).complete
    assert stack.names() == ["d", "new"]
    assert stack.names("/d") == []
    assert facts(stack.last)[7] == {}


def test_a_hard_link_to_a_file_below_copies_it_up_whole(stack: Stack) -> None:
    hole = b"1048576,1,2097152,0"
    stack.add(
        directory(b"d", 0o711),
        pax(xattr(b"security.capability", CAPABILITY), (b"GNU.sparse.size", b"2097152"), (b"GNU.sparse.map", hole))
        + file(b"d/f", b"x", mode=0o4755, uid=5, gid=6, mtime=7), symlink(b"s", b"d/f"), raw(b"n", b"3", device=(1, 3)),
    )  # fmt: skip
    before = facts(stack.last / "d/f")
    done = stack.add(hardlink(b"a", b"d/f"), hardlink(b"t", b"s"), hardlink(b"m", b"n"))
    assert not done.complete
    assert (stack.last / "a").stat().st_ino == (stack.last / "d/f").stat().st_ino
    after = facts(stack.last / "a")
    assert (*after[:4], *after[5:]) == (*before[:4], *before[5:])
    assert (stack.last / "a").stat().st_blocks <= 32
    assert os.readlink(stack.last / "t") == "d/f"
    assert (stack.last / "m").lstat().st_rdev == os.makedev(1, 3)


# Without an archive.


def test_an_applier_takes_entries_one_by_one(stack: Stack) -> None:
    stack.add(file(b"x"))
    target = stack.top / "copy"
    target.mkdir(mode=0o711)
    (target / "there").mkdir()
    with Applier(str(target), [str(stack.last)], whiteouts=False) as applier:
        applier.add(Entry(b"there/.wh.a", Kind.FILE, size=3), io.BytesIO(b"abcdef"))
        applier.add(Entry(b"d/e", Kind.DIRECTORY, 0o700, mtime_ns=5))
        done = applier.finish()
    assert (done.diff_id, done.bytes, done.entries) == ("", 3, 2)
    assert (target / "there/.wh.a").read_bytes() == b"abc"
    assert (target / "d/e").stat().st_mtime_ns == 5
    assert stat.S_IMODE(target.stat().st_mode) == 0o711


def test_data_that_is_too_short_is_refused(stack: Stack) -> None:
    stack.add()
    with Applier(str(stack.last)) as applier, pytest.raises(OperationError, match="2 bytes too early"):
        applier.add(Entry(b"f", Kind.FILE, size=5), io.BytesIO(b"abc"))


def test_a_full_disk_is_the_machine_s_fault_and_nothing_leaks(stack: Stack) -> None:
    small = stack.top / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], capture_output=True,
        check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(HostError, match="the disk is full: big cannot be written"):
            apply_layer(io.BytesIO(file(b"big", bytes(3 << 20)) + END), str(small))
    finally:
        subprocess.run(["umount", str(small)], check=True)


# The same as GNU tar.


def furnished(top: Path) -> Path:
    """A tree with a bit of everything that an archive can hold."""
    top.mkdir()
    (top / "etc").mkdir(mode=0o750)
    (top / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    os.chown(top / "etc/passwd", 1000, 3_000_000)
    os.link(top / "etc/passwd", top / "etc/linked")
    (top / ("long" * 60)).write_bytes(os.urandom(70_000))
    deep = top / "/".join([f"directory-{n}" for n in range(20)])
    deep.mkdir(parents=True)
    (deep / ("name" * 30)).symlink_to("target" * 30)
    os.link(deep / ("name" * 30), deep / "link to link", follow_symlinks=False)
    (top / b"caf\xe9 \n".decode("latin-1")).touch()
    os.mkfifo(top / "fifo", 0o600)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with open(top / "sparse", "wb") as opened:
        opened.truncate(50 << 20)
        for offset in range(0, 50 << 20, 5 << 20):
            opened.seek(offset)
            opened.write(b"data" * 1024)
    (top / "set-id").write_bytes(b"#!")
    os.chown(top / "set-id", 7, 8)
    os.setxattr(top / "set-id", "security.capability", CAPABILITY)
    os.chmod(top / "set-id", 0o6711)
    os.setxattr(top / "etc", "user.note", b"a=b\nc\0d")
    os.setxattr(top / "etc/passwd", "system.posix_acl_access", ACL)
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 10**18 + number * 1_000_000_007), follow_symlinks=False)
    os.utime(top, ns=(0, 10**18))
    return top


def same(one: Path, other: Path, *, times: bool = True, xattrs: bool = True) -> None:
    left, right = tree(one, times=times), tree(other, times=times)
    assert left.keys() == right.keys()
    for name in left:
        a, b = left[name], right[name]
        assert a[:7] == b[:7], name
        assert not xattrs or a[7] == b[7], name


@pytest.mark.parametrize("sparse", [(), ("-S", "--sparse-version=0.0"), ("-S", "--sparse-version=0.1"), ("-S",)])
def test_a_pax_archive_of_gnu_tar_becomes_the_tree_that_it_was_made_of(stack: Stack, sparse: tuple[str, ...]) -> None:
    source = furnished(stack.top / "source")
    tar = ["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--acls", *sparse, "-C", str(source), "-cf", "-", "."]
    archive = subprocess.run(tar, check=True, capture_output=True).stdout
    stack.paths.append(stack.top / "made")
    stack.last.mkdir()
    done = apply_layer(io.BytesIO(archive), str(stack.last))
    assert done.complete
    same(source, stack.last, xattrs=False)
    wanted = {name: found for name, found in tree(source).items() if name != "etc/passwd"}
    assert all(tree(stack.last)[name][7] == found[7] for name, found in wanted.items())
    if sparse:
        assert (stack.last / "sparse").stat().st_blocks == (source / "sparse").stat().st_blocks


@pytest.mark.parametrize("format", ["gnu", "oldgnu", "gnu -S", "oldgnu -S"])
def test_other_formats_of_gnu_tar_lose_no_more_than_they_must(stack: Stack, format: str) -> None:
    source = furnished(stack.top / "source")
    name, *options = format.split()
    archive = subprocess.run(
        ["tar", f"--format={name}", *options, "-C", str(source), "-cf", "-", "."], check=True, capture_output=True
    ).stdout
    stack.paths += [stack.top / "made", stack.top / "theirs"]
    for path in stack.paths:
        path.mkdir()
    apply_layer(io.BytesIO(archive), str(stack.paths[0]))
    subprocess.run(["tar", "--numeric-owner", "-p", "-C", str(stack.paths[1]), "-xf", "-"], input=archive, check=True)
    same(stack.paths[1], stack.paths[0])


def test_gnu_tar_reads_what_is_written(stack: Stack) -> None:
    source = furnished(stack.top / "source")
    out = io.BytesIO()
    write_tree(str(source), out, whole=True)
    (stack.top / "theirs").mkdir()
    subprocess.run(
        ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-p", "-C", str(stack.top / "theirs"), "-xf", "-"],
        input=out.getvalue(), check=True,
    )  # fmt: skip
    same(source, stack.top / "theirs", xattrs=False)
    for name in ("etc", "set-id"):
        assert facts(stack.top / "theirs" / name)[7] == facts(source / name)[7]


# There and back.


@pytest.mark.parametrize("kind", list(Compression))
def test_a_tree_that_was_written_and_applied_is_the_same_and_is_written_the_same(stack: Stack, kind: Compression) -> None:
    source = furnished(stack.top / "source")
    stack.add(directory(b"d"), file(b"gone"), directory(b"d/opaque"))
    os.mknod(source / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (source / "d/opaque").mkdir(parents=True)
    os.setxattr(source / "d/opaque", "trusted.overlay.opaque", b"y")
    plain, packed = io.BytesIO(), io.BytesIO()
    first = write_tree(str(source), plain)
    plain.seek(0)
    compress(plain, packed, kind)
    packed.seek(0)
    copy = stack.top / "copy"
    copy.mkdir()
    done = apply_layer(packed, str(copy), [str(stack.last)])
    assert (done.diff_id, done.entries, done.complete) == (first.diff_id, first.entries, True)
    again = io.BytesIO()
    assert write_tree(str(copy), again) == first
    assert again.getvalue() == plain.getvalue()
    os.utime(source, ns=(0, 0))
    os.utime(copy, ns=(0, 0))
    os.unlink(source / "gone")
    os.unlink(copy / "gone")
    os.utime(source, ns=(0, 0))
    os.utime(copy, ns=(0, 0))
    same(source, copy)


def test_times_are_at_most_what_was_asked_for(stack: Stack) -> None:
    stack.add(file(b"a", mtime=5), file(b"b", mtime=2000), pax((b"mtime", b"1000.5")) + file(b"c"))
    out = io.BytesIO()
    write_tree(str(stack.last), out, times_at_most_s=1000)
    stack.add(out.getvalue()[:-1024])
    assert [(stack.last / name).stat().st_mtime for name in "abc"] == [5, 1000, 1000]


def test_a_name_that_would_be_a_mark_cannot_be_in_a_layer_but_in_an_export(stack: Stack) -> None:
    stack.add()
    (stack.last / ".wh.a").touch()
    with pytest.raises(OperationError, match=r"\.wh\.a cannot be in a layer"):
        write_tree(str(stack.last), io.BytesIO())
    assert write_tree(str(stack.last), io.BytesIO(), whole=True).entries == 2


def test_a_tree_of_any_depth_is_written(stack: Stack) -> None:
    top, depth = stack.top / "deep", 1000
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    assert write_tree(str(top), io.BytesIO()).entries == depth
    trees.remove_tree(str(top))


# Any layers at all, against a model.

NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
PARTS: st.SearchStrategy[Callable[[], bytes]] = st.one_of(
    PATHS.map(lambda path: lambda: directory(path)),
    PATHS.map(lambda path: lambda: file(path, path)),
    st.tuples(PATHS, NAMES).map(lambda two: lambda: file((two[0].rpartition(b"/")[0] or b".") + b"/.wh." + two[1])),
    PATHS.map(lambda path: lambda: file(path + b"/.wh..wh..opq")),
    st.tuples(PATHS, PATHS).map(lambda two: lambda: symlink(two[0], b"/" + two[1])),
    st.tuples(PATHS, PATHS).map(lambda two: lambda: hardlink(*two)),
)


@given(st.lists(st.lists(PARTS, max_size=6), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_layers_are_applied_or_refused_and_written_back(
    tmp_path: Path, layers: list[list[Callable[[], bytes]]]
) -> None:
    top = tmp_path / "random"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    stack = Stack(top)
    for parts in layers:
        try:
            done = stack.add(*[part() for part in parts])
        except OperationError:
            shutil.rmtree(stack.paths.pop())
            continue
        first, copy = io.BytesIO(), top / "copy"
        packed = write_tree(str(stack.last), first)
        copy.mkdir()
        again = apply_layer(io.BytesIO(first.getvalue()), str(copy), stack.lowers)
        assert again.diff_id == packed.diff_id
        same(stack.last, copy)
        shutil.rmtree(copy)
        if done.complete:  # Then nothing of it came from below.
            copy.mkdir()
            apply_layer(io.BytesIO(b"".join(part() for part in parts) + END), str(copy), [str(p) for p in stack.paths[:-1]])
            same(stack.last, copy)
            shutil.rmtree(copy)
