"""Trees as containers leave them: deep, wide, odd names, changing, forbidden, protected."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
from pathlib import Path

import pytest

from orchestrator.kernel import trees
from orchestrator.kernel.trees import copy_tree, remove_tree

DEPTH = 5_000
SETFLAGS, IMMUTABLE = 0x40086602, 0x10


def dig(top: Path, depth: int) -> None:
    """`depth` nested directories, with a file in the last."""
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def depth_of(top: Path) -> int:
    at, depth = os.open(top, os.O_RDONLY), 0
    while "d" in os.listdir(at):
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at, depth = below, depth + 1
    assert os.listdir(at) == ["file"]
    os.close(at)
    return depth


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_tree_of_any_depth_is_copied_and_deleted_with_no_more_descriptors(tmp_path: Path) -> None:
    before = open_fds()
    dig(tmp_path / "deep", DEPTH)
    (tmp_path / "copy").mkdir()
    source, target = (os.open(tmp_path / name, os.O_RDONLY) for name in ("deep", "copy"))
    copy_tree(source, target)
    os.close(source)
    os.close(target)
    assert depth_of(tmp_path / "copy") == DEPTH
    assert remove_tree(str(tmp_path / "deep"))
    assert remove_tree(str(tmp_path / "copy"))
    assert list(tmp_path.iterdir()) == []
    assert open_fds() <= before  # What others left open may have been collected meanwhile.


def test_more_sub_directories_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_MOST_NAMES", 10)
    for number in range(60):
        (tmp_path / "top" / f"a{number}" / "b" / "c").mkdir(parents=True)
        (tmp_path / "top" / f"a{number}" / "file").touch()
    assert remove_tree(str(tmp_path / "top"))
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_bytes(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path / "top")
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" ", b"*", b"\x01", "é".encode(), b"x" * 255):
        os.makedirs(top + b"/" + name + b"/" + name)
        with open(top + b"/" + name + b"/file\xff", "wb"):
            pass
    assert remove_tree(str(tmp_path / "top"), keep_top=True)
    assert os.listdir(top) == []


def test_what_nobody_may_enter_is_deleted(tmp_path: Path) -> None:
    """Also by somebody who is not root, and owns it."""
    inner = tmp_path / "top" / "closed" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0)
    (tmp_path / "top" / "closed").chmod(0)
    for path in (tmp_path, tmp_path / "top"):
        path.chmod(0o755)
    uid = 65534 if os.geteuid() == 0 else os.geteuid()
    for path in (tmp_path, tmp_path / "top", tmp_path / "top" / "closed"):
        os.chown(path, uid, -1)
    os.chown(inner, uid, -1)
    os.chmod(tmp_path.parent, 0o755)
    os.chmod(tmp_path.parent.parent, 0o755)
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(tmp_path)
            os.setresuid(uid, uid, uid)
            os._exit(0 if remove_tree("top") else 2)
        except BaseException as exc:
            os.write(2, repr(exc).encode())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not (tmp_path / "top").exists()


def test_an_immutable_file_is_said_plainly(tmp_path: Path) -> None:
    top = tmp_path / "top" / "in"
    top.mkdir(parents=True)
    (top / "fixed").touch()
    with open(top / "fixed") as file:
        try:
            fcntl.ioctl(file, SETFLAGS, struct.pack("@l", IMMUTABLE))
        except OSError:
            pytest.skip("this file system has no immutable files, or we may not make one")
        try:
            with pytest.raises(OSError, match="it is marked immutable") as caught:
                remove_tree(str(tmp_path / "top"))
            assert caught.value.errno == errno.EPERM
            assert caught.value.filename == str(top / "fixed")
        finally:
            fcntl.ioctl(file, SETFLAGS, struct.pack("@l", 0))
    assert remove_tree(str(tmp_path / "top"))


def test_a_tree_that_changes_while_it_is_deleted(tmp_path: Path) -> None:
    """Somebody deletes in it too, and swaps directories with links and files: nothing outside is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    top = tmp_path / "top"
    for number in range(300):
        (top / f"d{number}" / "e").mkdir(parents=True)
        (top / f"d{number}" / "e" / "f").touch()
    begun = threading.Event()

    def disturb() -> None:
        begun.set()
        for number in reversed(range(300)):
            try:
                os.rename(top / f"d{number}", top / f"moved{number}")
                os.symlink(outside, top / f"d{number}")
                os.unlink(top / f"moved{number}" / "e" / "f")
            except OSError:
                continue

    thread = threading.Thread(target=disturb)
    thread.start()
    begun.wait()
    try:
        remove_tree(str(top))
    except OSError as exc:
        # It came back at the very last moment, or was moved away under our feet.
        assert exc.errno in (errno.ENOTEMPTY, errno.ESTALE)  # noqa: PT017
    thread.join()
    if top.exists():
        assert remove_tree(str(top))
    assert (outside / "precious").read_text() == "x"
    assert not top.exists()


def test_an_error_deep_down_has_a_short_path(tmp_path: Path) -> None:
    walk = trees._Removal(os.open(tmp_path, os.O_RDONLY), "/top")
    walk.names = [str(number) for number in range(5000)]
    assert walk._where("x") == "/top/.../4996/4997/4998/4999/x"
    os.close(walk.current)


def test_a_copy_has_modes_times_owners_links_and_fifos(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "sub" / "empty").mkdir(parents=True)
    target.mkdir()
    (source / "sub" / "file").write_bytes(b"data" * 1000)
    (source / "sub" / "file").chmod(0o4751)
    (source / "sub" / "link").symlink_to("/nowhere")
    os.mkfifo(source / "sub" / "fifo", 0o604)
    (source / "sub").chmod(0o1770)
    os.utime(source / "sub" / "file", ns=(1_000_000_001, 2_000_000_002))
    os.utime(source / "sub", ns=(3_000_000_003, 4_000_000_004))
    ends = [os.open(path, os.O_RDONLY) for path in (source, target)]
    copy_tree(*ends)
    for fd in ends:
        os.close(fd)
    assert (target / "sub" / "file").read_bytes() == b"data" * 1000
    assert os.readlink(target / "sub" / "link") == "/nowhere"
    assert sorted(os.listdir(target / "sub")) == ["empty", "fifo", "file", "link"]
    for name in ("sub", "sub/empty", "sub/file", "sub/fifo"):
        one, other = (os.lstat(path / name) for path in (source, target))
        assert stat.filemode(one.st_mode) == stat.filemode(other.st_mode)
    assert os.stat(target / "sub" / "file").st_mtime_ns == 2_000_000_002
    assert os.stat(target / "sub").st_mtime_ns == 4_000_000_004
    assert os.stat(target / "sub" / "fifo").st_mtime_ns == os.stat(source / "sub" / "fifo").st_mtime_ns


def test_a_copy_has_holes_and_the_whiteouts_that_are_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate(128 << 20)
    (source / "hole").touch()
    os.truncate(source / "hole", 1 << 20)
    os.mknod(source / "deleted", stat.S_IFCHR, os.makedev(0, 0))
    for whiteouts in (False, True):
        target = tmp_path / str(whiteouts)
        target.mkdir()
        ends = [os.open(path, os.O_RDONLY) for path in (source, target)]
        copy_tree(*ends, whiteouts=whiteouts)
        for fd in ends:
            os.close(fd)
        assert sorted(os.listdir(target)) == [*(["deleted"] if whiteouts else []), "hole", "sparse"]
        assert (os.stat(target / "sparse").st_size, os.stat(target / "hole").st_size) == (128 << 20, 1 << 20)
        assert os.stat(target / "sparse").st_blocks == os.stat(source / "sparse").st_blocks
        with open(target / "sparse", "rb") as file:
            assert file.read(6) == b"begin\0"
            file.seek(64 << 20)
            assert file.read(4) == b"end\0"
    found = os.lstat(tmp_path / "True" / "deleted")
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == 0
