"""`pystack cp`: files into containers and out of them, by the rules of `docker cp`, whether they run or not."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import running

pytestmark = pytest.mark.kernel

STACK = """
services:
  app:
    image: rootfs:{image}
    command: [sleep, "3600"]
    scale: 2
    stop_grace_period: 0s
    volumes: [data:/srv/data, ./bound:/srv/bound, kept:/srv/kept-volume, "./locked:/srv/locked:ro", "./one:/srv/one"]
    tmpfs: [/scratch]
  sealed:
    image: rootfs:{image}
    command: [sleep, "3600"]
    read_only: true
    stop_grace_period: 0s
    volumes: [data:/srv/data]
volumes: {{data: , kept: {{driver_opts: {{type: tmpfs, device: tmpfs}}}}}}
"""


@pytest.fixture(scope="module")
def image(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("image") / "fs"
    shutil.copytree(busybox_rootfs, made, symlinks=True)
    (made / "etc" / "conf.d").mkdir(parents=True)
    (made / "etc" / "conf.d" / "of-the-image").write_text("of the image\n")
    (made / "etc" / "link").symlink_to("/etc/conf.d")
    (made / "srv").mkdir(exist_ok=True)
    return made


@dataclass
class Bench:
    """A stack that is up, for all tests: each has names of its own in the containers, and a directory to copy to."""

    stack: Stack
    directory: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code, and what was said."""
        self.capture.readouterr()
        code = main(["-p", self.stack.name, "cp", *words])
        out, err = self.capture.readouterr()
        assert out == ""
        return code, err

    def must(self, *words: str) -> None:
        assert self.run(*words) == (0, "")


@pytest.fixture(scope="module")
def up(image: Path) -> Iterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="pst-", dir="/tmp"))
    pystack = Pystack(root)
    made = pystack.stack(STACK.format(image=image), files={"one": "one", "bound/there": "bound", "locked/there": "locked"})
    made.must("up", "-d")
    yield made
    assert pystack.close() == []
    shutil.rmtree(root)


def bench(stack: Stack, directory: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> Bench:
    for name, value in stack.pystack.child_environment().items():
        if name.startswith("PYSTACK_"):
            patch.setenv(name, value)
    patch.chdir(directory)
    return Bench(stack, directory, capture)


@pytest.fixture
def stack(up: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    for path, content in {"tree/a/deep": "deep", "tree/b": "b", "file": "hello\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    os.chmod(tmp_path / "tree" / "b", 0o640)
    os.utime(tmp_path / "tree" / "b", (1, 1_000_000_000))
    os.link(tmp_path / "tree" / "b", tmp_path / "tree" / "c")
    os.symlink("/etc/passwd", tmp_path / "tree" / "link")
    return bench(up, tmp_path, monkeypatch, capsys)


def inside(stack: Bench | Stack, script: str, index: int = 1) -> list[str]:
    where = stack.stack if isinstance(stack, Bench) else stack
    return where.must("exec", "-T", "--index", str(index), "app", "sh", "-c", script).stdout.splitlines()


def listing(stack: Bench | Stack, path: str) -> list[str]:
    return inside(stack, f"cd {path}; find . | sort | xargs stat -c '%n %a %u:%g %F'")


TREE = [
    ". 755 0:0 directory",
    "./a 755 0:0 directory",
    "./a/deep 644 0:0 regular file",
    "./b 640 0:0 regular file",
    "./c 640 0:0 regular file",
    "./link 777 0:0 symbolic link",
]


def test_a_folder_goes_in_and_comes_out_again(stack: Bench) -> None:
    os.chown(stack.directory / "tree" / "b", 1234, 1234)
    stack.must("tree", "app:/srv/new")
    for number in (1, 2):
        assert inside(stack, "ls -A /srv/new; readlink /srv/new/link", number) == ["a", "b", "c", "link", "/etc/passwd"]
    assert listing(stack, "/srv/new") == TREE
    assert inside(stack, "cd /srv/new; stat -c '%h %Y' b c") == ["2 1000000000", "2 1000000000"]
    stack.must("app:/srv/new", "out")
    out = stack.directory / "out"
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "c", "link"]
    found = (out / "b").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_mtime, found.st_nlink) == (0, 0o640, 1_000_000_000, 2)
    assert os.readlink(out / "link") == "/etc/passwd"


def test_where_things_go(stack: Bench) -> None:
    one = ("--index", "1")
    stack.must(*one, "tree", "app:/srv")
    assert inside(stack, "cat /srv/tree/a/deep") == ["deep"]
    stack.must(*one, "tree/.", "app:/etc/link")
    assert inside(stack, "ls /etc/conf.d; stat -c %a /etc/conf.d") == ["a", "b", "c", "link", "of-the-image", "755"]
    stack.must(*one, "file", "app:srv/named")
    stack.must(*one, "file", "app:/srv/tree/")
    assert inside(stack, "cat /srv/named /srv/tree/file") == ["hello", "hello"]
    stack.must("app:/srv/named", ".")
    stack.must("app:/srv/tree/file", "other")
    assert {(stack.directory / name).read_text() for name in ("named", "other")} == {"hello\n"}
    stack.must("app:/etc/link", "as-link")
    stack.must("-L", "app:/etc/link", "followed")
    stack.must("app:/etc/link/", "tree/a")
    assert os.readlink(stack.directory / "as-link") == "/etc/conf.d"
    assert (stack.directory / "followed" / "of-the-image").read_text() == "of the image\n"
    assert (stack.directory / "tree" / "a" / "link" / "b").read_text() == "b"
    assert inside(stack, "test ! -e /srv/named && echo none", 2) == ["none"]


def test_no_kind_takes_the_place_of_another(stack: Bench) -> None:
    inside(stack, "mkdir -p /srv/kinds/tree/b; echo x > /srv/kinds/tree/a")
    code, said = stack.run("--index", "1", "tree", "app:/srv/kinds")
    assert (code, said) == (1, "error: srv/kinds/tree/a is no directory there, and cannot be replaced by one\n")
    inside(stack, "rm /srv/kinds/tree/a")
    code, said = stack.run("--index", "1", "tree", "app:/srv/kinds")
    assert (code, said) == (1, "error: srv/kinds/tree/b is a directory there, and cannot be replaced by a file\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("file", "tree"), 2, "neither side is a service"),
        (("app:/a", "app:/b"), 2, "files are not copied between services"),
        (("nosuch", "app:/x"), 2, "cannot read nosuch: No such file or directory"),
        (("file/", "app:/x"), 2, "file/ is no directory"),
        (("file", "ap:/x"), 2, 'no such service: ap (did you mean "app"?)'),
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
        (("/dev/null", "app:/x"), 1, "/dev/null cannot be copied: /dev/null is a device"),
        (("app:/dev/null", "."), 1, "/dev/null cannot be copied: /dev/null is a device"),
        (("app:/proc", "."), 1, "/proc cannot be copied: /proc is the kernel's"),
        (("app:/proc/1/status", "."), 1, "/proc/1/status cannot be copied: /proc/1/status is the kernel's"),
    ],
)
def test_what_cannot_be_copied(stack: Bench, words: tuple[str, ...], code: int, message: str) -> None:
    found, said = stack.run(*words)
    assert (found, said.count("error:")) == (code, 1), said
    assert message in said
    assert sorted(os.listdir(stack.directory)) == ["file", "tree"]


def test_volumes_and_binds_are_seen_as_the_container_sees_them(stack: Bench) -> None:
    for path in ("data", "bound"):
        stack.must("--index", "1", "file", f"app:/srv/{path}/new")
        assert inside(stack, f"cat /srv/{path}/new; stat -c %u /srv/{path}/new", 2) == ["hello", "0"]
    assert (stack.stack.directory / "bound" / "new").stat().st_uid == 0
    stack.must("--index", "1", "file", "app:/scratch/x")
    assert inside(stack, "stat -c %u:%g /scratch/x") == ["0:0"]
    stack.must("app:/srv/one", "back")
    assert (stack.directory / "back").read_text() == "one"
    stack.must("--index", "1", "file", "app:/srv/one")  # It is mounted, so it cannot make way.
    assert inside(stack, "cat /srv/one", 2) == ["hello"]


def test_a_stopped_container_is_as_good(
    pystack: Pystack, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"one": "one", "locked/there": "locked", "tree/b": "b", "file": "hello\n"}
    made = pystack.stack(STACK.format(image=image), files=files)
    stack = bench(made, made.directory, monkeypatch, capsys)
    made.must("create")
    stack.must("--index", "1", "tree", "app:/etc/conf.d/tree")
    stack.must("--index", "1", "file", "app:/srv/data/new")
    stack.must("--index", "1", "file", "app:/srv/bound/new")
    stack.must("--index", "1", "file", "app:/srv/kept-volume/new")
    stack.must("app:/etc/conf.d", "out")
    assert (made.directory / "out" / "of-the-image").read_text() == "of the image\n"
    assert (made.directory / "out" / "tree" / "b").read_text() == "b"
    for target in ("app:/srv/locked", "sealed:/etc/x"):
        code, said = stack.run("file", target)
        assert (code, "Read-only file system" in said) == (125, True)
    stack.must("file", "app:/tmp/x")
    made.must("run", "-d", "--no-deps", "--name", "single", "app")
    stack.must("--all", "file", "app:/srv/everywhere")
    made.must("up", "-d")
    assert inside(made, "stat -c '%n %u:%g' /etc /etc/conf.d /etc/conf.d/tree/b /srv /srv/data /tmp/x /srv/everywhere") == [
        "/etc 0:0", "/etc/conf.d 0:0", "/etc/conf.d/tree/b 0:0", "/srv 0:0", "/srv/data 0:0", "/tmp/x 0:0",
        "/srv/everywhere 0:0",
    ]  # fmt: skip
    assert inside(made, "cat /srv/data/new /srv/bound/new /srv/kept-volume/new") == ["hello"] * 3
    inside(made, "echo late > /etc/conf.d/late; rm /etc/conf.d/of-the-image")
    made.must("stop", "app")
    stack.must("app:/etc/conf.d/.", "after")
    assert sorted(os.listdir(made.directory / "after")) == ["late", "tree"]


def test_an_archive_keeps_owners_and_attributes(stack: Bench) -> None:
    path = stack.directory / "tree" / "b"
    os.chown(path, 1000, 1001)
    os.chmod(path, 0o4755)
    os.setxattr(path, "user.kind", b"x")
    with open(stack.directory / "tree" / "holes", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    stack.must("-a", "tree", "app:/srv/kept")
    assert inside(stack, "stat -c '%a %u:%g' /srv/kept/b") == ["4755 1000:1001"]
    assert int(inside(stack, "du -k /srv/kept/holes")[0].split()[0]) < 100
    stack.must("-a", "app:/srv/kept", "out")
    stack.must("app:/srv/kept", "plain")
    kept, plain = stack.directory / "out" / "b", stack.directory / "plain" / "b"
    assert (kept.stat().st_uid, kept.stat().st_gid, stat.S_IMODE(kept.stat().st_mode)) == (1000, 1001, 0o4755)
    assert os.getxattr(kept, "user.kind") == b"x"
    assert (plain.stat().st_uid, stat.S_IMODE(plain.stat().st_mode), os.listxattr(plain)) == (0, 0o755, [])
    assert (stack.directory / "out" / "holes").stat().st_blocks < 100


def test_archives_go_through_pipes(stack: Bench) -> None:
    for number in (1, 2):
        inside(stack, "mkdir -p /srv/x; echo x > /srv/x/y; chown 7:8 /srv/x/y", number)
    pystack = stack.stack.pystack
    command = pystack.command("-p", stack.stack.name, "cp")
    options = {"cwd": stack.directory, "env": pystack.child_environment(), "timeout": 60}
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
        script = "cat /srv/x/a/b /srv/x/up; stat -c %u /srv/x/a /srv/x/a/b"
        assert inside(stack, script, number) == ["from a pipe", "up", "0", "0"]
    refused = subprocess.run([*command, "-", "app:/srv/one"], input=b"", capture_output=True, **options)  # type: ignore[call-overload]
    assert (refused.returncode, b"no archive is unpacked there" in refused.stderr) == (1, True)


STARTING = """
services:
  db:
    image: rootfs:{image}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    healthcheck: {{test: [CMD, test, -e, /go], interval: 100ms, retries: 100000}}
  app:
    image: rootfs:{image}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    depends_on: {{db: {{condition: service_healthy}}}}
"""


def test_a_container_that_is_about_to_start_is_waited_for_and_its_layer_is_not_mounted_beside_it(
    pystack: Pystack, image: Path
) -> None:
    stack = pystack.stack(STARTING.format(image=image), files={"one": "1\n"})
    with running(stack, "up", "-d") as up:
        eventually(lambda: stack.run("ps", "-a").code == 0 and stack.ps().get("app", {}).get("Phase") == "waiting")
        refused = stack.run("cp", "one", "app:/etc/one")
        assert refused.code == 1
        assert f"container {stack.name}-app-1 does not run yet, and is about to" in refused.stderr
        with running(stack, "cp", "one", "app:/etc/one") as copying:
            stack.must("exec", "-T", "db", "touch", "/go")
            assert copying.wait(30) == 0, copying.communicate()
        assert up.wait(30) == 0
    assert stack.must("exec", "-T", "app", "cat", "/etc/one").stdout == "1\n"
    stack.must("stop", "app")
    stack.must("cp", "one", "app:/etc/two")
    stack.must("start", "app")
    assert stack.must("exec", "-T", "app", "cat", "/etc/two").stdout == "1\n"
