"""Jobs on the real runtime: by hand, and by a clock that the test sets."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.compose.discovery import LoadRequest
from orchestrator.compose.load import load
from orchestrator.contracts.control import Down, Up
from orchestrator.contracts.events import ContainerStatus, EventKind
from orchestrator.model.names import ProjectName, Role
from orchestrator.model.phase import Phase
from orchestrator.runtime.host_check import require_host
from orchestrator.state.directory import site_of
from orchestrator.state.lock import take
from orchestrator.supervisor.wiring import OpenProject, open_project
from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    init: true
jobs:
  backup:
    image: rootfs:{rootfs}
    command: [sh, -c, 'echo to "$$TO" >> /data/log; echo done; exit $$CODE']
    environment: {{TO: tape, CODE: "0"}}
    volumes: [data:/data]
    depends_on: [db]
    triggers: {{manual: true, schedule: ["* * * * *"]}}
  nightly:
    image: rootfs:{rootfs}
    command: ["true"]
    profiles: [nights]
    triggers: {{manual: "false", schedule: [{{cron: "@daily", timezone: UTC}}]}}
volumes: {{data: }}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Iterator[Stack]:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    yield made
    made.must("down", "-v", "-t", "1")


def test_a_job_is_run_by_hand_with_what_it_depends_on_and_its_exit_code_is_the_commands(stack: Stack) -> None:
    first = stack.must("run", "backup")
    assert first.stdout == "done\n"
    assert stack.run("run", "-e", "CODE=7", "backup").code == 7
    assert stack.ps()["db"]["State"] == "running"
    listed = stack.must("ps", "-a").stdout
    assert listed.count("-backup-job-") == 2
    assert "exited (7)" in listed
    assert stack.must("logs", "--no-log-prefix", "backup").stdout == "done\ndone\n"
    refused = stack.run("run", "nightly")
    assert refused.code == 2
    assert 'job "nightly" is not to be run by hand' in refused.stderr
    refused = stack.run("up", "-d", "backup")
    assert refused.code == 2
    assert '"backup" is a job' in refused.stderr
    assert "its schedule is not in force" in stack.must("why", "backup").stdout


def test_up_puts_a_job_on_its_schedule_which_outlives_its_supervisor(stack: Stack) -> None:
    stack.must("up", "-d")
    why = stack.must("why", "backup").stdout
    assert "backup is a job: * * * * *" in why
    assert "it is due next at " in why
    kill_hard(supervisor_pid(stack))
    assert "it is due next at " in eventually(lambda: stack.run("why", "backup").stdout)
    stack.must("stop", "-t", "1")
    again = stack.run("why", "backup")
    assert "it is due next at " not in again.stdout


class Clock:
    """The machine's, which begins a second before a full hour."""

    def __init__(self) -> None:
        self._off_s = 0.0
        self.set(1_799_999_999.0)

    def set(self, at_s: float) -> None:
        self._off_s = at_s - time.monotonic()

    def __call__(self) -> float:
        return self._off_s + time.monotonic()


@asynccontextmanager
async def supervised(stack: Stack, clock: Clock) -> AsyncIterator[OpenProject]:
    """A supervisor in this process, by that clock; the end of the block is its sudden end."""
    site = site_of(str(stack.pystack.data_dir), str(stack.pystack.run_dir), ProjectName(stack.name))
    site, lock = take(site)
    try:
        async with open_project(site, require_host(), (), wall_clock=clock) as opened:
            await opened.adopt()
            yield opened
    finally:
        os.close(lock)


def made(opened: OpenProject, *, ended: bool) -> list[ContainerStatus]:
    rows = [row for row in opened.engine.statuses() if row.role is Role.JOB]
    return [row for row in rows if row.phase is Phase.EXITED] if ended else rows


async def until(count: int, opened: OpenProject) -> list[ContainerStatus]:
    with trio.fail_after(60):
        while len(found := made(opened, ended=True)) < count:
            await trio.sleep(0.05)
    return found


async def test_a_schedule_runs_containers_also_after_a_time_without_a_supervisor(stack: Stack) -> None:
    project = load(LoadRequest(str(stack.directory), {}, project_name=stack.name)).project
    clock = Clock()
    async with supervised(stack, clock) as opened:
        assert (await opened.engine.operate(Up(project))).ok
        (first,) = await until(1, opened)
        assert first.exit is not None
        assert first.exit.code == 0
        clock.set(1_800_000_059.0)
        assert (await opened.engine.operate(Up(project))).ok, "a minute later"
        await until(2, opened)
    clock.set(1_800_010_030.0)
    async with supervised(stack, clock) as opened:
        await until(3, opened)
        due = [event for event in opened.log.since(0) if event.kind is EventKind.JOB_DUE]
        assert [event.detail["due_at"] for event in due] == [1_800_000_000.0, 1_800_000_060.0, 1_800_009_960.0 + 60.0]
        assert (await opened.engine.operate(Down(volumes=True, timeout_s=1))).ok
    opened.ending()()
