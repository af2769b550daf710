"""The view of several trees: links inside the root, marks, and paths that lead nowhere."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.images.unpack.lowers import open_inside
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel.trees import remove_tree


@pytest.fixture
def lowers(tmp_path: Path) -> list[str]:
    """Topmost first."""
    top, middle, bottom = (tmp_path / name for name in ("top", "middle", "bottom"))
    for path in (top / "etc", middle / "etc/deep", bottom / "etc/deep", bottom / "var"):
        path.mkdir(parents=True)
    (bottom / "etc/passwd").write_text("bottom")
    (bottom / "etc/group").write_text("bottom")
    (middle / "etc/passwd").write_text("middle")
    (bottom / "etc/deep/a").touch()
    (middle / "etc/deep/b").touch()
    (top / "run").symlink_to("/var/../var")
    (top / "out").symlink_to("../" * 30 + "etc/passwd")
    (top / "loop").symlink_to("loop")
    (top / "etc/dangling").symlink_to("/nowhere/file")
    (top / "etc/var").symlink_to("../run/")
    return [str(path) for path in (top, middle, bottom)]


@pytest.fixture
def merged(lowers: list[str]) -> Iterator[Merged]:
    with Merged(lowers) as view:
        yield view


def read(merged: Merged, path: str) -> bytes:
    with merged.open(path) as opened:
        return opened.read()


def test_the_topmost_file_is_shown_and_directories_are_put_together(merged: Merged, lowers: list[str]) -> None:
    assert read(merged, "/etc/passwd") == b"middle"
    assert read(merged, "etc/../etc//group") == b"bottom"
    assert merged.listdir("/") == ["etc", "loop", "out", "run", "var"]
    assert merged.listdir("/etc/deep") == ["a", "b"]
    assert merged.real("/etc/passwd") == f"{lowers[1]}/etc/passwd"
    assert merged.real("/") == lowers[0] + "/"
    assert merged.real("/etc/none") is None


def test_links_are_followed_inside_the_root(merged: Merged) -> None:
    assert merged.resolve("/run/x/../y") == "/var/y"
    assert merged.resolve("/etc/var") == "/var"
    assert read(merged, "/out") == b"middle"
    assert merged.resolve("/etc/dangling/more") == "/nowhere/file/more"
    assert merged.readlink("/run") == "/var/../var"
    assert merged.listdir("/etc/var") == []
    found = merged.stat("/run")
    assert found is not None
    assert stat.S_ISLNK(found.st_mode)


def test_what_is_not_there_or_no_file_is_an_oserror(merged: Merged) -> None:
    for function, path, number in [
        (merged.open, "/none", errno.ENOENT), (merged.open, "/etc", errno.EISDIR), (merged.open, "/loop", errno.ELOOP),
        (merged.listdir, "/etc/passwd", errno.ENOTDIR), (merged.listdir, "/none", errno.ENOENT),
        (merged.stat, "/etc/passwd/x", errno.ENOTDIR), (merged.readlink, "/etc", errno.EINVAL),
        (merged.readlink, "/none", errno.ENOENT), (merged.resolve, "/loop/x", errno.ELOOP),
    ]:  # fmt: skip
        with pytest.raises(OSError) as caught:
            function(path)
        assert caught.value.errno == number, path
    assert merged.stat("/none/x") is None


def test_a_fifo_is_not_waited_for(merged: Merged, lowers: list[str]) -> None:
    os.mkfifo(f"{lowers[0]}/fifo")
    with pytest.raises(OSError, match="Invalid argument"):
        merged.open("/fifo")


def test_no_trees_show_nothing() -> None:
    with Merged([]) as merged:
        assert merged.stat("/") is None
        assert merged.stat("/x") is None


def test_a_view_that_is_forgotten_lets_go_of_its_directories(lowers: list[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    Merged(lowers).listdir("/etc")
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        Merged([*lowers, "/nowhere"])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_longer_than_the_kernel_takes_is_opened_in_steps(tmp_path: Path) -> None:
    name = b"n" * 250
    top = at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        if at != top:
            os.close(at)
        at = below
    before = len(os.listdir("/proc/self/fd"))
    found = open_inside(top, b"/".join([name] * 40), os.O_RDONLY)
    assert os.fstat(found).st_ino == os.fstat(at).st_ino
    for fd in (found, at, top):
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before - 2
    remove_tree(str(tmp_path), keep_top=True)
