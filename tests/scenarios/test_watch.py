"""`pystack watch` and `up --watch`: real files, real containers, real builds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

SLEEPER = 'command: [sleep, "3600"], stop_grace_period: 0s, image: "rootfs:{image}"'
BOTH = """
services:
  app:
    image: rootfs:{image}
    command: [sleep, "3600"]
    user: "1000:1001"
    scale: 2
    stop_grace_period: 0s
    develop:
      watch:
        - {{path: ./src, action: sync, target: /srv/app, ignore: [node_modules/, "*.tmp"]}}
        - {{path: ./one.conf, action: sync, target: /etc/one/app.conf}}
  other:
    image: rootfs:{image}
    command: [sleep, "3600"]
    stop_grace_period: 0s
"""


class Watch:
    """A `pystack` command that watches, and what it has said."""

    def __init__(self, stack: Stack, process: subprocess.Popen[str]) -> None:
        self.stack, self.process = stack, process
        self.lines: list[str] = []
        self._threads = [threading.Thread(target=self._read, args=(stream,)) for stream in (process.stdout, process.stderr)]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]
            self.lines.append(line.rstrip("\n"))

    def said(self, pattern: str) -> list[str]:
        return [line for line in self.lines if re.search(pattern, line)]

    def hears(self, pattern: str, times: int = 1) -> list[str]:
        def look() -> list[str]:
            ended, found = self.process.poll() is not None, self.said(pattern)
            assert not ended or found, "\n".join(self.lines)
            return found if len(found) >= times else []

        try:
            return eventually(look, 60.0)
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in\n" + "\n".join(self.lines)) from None

    def until(self, look: Callable[[], object]) -> None:
        """Wait for a state; what the watch has said goes with the failure."""

        def looked() -> object:
            assert self.process.poll() is None, "the watch has ended"
            return look()

        try:
            eventually(looked, 120.0)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.lines[-20:]])) from None

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        for thread in self._threads:
            thread.join()
        return code


@contextlib.contextmanager
def watching(stack: Stack, *words: str, ready: str = "watch: enabled") -> Iterator[Watch]:
    process = subprocess.Popen(
        stack.pystack.command("-p", stack.name, *(words or ("watch",))),
        cwd=stack.directory,
        env=stack.pystack.child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    made = Watch(stack, process)
    try:
        if ready:
            made.hears(ready)
        yield made
    except BaseException:
        print("\n".join(made.lines))
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for thread in made._threads:
            thread.join()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def inside(stack: Stack, script: str, index: int = 1, service: str = "app") -> list[str]:
    return stack.run("exec", "-T", "--index", str(index), service, "sh", "-c", script).stdout.splitlines()


def root_of(stack: Stack, number: int = 1, service: str = "app") -> Path:
    """The root of a container's file system, by its process: reading it costs no command."""

    def look() -> int:
        return next(row["Pid"] or 0 for row in stack.rows() if row["Name"] == f"{stack.name}-{service}-{number}")

    return Path(f"/proc/{eventually(look)}/root")


def content(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def put(stack: Stack, path: str, text: str) -> Path:
    where = stack.directory / path
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(text)
    return where


def test_files_come_and_go_in_all_containers_of_a_service(pystack: Pystack, busybox_rootfs: Path) -> None:
    files = {"src/a/old": "old", "one.conf": "1"}
    stack = pystack.stack(BOTH.format(image=busybox_rootfs), files=files)
    with watching(stack) as watch:
        roots = [root_of(stack, number) for number in (1, 2)]

        def everywhere(path: str, text: str | None) -> None:
            for root in roots:
                eventually(lambda root=root: content(root / path) == text)  # type: ignore[misc]

        put(stack, "src/new", "new")
        everywhere("srv/app/new", "new")
        put(stack, "src/deep/er/file", "deep")
        everywhere("srv/app/deep/er/file", "deep")
        put(stack, "src/deep/er/file", "changed")
        everywhere("srv/app/deep/er/file", "changed")
        put(stack, "one.conf", "2")
        everywhere("etc/one/app.conf", "2")
        (stack.directory / "src/deep").rename(stack.directory / "src/moved")
        everywhere("srv/app/moved/er/file", "changed")
        everywhere("srv/app/deep/er/file", None)
        assert not (roots[0] / "srv/app/deep").exists()
        shutil.rmtree(stack.directory / "src/moved")
        put(stack, "src/moved", "a file now")
        everywhere("srv/app/moved", "a file now")
        (stack.directory / "src/new").unlink()
        put(stack, "src/new/inside", "a folder now")
        everywhere("srv/app/new/inside", "a folder now")
        for name in ("socket", "pipe"):
            put(stack, f"src/{name}", "a file yet")
            everywhere(f"srv/app/{name}", "a file yet")
            os.unlink(stack.directory / f"src/{name}")
            os.mknod(stack.directory / f"src/{name}", stat.S_IFSOCK if name == "socket" else stat.S_IFIFO)
            everywhere(f"srv/app/{name}", None)
        put(stack, "src/node_modules/x", "no")
        put(stack, "src/some.tmp", "no")
        put(stack, "src/.git/index", "no")
        put(stack, "src/.new.swp", "no")
        os.symlink("/etc/passwd", stack.directory / "src/link")
        put(stack, "src/last", "last")
        everywhere("srv/app/last", "last")
        for root in roots:
            eventually(lambda root=root: sorted(os.listdir(root / "srv/app")) == ["last", "link", "moved", "new"])  # type: ignore[misc]
            assert os.readlink(root / "srv/app/link") == "/etc/passwd"
        assert inside(stack, "stat -c '%u:%g %a' /srv/app/last /srv/app/new /srv/app /etc/one/app.conf") == [
            "1000:1001 644", "1000:1001 755", "1000:1001 755", "1000:1001 644",
        ]  # fmt: skip
        os.unlink(stack.directory / "one.conf")
        everywhere("etc/one/app.conf", None)
        assert watch.end() == 130
    assert {row["State"] for row in stack.rows()} == {"running"}


ACTIONS = """
services:
  app:
    image: rootfs:{image}
    command: [sh, -c, 'echo started; cat /srv/restart/file; exec sleep 3600']
    stop_grace_period: 0s
    scale: 2
    volumes: [kept:/srv/app/kept]
    develop:
      watch:
        - {{path: ./restart, action: sync+restart, target: /srv/restart, initial_sync: true}}
        - path: ./exec
          action: sync+exec
          target: /srv/exec
          exec: {{command: "sh -c 'cat /srv/exec/file; env'", environment: [X=y]}}
        - {{path: ./fails, action: sync+exec, target: /srv/fails, exec: {{command: [sh, -c, "echo no; exit 3"]}}}}
        - {{path: ./only, action: restart, include: ["*.conf", "sub/**"]}}
        - {{path: ./app, action: sync, target: /srv/app}}
volumes: {{kept: }}
"""


def test_what_follows_a_copy(pystack: Pystack, busybox_rootfs: Path) -> None:
    files = {"restart/file": "at first\n", "exec/file": "0\n", "fails/x": "", "only/x": "", "app/kept/mine": "m"}
    stack = pystack.stack(ACTIONS.format(image=busybox_rootfs), files=files)
    with watching(stack) as watch:
        eventually(lambda: inside(stack, "cat /srv/restart/file", 2) == ["at first"])
        put(stack, "exec/file", "one\n")
        assert watch.hears(r"-> \| one", 2) == [f"{stack.name}-app-{number} -> | one" for number in (1, 2)]
        assert len(watch.hears(r"-> \| X=y", 2)) == 2
        assert not inside(stack, "cat /srv/exec/nothing")
        put(stack, "fails/x", "x")
        assert "ended with code 3" in watch.hears("watch: commands of app failed")[0]
        put(stack, "restart/file", "again\n")
        watch.hears("watch: app restarted")
        log = stack.must("logs", "--no-log-prefix").stdout.splitlines()
        assert sorted(log) == ["again", "again", "started", "started", "started", "started"]
        for path in ("only/y", "only/deep/z.conf"):
            put(stack, path, "no")
        put(stack, "only/sub/deep/y", "yes")
        watch.hears("watch: app restarted", 2)
        put(stack, "only/x.conf", "yes")
        watch.hears("watch: app restarted", 3)
        # A volume in a folder that is deleted stays, with what is in it.
        put(stack, "app/kept/other", "o")
        eventually(lambda: inside(stack, "cat /srv/app/kept/other", 2) == ["o"])
        shutil.rmtree(stack.directory / "app/kept")
        assert "has a mount in it, which stays" in watch.hears("app/kept")[0]
        assert inside(stack, "mount | grep -c ' /srv/app/kept '") == ["1"]
        assert watch.end(signal.SIGTERM) == 130
    assert len(watch.said("watch: app restarted")) == 3


BUILT = """
services:
  app:
    build: .
    command: [sleep, "3600"]
    stop_grace_period: 0s
    scale: 2
    develop:
      watch:
        - {path: ., action: rebuild, ignore: [src]}
        - {path: ./src, action: sync, target: /srv/src}
  beside:
    image: busybox
    command: [sleep, "3600"]
    stop_grace_period: 0s
"""
DOCKERFILE = "FROM busybox\nCOPY inside /inside\nRUN touch /built\n"


@pytest.fixture
def built(pystack: Pystack) -> Stack:
    made = pystack.run("image", "make", "busybox", "-t", "busybox")
    assert made.code == 0, str(made)
    files = {"Dockerfile": DOCKERFILE, "inside": "1\n", "src/a": "a\n", ".dockerignore": "unseen\n"}
    return pystack.stack(BUILT, files=files)


def test_a_rebuild_replaces_the_service_and_keeps_what_was_copied(built: Stack) -> None:
    with watching(built) as watch:
        before = built.rows()
        put(built, "src/b", "b\n")
        eventually(lambda: inside(built, "cat /srv/src/b", 2) == ["b"])
        images = built.must("image", "ls", "-a", "-q", "--no-trunc").stdout.split()
        put(built, "unseen", "not in the context")
        put(built, "inside", "2\n")
        watch.hears("watch: app rebuilt and replaced")
        for number in (1, 2):
            assert inside(built, "cat /inside", number) == ["2"]
            eventually(lambda number=number: inside(built, "cat /srv/src/b", number) == ["b"])  # type: ignore[misc]
        after = {row["Name"]: row["ID"] for row in built.rows()}
        assert after[f"{built.name}-beside-1"] == next(row["ID"] for row in before if row["Service"] == "beside")
        assert len(built.must("image", "ls", "-a", "-q", "--no-trunc").stdout.split()) == len(images)
        put(built, "Dockerfile", DOCKERFILE + "RUN false\n")
        watch.hears("watch: rebuild of app failed")
        assert inside(built, "cat /inside") == ["2"]
        put(built, "Dockerfile", DOCKERFILE)
        watch.hears("the image is the same, so nothing was replaced")
        assert watch.end() == 130
    assert len(watch.said("watch: rebuilding app")) == 3


def test_a_storm_is_a_few_copies_and_one_restart(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = f"""
services:
  app:
    {{image: "rootfs:{busybox_rootfs}", command: [sleep, "3600"], stop_grace_period: 0s, develop: {{watch: [
      {{path: ./src, action: sync+restart, target: /srv/src}}]}}}}
"""
    stack = pystack.stack(text, files={"src/x": "x"})
    with watching(stack) as watch:
        for folder in range(100):
            os.mkdir(stack.directory / f"src/{folder}")
            for number in range(100):
                (stack.directory / f"src/{folder}/{number}").write_text(str(number))
        watch.hears("watch: app restarted")

        def count() -> int:
            """Files in the container, which may just be restarting."""
            return sum(len(files) for _, _, files in os.walk(root_of(stack) / "srv/src"))

        watch.until(lambda: count() == 10_000)
        shutil.rmtree(stack.directory / "src")
        (stack.directory / "src").mkdir()
        watch.until(lambda: os.path.isdir(root_of(stack) / "srv") and count() == 0)
        put(stack, "src/again", "there")
        watch.until(lambda: content(root_of(stack) / "srv/src/again") == "there")
        assert watch.end() == 130
    copies = watch.said("copied to app")
    assert len(copies) < 100, copies
    assert len(watch.said("watch: restarting app")) < 30


ENDS = """
services:
  app:
    image: rootfs:{rootfs}
    command: [sh, -c, '[ -e /ran ] && exec sleep 3600; touch /ran; until [ -e /srv/src/file-1500 ]; do :; done; exit 1']
    restart: always
    stop_grace_period: 0s
    develop: {{watch: [{{path: ./src, action: sync, target: /srv/src, initial_sync: true}}]}}
"""


def test_a_container_that_ends_while_it_is_copied_into_gets_everything(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(ENDS.format(rootfs=busybox_rootfs))
    for number in range(1000, 4000):
        put(stack, f"src/file-{number}", "")
    with watching(stack) as watch:
        watch.until(lambda: inside(stack, "ls /srv/src | wc -l; ls /ran") == ["3000", "/ran"])
        assert watch.end() == 130
    assert not watch.said("cannot copy")


FROM_THE_FIRST = """
services:
  app:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    develop: {{watch: [{{path: ./src, action: sync, target: /srv/src, initial_sync: true}}]}}
"""


def test_ctrl_c_ends_a_watch_before_a_storm_is_copied(pystack: Pystack, busybox_rootfs: Path) -> None:
    count = 5000
    stack = pystack.stack(FROM_THE_FIRST.format(rootfs=busybox_rootfs))
    for number in range(count):
        put(stack, f"src/{number % 100}/file-{number}", "")
    with watching(stack, ready="") as watch:
        eventually(lambda: "app" in stack.ps(), 120.0)
        copied = root_of(stack) / "srv/src"

        def there() -> int:
            return sum(len(files) for _, _, files in os.walk(copied))

        eventually(lambda: copied.exists() and there(), 120.0)
        assert watch.end() == 130
        assert 0 < there() < count
    with watching(stack, "watch", "--no-up") as watch:
        (line,) = watch.hears("copied to app")
        assert line.startswith(f"watch: {count + 100} changes copied to app"), "told once, when nothing is left"
        assert there() == count
        assert watch.end() == 130


def test_a_folder_that_is_empty_at_first_is_in_step_too(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(FROM_THE_FIRST.format(rootfs=busybox_rootfs))
    (stack.directory / "src").mkdir()
    with watching(stack) as watch:
        put(stack, "src/first", "first")
        eventually(lambda: content(root_of(stack) / "srv/src/first") == "first")
        assert watch.end() == 130


def test_a_copy_waits_for_a_container_that_is_away(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(BOTH.format(image=busybox_rootfs), files={"src/a": "a", "one.conf": "1"})
    with watching(stack) as watch:
        put(stack, "src/first", "first")
        eventually(lambda: inside(stack, "cat /srv/app/first", 2) == ["first"])
        stack.must("stop", "app")
        put(stack, "src/stopped", "stopped")
        stack.must("start", "app")
        for number in (1, 2):
            eventually(lambda number=number: inside(stack, "cat /srv/app/stopped", number) == ["stopped"])  # type: ignore[misc]
        kill_hard(supervisor_pid(stack))
        put(stack, "src/alone", "alone")
        stack.must("up", "-d", "--force-recreate", "--scale", "app=3")
        for number in (1, 2, 3):
            script = "cat /srv/app/first /srv/app/stopped /srv/app/alone"
            eventually(lambda number=number, script=script: len(inside(stack, script, number)) == 1)  # type: ignore[misc]
        stack.must("down")
        put(stack, "src/down", "down")
        stack.must("up", "-d")
        eventually(lambda: inside(stack, "cat /srv/app/down /srv/app/first") == ["downfirst"])
        assert watch.end() == 130


def test_what_does_not_go_in_is_told_once_and_comes_when_it_does(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = f"""
services:
  app:
    image: rootfs:{busybox_rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    tmpfs: ["/srv:size=64k"]
    develop:
      watch:
        - {{path: ./src, action: sync+exec, target: /srv/src, exec: {{command: [sh, -c, "cd /srv/src/new; echo has *"]}}}}
"""
    stack = pystack.stack(text, files={"src/x": "x"})
    with watching(stack) as watch:
        inside(stack, "head -c 40000 /dev/zero > /srv/ballast")
        put(stack, "new/big", "b" * 40_000)
        put(stack, "new/small", "small")
        (stack.directory / "new").rename(stack.directory / "src/new")
        assert "the disk is full: srv/src/new/big" in watch.hears("disk is full")[0]
        assert watch.hears("app-1 -> . has") == [f"{stack.name}-app-1 -> | has small"], "the others go in"
        put(stack, "src/new/tiny", "tiny")
        watch.hears("has small tiny")
        inside(stack, "rm /srv/ballast")
        watch.hears("has big small tiny")
        assert watch.end() == 130
    assert len(watch.said("disk is full")) == 1


def test_a_program_that_died_of_its_code_comes_back_with_the_next_change(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = f"""
services:
  app:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "test -e /srv/go || exit 3; exec sleep 3600"]
    stop_grace_period: 0s
    develop: {{watch: [{{path: ./src, action: sync+restart, target: /srv}}]}}
"""
    stack = pystack.stack(text, files={"src/x": "x"})
    with watching(stack) as watch:
        eventually(lambda: stack.ps()["app"]["State"] == "exited")
        put(stack, "src/go", "go")
        watch.hears("watch: app restarted")
        eventually(lambda: stack.ps()["app"]["State"] == "running")
        assert watch.end() == 130


def test_a_folder_that_is_deleted_and_made_again_is_watched_again(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(BOTH.format(image=busybox_rootfs), files={"src/a": "a", "one.conf": "1"})
    with watching(stack) as watch:
        root = root_of(stack)
        for number in range(3):
            shutil.rmtree(stack.directory / "src")
            put(stack, f"src/new-{number}", "new")
            eventually(lambda number=number: content(root / f"srv/app/new-{number}") == "new")  # type: ignore[misc]
            eventually(lambda number=number: os.listdir(root / "srv/app") == [f"new-{number}"])  # type: ignore[misc]
            put(stack, f"src/new-{number}", "later")
            eventually(lambda number=number: content(root / f"srv/app/new-{number}") == "later")  # type: ignore[misc]
        assert watch.end() == 130


def test_links_in_the_container_lead_nowhere_outside(pystack: Pystack, busybox_rootfs: Path, tmp_path: Path) -> None:
    files = {"src/a/x": "1", "src/b/x": "1", "src/c/x": "1", "one.conf": "1"}
    stack = pystack.stack(BOTH.format(image=busybox_rootfs), files=files)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("outside")
    with watching(stack) as watch:
        script = f"mkdir -p /srv/app; cd /srv/app; ln -s {outside} a; ln -s ../../../../../..{outside} b; ln -s /etc c"
        stack.must("exec", "-T", "-u", "0", "app", "sh", "-c", script)
        root = root_of(stack)
        for name in "abc":
            put(stack, f"src/{name}/x", "2")
        eventually(lambda: content(root / "etc/x") == "2")  # A link of the image's is followed inside of it.
        eventually(lambda: content(root / str(outside / "x").lstrip("/")) == "2")
        put(stack, "src/c/passwd", "short-lived")
        eventually(lambda: content(root / "etc/passwd") == "short-lived")
        (stack.directory / "src/c/passwd").unlink()
        shutil.rmtree(stack.directory / "src/a")
        put(stack, "src/last", "last")
        eventually(lambda: content(root / "srv/app/last") == "last")
        eventually(lambda: not os.path.lexists(root / "srv/app/a"))
        assert content(root / "etc/passwd") == "short-lived", "nothing is deleted through a link"
        assert (outside / "x").read_text() == "outside"
        assert os.listdir(outside) == ["x"]
        assert watch.end() == 130


def test_an_editor_that_saves_by_renaming_is_one_copy(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(BOTH.format(image=busybox_rootfs), files={"src/a": "1", "one.conf": "1"})
    with watching(stack) as watch:
        root = root_of(stack)
        for number in range(5):
            put(stack, "src/.a.1234", str(number))
            os.replace(stack.directory / "src/.a.1234", stack.directory / "src/a")
            eventually(lambda number=number: content(root / "srv/app/a") == str(number))  # type: ignore[misc]
            put(stack, "new.conf", str(number))
            os.replace(stack.directory / "new.conf", stack.directory / "one.conf")
            eventually(lambda number=number: content(root / "etc/one/app.conf") == str(number))  # type: ignore[misc]
        watch.hears("copied to 2 containers", 10)
        assert watch.end() == 130
        # Two where the machine let some time pass between the writing and the renaming.
        assert {line.partition(" copied")[0] for line in watch.said("copied")} <= {"watch: 1 change", "watch: 2 changes"}
        assert os.listdir(root / "srv/app") == ["a"]


def test_a_watch_is_alone(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(BOTH.format(image=busybox_rootfs), files={"src/a": "a", "one.conf": "1"})
    with watching(stack) as watch:
        second = stack.run("watch")
        assert (second.code, f"is watched already, by process {watch.process.pid}" in second.stderr) == (1, True), second
        assert stack.run("up", "--watch").code == 1
        assert watch.end() == 130
    with watching(stack, "watch", "--no-up") as watch:
        assert watch.end() == 130


def test_up_shows_logs_and_what_is_copied(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = f"""
services:
  app:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "echo begun; while :; do test -e /srv/go && echo seen $$(cat /srv/go) && rm /srv/go; sleep 0.1; done"]
    stop_grace_period: 0s
    develop: {{watch: [{{path: ./src, action: sync, target: /srv}}, {{path: ./kick, action: restart}}]}}
"""
    stack = pystack.stack(text, files={"src/x": "x", "kick": "0"})
    with watching(stack, "up", "-w") as watch:
        watch.hears(r"app-1  \| begun")
        put(stack, "src/go", "one")
        watch.hears(r"app-1  \| seen one")
        put(stack, "kick", "1")
        watch.hears("watch: app restarted")
        watch.hears(r"app-1  \| begun", 2)
        assert watch.end() == 130
    assert {row["State"] for row in stack.rows()} == {"exited"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{path: ./none, action: rebuild}", "3:66: services.app.develop.watch[0].action: service \"app\" has no build"),
        ("{path: ./none, action: sync, target: /x}", "3:50: services.app.develop.watch[0].path: there is nothing to"),
        ("{path: ., action: sync}", "3:43: services.app.develop.watch[0]: this action needs a target"),
        ("{path: ., action: copy, target: /x}", "3:61: services.app.develop.watch[0].action: \"copy\" is not one of"),
        ("{path: ., action: sync+exec, target: /x}", "3:43: services.app.develop.watch[0]: sync+exec needs a command"),
        ("{path: ., action: sync, target: /x, ignore: '[a'}", "develop.watch[0].ignore: \"[a\" is no pattern"),
    ],
)
def test_a_rule_that_is_wrong_is_told_with_its_place(tmp_path: Path, pystack: Pystack, rule: str, message: str) -> None:
    stack = pystack.stack(f"services:\n  app:\n    {{image: 'rootfs:/', develop: {{watch: [{rule}]}}}}\n")
    done = stack.run("watch")
    assert (done.code, done.stderr.count("error:")) == (2, 1), done
    assert message in done.stderr, done
    assert "error: compose.yaml:3:" in done.stderr


def test_what_cannot_be_watched_is_refused(pystack: Pystack) -> None:
    stack = pystack.stack("services: {app: {image: 'rootfs:/'}}")
    assert "none of the selected services has anything to watch" in stack.run("watch").stderr
    for words in (("-d",), ("--wait",), ("--no-build",), ("--no-start",)):
        done = stack.run("up", "--watch", *words)
        assert (done.code, "cannot be combined" in done.stderr) == (2, True), done
