"""`pause` and `unpause`: processes that stand still, whoever lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sh, -c, "trap 'exit 7' TERM; while :; do echo x >> /count; sleep 0.02; done"]
    stop_grace_period: 20s
  db:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d")
    return made


def count(stack: Stack) -> int:
    """How far it has come, seen from outside."""
    pid = stack.ps()["web"]["Pid"]
    try:
        return Path(f"/proc/{pid}/root/count").stat().st_size
    except FileNotFoundError:
        return 0


def goes_on(stack: Stack) -> bool:
    before = count(stack)
    eventually(lambda: count(stack) > before)
    return True


def states(stack: Stack) -> dict[str, str]:
    return {name: row["State"] for name, row in stack.ps().items()}


def test_a_paused_service_stands_still_until_it_is_unpaused(stack: Stack) -> None:
    assert goes_on(stack)
    pid = stack.ps()["web"]["Pid"]
    stack.must("pause", "web")
    assert states(stack) == {"web": "paused", "db": "running"}
    before = count(stack)
    stack.must("exec", "-T", "db", "sleep", "0.2")
    assert count(stack) == before
    refused = stack.run("exec", "-T", "web", "true")
    assert (refused.code, "is paused" in refused.stderr) == (1, True)
    twice = stack.run("pause", "web")
    assert (twice.code, "already paused" in twice.stderr) == (1, True)
    stack.must("unpause", "web")
    assert goes_on(stack)
    assert stack.ps()["web"]["Pid"] == pid


def test_what_is_paused_stays_so_when_the_supervisor_is_killed_and_heeds_a_stop_all_the_same(stack: Stack) -> None:
    stack.must("pause", "web")
    kill_hard(supervisor_pid(stack))
    assert states(stack) == {"web": "paused", "db": "running"}
    before = count(stack)
    stack.must("exec", "-T", "db", "sleep", "0.2")
    assert count(stack) == before
    stack.must("stop", "web")
    assert stack.ps()["web"]["ExitCode"] == 7
    stack.must("start", "web")
    assert goes_on(stack)


def test_what_is_paused_can_be_killed_started_and_taken_down(stack: Stack) -> None:
    stack.must("pause")
    stack.must("kill", "web")
    assert states(stack) == {"web": "exited", "db": "paused"}
    stack.must("up", "-d")
    assert states(stack) == {"web": "running", "db": "running"}
    assert goes_on(stack)
    stack.must("pause")
    stack.must("down")


def test_a_commit_of_what_is_paused_does_not_let_it_go_on(stack: Stack) -> None:
    stack.must("pause", "web")
    before = count(stack)
    stack.must("commit", "web", "snapshot:1")
    assert states(stack)["web"] == "paused"
    stack.must("exec", "-T", "db", "sleep", "0.2")
    assert count(stack) == before
