"""A supervisor that does not answer, or has no descriptor left: commands say so in time, and containers go on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, running, supervisor_pid

pytestmark = pytest.mark.kernel

LONGEST_S = 15.0
"""The deadline is 5 s; the machine may be busy."""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(
        f"""
services:
  web:
    image: rootfs:{busybox_rootfs}
    command: [sh, -c, "echo hello; exec sleep 3600"]
    stop_grace_period: 1s
  done:
    image: rootfs:{busybox_rootfs}
    command: ["true"]
"""
    )
    made.must("up", "-d")
    eventually(lambda: made.ps()["done"]["State"] == "exited")
    return made


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


VERBS = [["stop"], ["down"], ["up", "-d"], ["exec", "-T", "web", "true"], ["why", "web"], ["events"], ["kill", "web"]]


@pytest.mark.parametrize(
    "words",
    [*VERBS[:3], *(pytest.param(words, marks=pytest.mark.soak) for words in VERBS[3:])],  # Each waits for five seconds.
    ids=lambda words: words[0],
)
def test_a_stopped_supervisor_is_told_in_time_with_what_to_do(stack: Stack, words: list[str]) -> None:
    pid = supervisor_pid(stack)
    with stopped(pid):
        result = stack.run(*words)
    assert result.code == 125, str(result)
    assert result.seconds < LONGEST_S
    message = f"the supervisor of project {stack.name} (process {pid}) does not answer: it is stopped (state T)"
    assert f"error: {message}\n" in result.stderr
    assert f"hint: `kill -CONT {pid}` lets it go on; `kill -9 {pid}` ends it" in result.stderr
    assert stack.ps()["web"]["State"] == "running"


def test_ps_and_logs_show_what_can_be_seen_without_it(stack: Stack) -> None:
    with stopped(supervisor_pid(stack)):
        ps = stack.run("ps", "-a")
        logs = stack.run("logs", "web")
        with running(stack, "logs", "-f", "--no-log-prefix") as following:
            assert following.stdout is not None
            assert following.stdout.readline() == "hello\n"
            assert following.stderr is not None
            assert "does not answer" in following.stderr.readline()
            following.send_signal(signal.SIGINT)
            assert following.wait(20) == 130
    assert (ps.code, logs.code) == (0, 0)
    assert "note: the supervisor of project" in ps.stderr
    assert "hint: `kill -CONT" in ps.stderr
    rows = {line.split()[0]: line.split()[1] for line in ps.stdout.splitlines()[1:]}
    assert rows == {"web": "running", "done": "exited"}
    assert "hello" in logs.stdout


def test_a_supervisor_killed_while_it_was_stopped_is_replaced(stack: Stack) -> None:
    before = stack.ps()["web"]["Pid"]
    pid = supervisor_pid(stack)
    with stopped(pid):
        assert stack.run("stop").code == 125
        kill_hard(pid)
        assert stack.ps()["web"]["Pid"] == before


def test_a_supervisor_that_stops_in_the_middle_of_an_operation_is_told(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(
        f"""
services:
  web:
    image: rootfs:{busybox_rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
    healthcheck: {{test: [CMD, "false"], interval: 1s, retries: 1000}}
"""
    )
    with running(stack, "up", "--wait") as up:
        assert up.stderr is not None
        for line in up.stderr:
            if "Started" in line:
                break
        with stopped(supervisor_pid(stack)):
            assert up.wait(60) == 125
            assert "does not answer: it is stopped" in up.stderr.read()


def test_more_clients_than_descriptors_do_not_end_a_supervisor(stack: Stack) -> None:
    pid = supervisor_pid(stack)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (300, 300))
    path = str(next(stack.pystack.run_dir.rglob("control.sock")))
    with contextlib.ExitStack() as clients:
        for _ in range(395):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
        assert stack.ps()["web"]["State"] == "running"
        stack.must("exec", "-T", "web", "true")
    stack.must("restart", "web")
    assert supervisor_pid(stack) == pid
