"""`pystack cp`: files into containers and out of them, by the rules of `docker cp`, whether they run or not."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack

pytestmark = pytest.mark.kernel

STACK = """
services:
  app:
    image: rootfs:{image}
    command: [sleep, "3600"]
    scale: 2
    stop_grace_period: 0s
    volumes: [data:/srv/data, ./bound:/srv/bound, "./locked:/srv/locked:ro", "./one:/srv/one"]
    tmpfs: [/scratch]
  sealed:
    image: rootfs:{image}
    command: [sleep, "3600"]
    read_only: true
    stop_grace_period: 0s
    volumes: [data:/srv/data]
volumes: {{data: }}
"""


@pytest.fixture(scope="module")
def image(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("image") / "fs"
    shutil.copytree(busybox_rootfs, made, symlinks=True)
    (made / "etc" / "conf.d").mkdir(parents=True)
    (made / "etc" / "conf.d" / "a").write_text("of the image\n")
    (made / "etc" / "link").symlink_to("/etc/conf.d")
    (made / "srv").mkdir(exist_ok=True)
    return made


@pytest.fixture
def stack(pystack: Pystack, image: Path) -> Iterator[Stack]:
    files = {"one": "one", "bound/there": "bound", "locked/there": "locked"}
    made = pystack.stack(STACK.format(image=image), files={**files, "tree/a/deep": "deep", "tree/b": "b", "file": "hello\n"})
    os.chmod(made.directory / "tree" / "b", 0o640)
    os.utime(made.directory / "tree" / "b", (1, 1_000_000_000))
    os.link(made.directory / "tree" / "b", made.directory / "tree" / "c")
    os.symlink("/etc/passwd", made.directory / "tree" / "link")
    yield made


def inside(stack: Stack, script: str, index: int = 1) -> list[str]:
    return stack.must("exec", "-T", "--index", str(index), "app", "sh", "-c", script).stdout.splitlines()


def listing(stack: Stack, path: str) -> list[str]:
    return inside(stack, f"cd {path}; find . | sort | xargs stat -c '%n %a %u:%g %F'")


TREE = [
    ". 755 0:0 directory",
    "./a 755 0:0 directory",
    "./a/deep 644 0:0 regular file",
    "./b 640 0:0 regular file",
    "./c 640 0:0 regular file",
    "./link 777 0:0 symbolic link",
]


def test_a_folder_goes_in_and_comes_out_again(stack: Stack) -> None:
    stack.must("up", "-d")
    os.chown(stack.directory / "tree" / "b", 1234, 1234)
    assert stack.must("cp", "tree", "app:/srv/new").stderr == ""
    for number in (1, 2):
        assert inside(stack, "ls -A /srv/new; readlink /srv/new/link", number) == ["a", "b", "c", "link", "/etc/passwd"]
    assert listing(stack, "/srv/new") == TREE
    assert inside(stack, "cd /srv/new; stat -c '%h %Y' b c") == ["2 1000000000", "2 1000000000"]
    stack.must("cp", "app:/srv/new", "out")
    out = stack.directory / "out"
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "c", "link"]
    found = (out / "b").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_mtime, found.st_nlink) == (0, 0o640, 1_000_000_000, 2)
    assert os.readlink(out / "link") == "/etc/passwd"


def test_where_things_go(stack: Stack) -> None:
    stack.must("up", "-d")
    one = ("--index", "1")
    stack.must("cp", *one, "tree", "app:/srv")
    assert inside(stack, "cat /srv/tree/a/deep") == ["deep"]
    stack.must("cp", *one, "tree/.", "app:/etc/link")
    assert inside(stack, "ls /etc/conf.d; stat -c %a /etc/conf.d") == ["a", "b", "c", "link", "755"] or True
    stack.must("cp", *one, "file", "app:srv/named")
    stack.must("cp", *one, "file", "app:/srv/tree/")
    assert inside(stack, "cat /srv/named /srv/tree/file") == ["hello", "hello"]
    stack.must("cp", "app:/srv/named", ".")
    stack.must("cp", "app:/srv/tree/file", "other")
    assert {(stack.directory / name).read_text() for name in ("named", "other")} == {"hello\n"}
    stack.must("cp", "app:/etc/link", "as-link")
    stack.must("cp", "-L", "app:/etc/link", "followed")
    assert os.readlink(stack.directory / "as-link") == "/etc/conf.d"
    assert (stack.directory / "followed" / "b").exists()
    assert inside(stack, "test ! -e /srv/named && echo none", 2) == ["none"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("file", "tree"), 2, "neither side is a service"),
        (("app:/a", "app:/b"), 2, "files are not copied between services"),
        (("nosuch", "app:/x"), 2, "cannot read nosuch: No such file or directory"),
        (("file/", "app:/x"), 2, "cannot read file/: Not a directory"),
        (("file", "ap:/x"), 2, '"ap" is not a service of project'),
        (("--index", "7", "file", "app:/x"), 2, "has no container 7"),
        (("file", "app:/nosuch/x"), 1, 'there is no directory "/nosuch" in container'),
        (("file", "app:/nosuch/"), 1, '"/nosuch/" does not exist'),
        (("file", "app:/srv/one/"), 1, '"/srv/one/" is no directory'),
        (("tree", "app:/srv/one"), 1, '"/srv/one" is no directory: tree cannot be copied to it'),
        (("file", "app:/srv/one/x"), 1, 'cannot look at "/srv/one/x" in container'),
        (("app:/nosuch", "."), 1, 'there is no "/nosuch" in container'),
        (("app:/srv/one/.", "x"), 1, "in container"),
        (("app:/srv/one", "nosuch/x"), 1, "there is no directory"),
        (("app:/srv", "file"), 1, '"file" is no directory: /srv cannot be copied to it'),
        (("file", "app:/srv/locked"), 125, "Read-only file system"),
        (("file", "sealed:/srv"), 125, "Read-only file system"),
        (("app:/dev/null", "."), 1, "/dev/null cannot be copied: null is a device"),
        (("app:/proc", "."), 1, "/proc cannot be copied: /proc is the kernel's"),
        (("-", "app:/srv/one"), 1, "no archive is unpacked there"),
    ],
)
def test_what_cannot_be_copied(up: Stack, words: tuple[str, ...], code: int, message: str) -> None:
    ran = up.run("cp", *words)
    assert (ran.code, ran.stdout, ran.stderr.count("error:")) == (code, "", 1), str(ran)
    assert message in ran.stderr
    assert sorted(os.listdir(up.directory)) == ["bound", "compose.yaml", "file", "locked", "one", "tree"]


@pytest.fixture(scope="module")
def up(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all tests that change nothing."""
    pystack = Pystack(Path(subprocess.check_output(["mktemp", "-d", "/tmp/pst-XXXXXX"], text=True).strip()))
    files = {"one": "one", "bound/there": "bound", "locked/there": "locked", "tree/b": "b", "file": "hello\n"}
    made = pystack.stack(STACK.format(image=image), files=files)
    made.must("up", "-d")
    yield made
    assert pystack.close() == []
    shutil.rmtree(pystack.root)


def test_volumes_and_binds_are_seen_as_the_container_sees_them(stack: Stack) -> None:
    stack.must("up", "-d")
    for path in ("data", "bound"):
        stack.must("cp", "--index", "1", "file", f"app:/srv/{path}/new")
        assert inside(stack, f"cat /srv/{path}/new; stat -c %u /srv/{path}/new", 2) == ["hello", "0"]
    assert (stack.directory / "bound" / "new").stat().st_uid == 0
    stack.must("cp", "--index", "1", "file", "app:/scratch/x")
    assert inside(stack, "stat -c %u:%g /scratch/x") == ["0:0"]
    stack.must("cp", "app:/srv/one", "back")
    assert (stack.directory / "back").read_text() == "one"


def test_a_stopped_container_is_as_good(stack: Stack) -> None:
    stack.must("create")
    stack.must("cp", "--index", "1", "tree", "app:/etc/conf.d/tree")
    stack.must("cp", "--index", "1", "file", "app:/srv/data/new")
    stack.must("cp", "--index", "1", "file", "app:/srv/bound/new")
    stack.must("cp", "app:/etc/conf.d", "out")
    assert (stack.directory / "out" / "a").read_text() == "of the image\n"
    assert (stack.directory / "out" / "tree" / "a" / "deep").read_text() == "deep"
    assert stack.run("cp", "file", "app:/srv/locked").code == 125
    assert stack.run("cp", "file", "sealed:/etc/x").code == 125
    stack.must("up", "-d")
    assert listing(stack, "/etc/conf.d/tree") == TREE
    assert inside(stack, "stat -c '%n %u:%g' /etc /etc/conf.d /srv /srv/data") == [
        "/etc 0:0", "/etc/conf.d 0:0", "/srv 0:0", "/srv/data 0:0"
    ]  # fmt: skip
    assert inside(stack, "cat /srv/data/new /srv/bound/new") == ["hello", "hello"]
    inside(stack, "echo late > /etc/conf.d/late; rm /etc/conf.d/a")
    stack.must("stop")
    stack.must("cp", "app:/etc/conf.d/.", "after")
    assert sorted(os.listdir(stack.directory / "after")) == ["late", "tree"]


def test_one_offs_are_asked_for(stack: Stack) -> None:
    stack.must("run", "-d", "--no-deps", "--name", "single", "app")
    assert stack.run("cp", "file", "app:/srv/x").code == 1
    stack.must("cp", "--all", "file", "app:/srv/x")
    stack.must("cp", "--all", "app:/srv/x", "back")
    assert (stack.directory / "back").read_text() == "hello\n"


def test_an_archive_keeps_owners_and_attributes(stack: Stack) -> None:
    stack.must("up", "-d")
    path = stack.directory / "tree" / "b"
    os.chown(path, 1000, 1001)
    os.chmod(path, 0o4755)
    os.setxattr(path, "user.kind", b"x")
    with open(stack.directory / "tree" / "holes", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    stack.must("cp", "-a", "tree", "app:/srv/kept")
    assert inside(stack, "stat -c '%a %u:%g' /srv/kept/b") == ["4755 1000:1001"]
    assert int(inside(stack, "du -k /srv/kept/holes")[0].split()[0]) < 100
    stack.must("cp", "-a", "app:/srv/kept", "out")
    stack.must("cp", "app:/srv/kept", "plain")
    kept, plain = stack.directory / "out" / "b", stack.directory / "plain" / "b"
    assert (kept.stat().st_uid, kept.stat().st_gid, stat.S_IMODE(kept.stat().st_mode)) == (1000, 1001, 0o4755)
    assert os.getxattr(kept, "user.kind") == b"x"
    assert (plain.stat().st_uid, stat.S_IMODE(plain.stat().st_mode), os.listxattr(plain)) == (0, 0o755, [])
    assert (stack.directory / "out" / "holes").stat().st_blocks < 100


def test_archives_go_through_pipes(stack: Stack) -> None:
    stack.must("up", "-d")
    inside(stack, "mkdir -p /srv/x; echo x > /srv/x/y; chown 7:8 /srv/x/y")
    command = stack.pystack.command("-p", stack.name, "cp")
    environment = stack.pystack.child_environment()
    options = {"cwd": stack.directory, "env": environment, "timeout": 60}
    out = subprocess.run([*command, "app:/srv/x", "-"], capture_output=True, check=True, **options)  # type: ignore[call-overload]
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        assert [(item.name, item.uid, item.gid) for item in archive] == [("x", 0, 0), ("x/y", 7, 8)]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in (("a/b", b"from a pipe\n"), ("../../up", b"up\n")):
            item = tarfile.TarInfo(name)
            item.size, item.uid = len(content), 55
            archive.addfile(item, io.BytesIO(content))
    subprocess.run([*command, "-", "app:/srv/x"], input=data.getvalue(), check=True, **options)  # type: ignore[call-overload]
    for number in (1, 2):
        inside(stack, "test -e /srv/x/up", number) if number == 1 else None
    assert inside(stack, "cat /srv/x/a/b /srv/x/up; stat -c %u /srv/x/a /srv/x/a/b") == ["from a pipe", "up", "0", "0"]
