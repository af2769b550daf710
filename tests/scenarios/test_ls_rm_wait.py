"""`ls`, `rm`, `wait`, and what `--dry-run` leaves undone."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, running, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
    init: true
    volumes: [/cache, "kept:/kept"]
  job:
    image: rootfs:{rootfs}
    command: [sh, -c, "while ! test -e /go; do sleep 0.02; done; exit 7"]
    stop_grace_period: 1s
    init: true
volumes:
  kept: {{}}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def states(stack: Stack) -> dict[str, str]:
    return {name: row["State"] for name, row in stack.ps().items()}


def projects(stack: Stack, *options: str) -> list[dict[str, str]]:
    found = stack.must("ls", "--format", "json", *options).stdout
    return [row for row in json.loads(found) if row["Name"] == stack.name]


def volumes(stack: Stack) -> list[str]:
    return stack.must("volumes", "-q").stdout.split()


def test_ls_lists_what_runs_and_with_all_what_is_stopped(stack: Stack) -> None:
    assert projects(stack, "-a") == []
    stack.must("up", "-d")
    file = str(stack.directory / "compose.yaml")
    assert projects(stack) == [{"Name": stack.name, "Status": "running(2)", "ConfigFiles": file}]
    kill_hard(supervisor_pid(stack))
    assert [row["Status"] for row in projects(stack)] == ["running(2)"]
    stack.must("stop", "job")
    assert [row["Status"] for row in projects(stack)] == ["exited(1), running(1)"]
    stack.must("stop")
    assert projects(stack) == []
    assert [row["Status"] for row in projects(stack, "-a")] == ["exited(2)"]
    assert [row["Status"] for row in projects(stack, "-a", "--filter", f"name={stack.name[:6]}")] == ["exited(2)"]
    assert stack.must("ls", "-aq", "--filter", "name=no-such").stdout == ""
    table = stack.must("ls", "-a").stdout.splitlines()
    assert table[0].split() == ["NAME", "STATUS", "CONFIG", "FILES"]
    assert stack.must("ls", "-a", "--format", "{{.Name}}={{.Status}}").stdout == f"{stack.name}=exited(2)\n"


def test_rm_removes_what_does_not_run_and_with_stop_what_does(stack: Stack) -> None:
    stack.must("up", "-d")
    stack.must("stop", "job")
    asked = stack.must("rm")
    assert "nobody can be asked\nhint: -f removes without asking" in asked.stderr
    assert states(stack) == {"web": "running", "job": "exited"}
    stack.must("rm", "-f", "web")
    assert states(stack) == {"web": "running", "job": "exited"}
    stack.must("rm", "-f")
    assert states(stack) == {"web": "running"}
    refused = stack.run("rm", "-f", "nosuch")
    assert (refused.code, 'no such service: nosuch' in refused.stderr) == (2, True)
    before = volumes(stack)
    assert len(before) == 2
    stack.must("rm", "-fsv")
    assert states(stack) == {}
    assert volumes(stack) == [f"{stack.name}_kept"]
    stack.must("up", "-d", "web")
    assert states(stack) == {"web": "running"}


def test_rm_asks_at_a_terminal(stack: Stack) -> None:
    stack.must("up", "-d", "web")
    stack.must("stop")
    for answer, left in ((b"n\n", {"web": "exited"}), (b"y\n", {})):
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer)
            done = subprocess.run(
                stack.pystack.command("-p", stack.name, "rm"),
                cwd=stack.directory, env=stack.pystack.child_environment(), stdin=theirs, capture_output=True, text=True,
                timeout=60,
            )  # fmt: skip
        finally:
            os.close(ours)
            os.close(theirs)
        assert (done.returncode, f"Going to remove {stack.name}-web-1" in done.stderr) == (0, True), done
        assert states(stack) == left


def test_wait_ends_with_the_exit_code_also_when_the_supervisor_is_killed_meanwhile(stack: Stack) -> None:
    stack.must("up", "-d")
    with running(stack, "wait", "job") as waiting:
        kill_hard(supervisor_pid(stack))
        stack.must("exec", "-T", "job", "touch", "/go")
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (7, f'container "{stack.name}-job-1" exited with status code 7\n'), err
    assert states(stack) == {"web": "running", "job": "exited"}
    again = stack.run("wait", "job")
    assert (again.code, again.stdout) == (7, out), "one that has ended already is not waited for"
    refused = stack.run("wait", "nosuch")
    assert (refused.code, 'no such service: nosuch' in refused.stderr) == (2, True)


def test_wait_can_take_the_project_down_once_the_first_has_ended(stack: Stack) -> None:
    stack.must("up", "-d")
    with running(stack, "wait", "--down-project", "web", "job") as waiting:
        stack.must("exec", "-T", "job", "touch", "/go")
        assert waiting.wait(60) == 7
    assert states(stack) == {}
    assert f"{stack.name}_kept" in volumes(stack)
    stack.must("down", "-v")


def has_a_socket(pid: int) -> bool:
    """The command is connected to the supervisor: what it asks is heard before what others ask later."""
    with contextlib.suppress(OSError):
        return any(os.readlink(entry).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_wait_ends_when_its_containers_are_removed(stack: Stack) -> None:
    stack.must("up", "-d")
    with running(stack, "wait", "web") as waiting:
        eventually(lambda: has_a_socket(waiting.pid))
        stack.must("down", "-v")
        assert waiting.wait(60) in (0, 143)


@pytest.mark.parametrize(
    ("words", "planned"),
    [
        (("up", "-d", "--force-recreate"), "stop web"),
        (("down",), "remove network default"),
        (("rm", "-s"), "remove web"),
        (("stop", "web"), "stop web: requested"),
        (("restart", "job"), "start job: requested"),
        (("kill", "-s", "HUP", "web"), "signal web: send SIGHUP"),
        (("pause", "web"), "pause web: requested"),
        (("scale", "job=2"), "create"),
        (("run", "web", "true"), "create"),
        (("exec", "web", "rm", "-r", "/"), "execute in web: rm -r /"),
        (("cp", "web:/etc/passwd", "."), "web-1:/etc/passwd to ."),
        (("commit", "web", "an-image"), "and name it an-image"),
        (("export", "web", "-o", "a.tar"), "as an archive to a.tar"),
        (("wait", "--down-project", "web"), ""),
    ],
)
def test_a_dry_run_changes_nothing(stack: Stack, words: tuple[str, ...], planned: str) -> None:
    stack.must("up", "-d")
    before = stack.rows()
    verb, *rest = words
    for written in (("--dry-run", *words), (verb, "--dry-run", *rest)):
        told = stack.must(*written)
        assert planned in told.stdout
    after = stack.rows()
    ids = [[(row["ID"], row["Pid"], row["State"]) for row in rows] for rows in (before, after)]
    assert ids[0] == ids[1]
    assert sorted(path.name for path in stack.directory.iterdir()) == ["compose.yaml"]
    assert eventually(lambda: len(stack.rows()) == 2)


def test_all_resources_come_without_a_service_and_go_with_down(pystack: Pystack) -> None:
    stack = pystack.stack("volumes: {spare: {}}\nnetworks: {idle: {}}\n")
    refused = stack.run("up")
    assert (refused.code, "no service to bring up" in refused.stderr) == (2, True)
    made = stack.must("--all-resources", "up")
    assert f"Volume {stack.name}_spare Created" in made.stderr
    assert f"Network {stack.name}_idle Created" in made.stderr
    assert volumes(stack) == [f"{stack.name}_spare"]
    stack.must("down", "-v")
    assert volumes(stack) == []


def test_a_dry_run_of_what_is_not_up_leaves_nothing_behind(stack: Stack) -> None:
    assert "start web" in stack.must("--dry-run", "up").stdout
    assert "create web" in stack.must("create", "--dry-run").stdout
    assert states(stack) == {}
    refused = stack.run("--dry-run", "lint")
    assert (refused.code, "has no dry run" in refused.stderr) == (2, True)


def test_a_dry_run_of_what_does_not_exist_ends_as_the_verb_does(stack: Stack) -> None:
    verbs = (["start"], ["stop"], ["restart"], ["kill"], ["pause"], ["rm", "-f"], ["exec", "-T", "web", "true"], ["down"])
    codes = {words[0]: stack.run("--dry-run", *words).code for words in verbs}
    assert codes == {words[0]: stack.run(*words).code for words in verbs}
    assert (codes["start"], codes["stop"], codes["restart"], codes["exec"]) == (1, 0, 1, 1)
    stack.must("up", "-d", "web")
    assert stack.run("--dry-run", "exec", "-T", "nosuch", "true").code == 2


def test_a_command_that_cannot_be_executed_has_the_exit_code_of_that(pystack: Pystack, busybox_rootfs: Path) -> None:
    image = f"image: rootfs:{busybox_rootfs}"
    stack = pystack.stack(
        f"""services:
  lost: {{{image}, command: [/nosuch]}}
  barred: {{{image}, command: [/etc]}}
  well: {{{image}, command: [sleep, "3600"], stop_grace_period: 0s}}
"""
    )
    assert stack.run("up", "-d").code in (126, 127)
    for then in ("the next supervisor", "none"):
        rows = {name: row["ExitCode"] for name, row in stack.ps().items() if name != "well"}
        assert rows == {"lost": 127, "barred": 126}, then
        assert "failed (127)" in stack.must("ps", "-a", "lost").stdout
        waited = stack.run("wait", "barred")
        assert (waited.code, waited.stdout) == (126, f'container "{stack.name}-barred-1" exited with status code 126\n')
        kill_hard(supervisor_pid(stack))
        if then == "none":
            stack.must("stop")
    assert stack.run("wait", "lost").code == 127


def test_the_same_verb_several_times_at_once_succeeds_each_time(stack: Stack) -> None:
    for words in (("up", "-d"), ("stop",), ("start",), ("down", "-v")):
        with running(stack, *words) as first, running(stack, *words) as second, running(stack, *words) as third:
            told = [each.communicate(timeout=60)[1] for each in (first, second, third)]
        assert [each.returncode for each in (first, second, third)] == [0, 0, 0], told
        assert not any("cannot" in text or "left:" in text for text in told), told
