"""kill -9 of the supervisor at each event of scaling up, scaling down and `run`: the next command heals it, nothing is
lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid
from tests.scenarios.test_crashes import SUPERVISOR, check_down, crash

pytestmark = pytest.mark.kernel

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_grace_period: 0s
services:
  db:
    <<: *service
    command: [sleep, "3600"]
    healthcheck: {{test: [CMD, "true"], interval: 100ms}}
  web:
    <<: *service
    command: [sleep, "3600"]
    depends_on: {{db: {{condition: service_healthy}}}}
    volumes: [/kept]
"""


def points(often: tuple[int, ...], soak: tuple[int, ...]) -> list[object]:
    """Events to kill at: always, and in `make soak`."""
    return [*often, *(pytest.param(line, marks=pytest.mark.soak) for line in soak)]


# Scaling from one to three tells about 13 lines, from three to one about 7, a `run` about 8.
UP_LINES = points((1, 4, 8, 12), (2, 3, 6, 10))
DOWN_LINES = points((1, 3, 5), (2, 4, 6))
RUN_LINES = points((1, 3, 5, 7), (2, 4, 6))


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def replicas(stack: Stack) -> dict[str, str]:
    """Container -> state, of the service that is scaled, one-offs too."""
    return {row["Name"]: row["State"] for row in stack.rows() if row["Service"] == "web"}


def running(stack: Stack, *numbers: int) -> dict[str, str]:
    return {f"{stack.name}-web-{number}": "running" for number in numbers}


@pytest.mark.parametrize("line", UP_LINES)
def test_scaling_up_is_finished_by_the_next_command(stack: Stack, line: int) -> None:
    stack.must("up", "-d", "--wait")
    db = stack.ps()["db"]["Pid"]
    crash(stack, ("up", "-d", "--scale", "web=3"), line, (SUPERVISOR,))
    stack.must("up", "-d", "--wait", "--scale", "web=3", timeout_s=60)
    assert replicas(stack) == running(stack, 1, 2, 3)
    assert stack.ps()["db"]["Pid"] == db
    check_down(stack)


@pytest.mark.parametrize("line", DOWN_LINES)
def test_scaling_down_is_finished_by_the_next_command(stack: Stack, line: int) -> None:
    stack.must("up", "-d", "--wait", "--scale", "web=3", timeout_s=60)
    first = {row["Name"]: row["Pid"] for row in stack.rows()}[f"{stack.name}-web-1"]
    crash(stack, ("scale", "web=1"), line, (SUPERVISOR,))
    stack.must("scale", "web=1", timeout_s=60)
    assert replicas(stack) == running(stack, 1)
    assert {row["Name"]: row["Pid"] for row in stack.rows()}[f"{stack.name}-web-1"] == first
    check_down(stack)


@pytest.mark.parametrize("line", RUN_LINES)
def test_a_run_leaves_nothing_behind_that_the_next_command_does_not_tidy(stack: Stack, line: int) -> None:
    stack.must("up", "-d", "--wait")
    before = replicas(stack)
    crash(stack, ("run", "--rm", "-T", "web", "sleep", "0.2"), line, (SUPERVISOR,))
    stack.must("up", "-d", "--wait", timeout_s=60)
    eventually(lambda: replicas(stack) == before)
    check_down(stack)


def test_a_run_goes_on_without_its_supervisor_and_is_taken_over(stack: Stack) -> None:
    stack.must("up", "-d", "--wait")
    name = stack.must("run", "-d", "web", "sleep", "3600").stdout.strip()
    (pid,) = [row["Pid"] for row in stack.rows() if row["Name"] == name]
    kill_hard(supervisor_pid(stack))
    assert [row["Pid"] for row in stack.rows() if row["Name"] == name] == [pid]
    check_down(stack)
