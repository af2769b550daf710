"""kill -9 of the supervisor, the monitor or both at many moments of `up` and `down`: the next command heals or cleans up.

A moment is the n-th line that the command under way tells of itself (`--progress json`), so that nothing here depends on
time. Around each test stands the leak check of `tests/conftest.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import files
from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http, kill_hard, monitor_pid, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_grace_period: 1s
  init: true
services:
  db:
    <<: *service
    command: [sleep, "3600"]
    volumes: ["data:/data"]
    healthcheck: {{test: "echo here > /data/new && mv /data/new /data/file", interval: 100ms, timeout: 5s}}
  cache:
    <<: *service
    command: [sleep, "3600"]
  api:
    <<: *service
    command: [sh, -c, "cd /data && exec httpd -f -p 8000"]
    depends_on: {{db: {{condition: service_healthy}}, cache: {{condition: service_started}}}}
    volumes: ["data:/data:ro"]
    ports: ["127.0.0.1:{port}:8000"]
    healthcheck: {{test: wget -qO- http://db:8000 || wget -qO- http://127.0.0.1:8000/file, interval: 100ms, timeout: 5s}}
  web:
    <<: *service
    command: [sleep, "3600"]
    depends_on: {{api: {{condition: service_healthy}}}}
    ports: ["127.0.0.1:{udp}:53/udp"]
    healthcheck: {{test: wget -qO- http://api:8000/file, interval: 100ms, timeout: 5s}}
volumes:
  data:
"""

Victims = tuple[str, ...]
SUPERVISOR, MONITOR = "orchestrator/supervisor", "/runtime/monitor"


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs, port=free_port(), udp=free_port()))
    return made


@contextlib.contextmanager
def telling(stack: Stack, *args: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """A command, and the lines that it tells while it runs."""
    process = subprocess.Popen(
        stack.pystack.command("--progress", "json", "-p", stack.name, *args),
        cwd=stack.directory,
        env=stack.pystack.child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield process, iter(process.stderr)
    finally:
        if process.poll() is None:
            process.kill()
        process.stderr.close()
        process.wait()


def crash(stack: Stack, verb: tuple[str, ...], after: int, victims: Victims) -> tuple[int, list[str]]:
    """Run `verb`, and kill the victims after so many lines. Its exit code, and all that it told."""
    with telling(stack, *verb) as (process, lines):
        told = list(itertools.islice(lines, after))
        pids = stack.pystack.processes()
        for victim in victims:
            # The oldest: a child that the monitor is making has its command line until it becomes something else.
            for pid in sorted(pid for pid, command in pids.items() if victim in command)[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        told += lines
        return process.wait(timeout=30), told


def check_down(stack: Stack) -> None:
    stack.must("down", "-v", timeout_s=30)
    assert stack.pystack.processes() == {}
    assert files(stack.pystack.run_dir) == []
    assert not (stack.pystack.data_dir / "projects" / stack.name).exists()


def check_healed(stack: Stack) -> None:
    """Everything runs and is well, by one command, and the stack answers from the outside."""
    stack.must("up", "-d", "--wait", timeout_s=60)
    rows = stack.ps()
    assert {name: (row["State"], row["Health"]) for name, row in rows.items()} == {
        "db": ("running", "healthy"),
        "cache": ("running", ""),
        "api": ("running", "healthy"),
        "web": ("running", "healthy"),
    }
    (port,) = [item["PublishedPort"] for item in rows["api"]["Publishers"]]
    assert http(f"http://127.0.0.1:{port}/file") == (200, "here\n")


# An undisturbed `up` tells about 32 lines, a `down` about 16.
BOTH = (SUPERVISOR, MONITOR)
UP_THEN_UP = [
    *[(line, (SUPERVISOR,)) for line in (1, 5, 9, 13, 17, 23)],
    *[(line, (MONITOR,)) for line in (3, 11, 19)],
    *[(line, BOTH) for line in (7, 15, 21, 27)],
]
UP_THEN_DOWN = [
    *[(line, (SUPERVISOR,)) for line in (3, 11, 25)],
    *[(line, (MONITOR,)) for line in (1, 17)],
    *[(line, BOTH) for line in (1, 9, 19)],
]
DOWN_THEN_DOWN = [(1, (SUPERVISOR,)), (5, (MONITOR,)), (6, BOTH), (9, (SUPERVISOR,)), (12, BOTH)]


def named(point: tuple[int, Victims]) -> str:
    line, victims = point
    return f"{'-and-'.join(victim.rpartition('.')[2].rpartition('/')[2] for victim in victims)}-at-line-{line}"


def check_what_the_victim_s_client_says(code: int, told: list[str], victims: Victims) -> None:
    """A lost monitor is nobody's business; a lost supervisor is one clear error, unless all was done already."""
    if SUPERVISOR not in victims:
        assert code == 0, told
    elif code != 0:
        assert code == 125, told
        assert "the connection to the supervisor ended" in told[-1]
        assert "run the command again" in told[-1]


@pytest.mark.parametrize("point", UP_THEN_UP, ids=named)
def test_up_heals_an_up_that_was_cut_short(stack: Stack, point: tuple[int, Victims]) -> None:
    line, victims = point
    code, told = crash(stack, ("up", "-d"), line, victims)
    check_what_the_victim_s_client_says(code, told, victims)
    check_healed(stack)
    check_down(stack)


@pytest.mark.parametrize("point", UP_THEN_DOWN, ids=named)
def test_down_clears_away_an_up_that_was_cut_short(stack: Stack, point: tuple[int, Victims]) -> None:
    line, victims = point
    code, told = crash(stack, ("up", "-d"), line, victims)
    check_what_the_victim_s_client_says(code, told, victims)
    check_down(stack)


@pytest.mark.parametrize("point", DOWN_THEN_DOWN, ids=named)
def test_down_finishes_a_down_that_was_cut_short(stack: Stack, point: tuple[int, Victims]) -> None:
    stack.must("up", "-d", "--wait")
    line, victims = point
    code, told = crash(stack, ("down",), line, victims)
    check_what_the_victim_s_client_says(code, told, victims)
    check_down(stack)


@pytest.mark.parametrize("line", [1, 16])
def test_the_next_command_takes_over_from_one_that_was_killed(stack: Stack, line: int) -> None:
    """The start that a killed `up` asked for goes on without it, and is nobody's any more."""
    with telling(stack, "up", "-d", "--wait") as (process, lines):
        assert len(list(itertools.islice(lines, line))) == line
        process.kill()
        process.wait()
    check_healed(stack)
    check_down(stack)


def test_an_exit_that_neither_process_is_the_parent_for_is_noticed_and_restarted(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    """After both were replaced one after the other, the containers are PID 1's children, which may reap them late."""
    stack = pystack.stack(
        f"""
services:
  web:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done"]
    restart: on-failure
    stop_grace_period: 1s
"""
    )
    stack.must("up", "-d")
    before = stack.ps()["web"]
    kill_hard(supervisor_pid(stack))
    eventually(lambda: SUPERVISOR in str(stack.pystack.processes()))
    stack.must("ps")
    kill_hard(monitor_pid(stack))
    eventually(lambda: MONITOR in str(stack.pystack.processes()))
    assert stack.ps()["web"]["Pid"] == before["Pid"]
    eventually(lambda: "up" in stack.run("logs", "web").stdout)
    os.kill(before["Pid"], signal.SIGTERM)
    # Before it was noticed only after three seconds, and its code was lost.
    eventually(lambda: stack.ps()["web"]["Restarts"] == 1, deadline_s=2.5)
    assert "code 9" in stack.must("why", "web").stdout
    assert stack.ps()["web"]["Addresses"] == before["Addresses"]
