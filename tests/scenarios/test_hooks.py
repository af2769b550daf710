"""`post_start`, `pre_stop` and `pre_start` of real containers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, running, supervisor_pid

pytestmark = pytest.mark.kernel

HEAD = """
services:
  web:
    image: rootfs:{rootfs}
    user: "1000:1000"
    working_dir: /tmp
    environment: {{GIVEN: outer}}
    command: [sh, -c, "trap 'exit 7' TERM; while :; do sleep 0.02; done"]
    volumes: [./shared:/shared]
"""


Make = Callable[..., Stack]


@pytest.fixture
def make(pystack: Pystack, busybox_rootfs: Path) -> Make:
    def made(text: str, head: str = HEAD) -> Stack:
        stack = pystack.stack((head + text).format(rootfs=busybox_rootfs))
        (stack.directory / "shared").mkdir(exist_ok=True)
        (stack.directory / "shared").chmod(0o777)
        return stack

    return made


def told(stack: Stack) -> list[str]:
    path = stack.directory / "shared" / "told"
    return path.read_text().splitlines() if path.exists() else []


def test_hooks_run_in_the_container_as_they_say(make: Make) -> None:
    stack = make("""\
    post_start:
      - command: [sh, -c, "echo $$(id -u) $$(pwd) $$GIVEN >> /shared/told; echo spoken"]
      - command: [sh, -c, "echo $$(id -u) $$(pwd) $$GIVEN $$MORE >> /shared/told"]
        user: root
        working_dir: /
        environment: {{MORE: inner}}
      - command: [sh, -c, "grep CapEff /proc/self/status >> /shared/told"]
        user: root
        privileged: true
    pre_stop:
      - command: [sh, -c, "kill -0 1 && echo before >> /shared/told"]
""")
    up = stack.must("up", "-d")
    *first, effective = told(stack)
    assert first == ["1000 /tmp outer", "0 / outer inner"]
    assert int(effective.split()[1], 16) & 1 << 21, "CAP_SYS_ADMIN"
    assert "spoken" in up.stderr
    stack.must("restart")
    assert told(stack)[3:] == ["before", *first, effective]
    stack.must("stop")
    assert told(stack)[-1] == "before"
    assert stack.ps()["web"]["ExitCode"] == 7
    stack.must("start")
    stack.must("down")
    assert told(stack)[-2:] == [effective, "before"]


def test_what_fails_is_named_and_only_what_needs_it_stays_away(make: Make) -> None:
    stack = make("""\
    post_start: [{{command: [sh, -c, "echo no good; exit 3"]}}]
    pre_stop: [{{command: [/missing]}}]
  after:
    image: rootfs:{rootfs}
    command: [sleep, "100"]
    stop_signal: SIGKILL
    depends_on: [web]
""")
    up = stack.run("up", "-d")
    assert up.code == 1
    assert "web hook exited with status 3 (post_start[0]): no good" in up.stderr
    assert {name: row["State"] for name, row in stack.ps().items()} == {"web": "running", "after": "created"}
    assert "after cannot start" in up.stderr
    stop = stack.run("stop")
    assert stop.code == 1
    assert "pre_stop[0] of web" in stop.stderr
    assert "/missing" in stop.stderr
    assert stack.ps()["web"]["ExitCode"] == 7


def test_a_down_in_no_time_has_its_pre_stop_and_its_failure_is_the_commands(make: Make) -> None:
    stack = make("""\
    pre_stop: [{{command: [sh, -c, "sleep 0.2; exit 9"]}}]
""")
    stack.must("up", "-d")
    down = stack.run("down", "-t", "0")
    assert down.code == 1
    assert "web hook exited with status 9 (pre_stop[0])" in down.stderr
    assert stack.ps() == {}


def test_the_foreground_shows_what_hooks_write_among_the_logs(make: Make) -> None:
    stack = make("""\
    pre_start: [{{command: [sh, -c, "echo prepared"]}}]
    post_start: [{{command: [sh, -c, "echo greeted; until grep -q {trapped} /proc/1/status; do :; done; kill -TERM 1"]}}]
""".replace("{trapped}", "'SigCgt:.*[4-7c-f]...$$'"))  # SIGTERM: a first process that has not set its trap ignores it.
    up = stack.run("up")
    assert "web-1 ->  | prepared\n" in up.stdout
    assert "web-1 ->  | greeted\n" in up.stdout


PREPARED = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sleep, "100"]
    stop_signal: SIGKILL
    user: "1000:1000"
    environment: {{WHO: web}}
    volumes: [./shared:/shared, data:/data, /own]
    pre_start:
      - command: [sh, -c, "echo once $$WHO $$(id -u) >> /shared/told; echo x > /data/file"]
        user: root
      - command: [sh, -c, "echo each $$WHO >> /shared/told; test -s /data/file && chown 1000 /own && {extra}"]
        user: root
        environment: {{WHO: step}}
        per_replica: true
volumes: {{data: {{}}}}
"""


def test_what_runs_before_has_the_mounts_of_what_starts_and_runs_once_or_for_each(make: Make) -> None:
    stack = make(PREPARED.replace("{extra}", "true"), "")
    stack.must("up", "-d", "--scale", "web=2")
    assert sorted(told(stack)) == ["each step", "each step", "once web 0"]
    assert stack.must("exec", "-T", "web", "sh", "-c", "cat /data/file && touch /own/mine").stdout == "x\n"
    stack.must("up", "-d", "--scale", "web=2")
    stack.must("restart")
    assert len(told(stack)) == 3, "what was done is not done again"
    stack.must("up", "-d", "--scale", "web=3")
    assert sorted(told(stack)[3:]) == ["each step"], "a further container is not a new definition"
    stack.must("up", "-d", "--force-recreate", "--scale", "web=1")
    assert sorted(told(stack)[4:]) == ["each step", "once web 0"]
    assert list(stack.ps()) == ["web"]


def test_when_it_fails_the_service_does_not_start_and_the_next_time_it_is_done_again(make: Make) -> None:
    stack = make(PREPARED.replace("{extra}", "(echo what went wrong >&2; test -e /shared/mended)"), "")
    up = stack.run("up", "-d")
    assert up.code == 1
    assert "pre_start[1] of web exited with code 1: what went wrong" in up.stderr
    assert "compose.yaml:" in up.stderr
    assert [row["State"] for row in stack.rows()] == ["created"]
    (stack.directory / "shared" / "mended").touch()
    stack.must("up", "-d")
    assert told(stack) == ["once web 0", "each step"] * 2


@pytest.mark.parametrize("place", ["pre_start", "post_start"])
def test_a_supervisor_that_is_killed_amid_hooks_is_followed_by_one_that_does_them_again(make: Make, place: str) -> None:
    wait = "echo begun >> /shared/told; while ! test -e /shared/go; do sleep 0.02; done; echo done >> /shared/told"
    stack = make(f"""\
    {place}: [{{{{command: [sh, -c, "{wait}"]}}}}]
""")
    with running(stack, "up", "-d"):
        eventually(lambda: told(stack) == ["begun"])
        kill_hard(supervisor_pid(stack))
        stack.ps()
        eventually(lambda: told(stack) == ["begun"] * 2)
        (stack.directory / "shared" / "go").touch()
        eventually(lambda: "done" in told(stack) and stack.ps()["web"]["State"] == "running")
    assert told(stack) == ["begun", "begun", "done"], "the first one is ended"
    eventually(lambda: len(stack.pystack.processes()) == 2)
    stack.must("down", "-t", "0")
