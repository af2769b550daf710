"""A database that crashes, and who depends on it, with real containers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    command: [sh, -c, "while test -e /away; do sleep 0.05; done; exec httpd -f -p 80 -h /etc"]
    expose: [80]
    restart: always
    stop_grace_period: 0s
    x-pystack: {{ready: listening}}
  api:
    image: rootfs:{rootfs}
    command: [sh, -c, "while :; do echo x >> /count; sleep 0.02; done"]
    stop_grace_period: 0s
    depends_on: {{db: {{condition: service_healthy, x-pystack: {{cascade: {mode}}}}}}}
"""


def begin(pystack: Pystack, rootfs: Path, mode: str) -> Stack:
    stack = pystack.stack(STACK.format(rootfs=rootfs, mode=mode))
    stack.must("up", "-d", "--wait")
    return stack


def crash(stack: Stack) -> int:
    """Its next run is not ready until /away is gone."""
    pid = int(stack.ps()["db"]["Pid"])
    stack.must("exec", "-T", "db", "touch", "/away")
    os.kill(pid, signal.SIGKILL)
    return pid


def mend(stack: Stack) -> None:
    """Between two looks it may be starting again: who adopts it begins what was cut short."""
    eventually(lambda: stack.run("exec", "-T", "db", "rm", "/away").code == 0)


def count(stack: Stack) -> int:
    return Path(f"/proc/{stack.ps()['api']['Pid']}/root/count").stat().st_size


def test_a_dependent_is_restarted_when_the_database_is_back(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = begin(pystack, busybox_rootfs, "restart")
    before = stack.ps()["api"]["Pid"]
    crash(stack)
    mend(stack)
    eventually(lambda: stack.ps()["api"]["Pid"] not in (None, 0, before))
    assert stack.ps()["db"]["Health"] == "healthy"


def test_a_frozen_dependent_goes_on_where_it_was(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = begin(pystack, busybox_rootfs, "freeze")
    before = stack.ps()["api"]["Pid"]
    crash(stack)
    eventually(lambda: stack.ps()["api"]["State"] == "paused")
    stood = count(stack)
    stack.must("version")
    assert count(stack) == stood
    mend(stack)
    eventually(lambda: stack.ps()["api"]["State"] == "running")
    assert stack.ps()["api"]["Pid"] == before
    eventually(lambda: count(stack) > stood)


def test_a_supervisor_that_is_killed_leaves_nobody_frozen_for_ever(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = begin(pystack, busybox_rootfs, "freeze")
    before = stack.ps()["api"]["Pid"]
    crash(stack)
    eventually(lambda: stack.ps()["api"]["State"] == "paused")
    kill_hard(supervisor_pid(stack))
    mend(stack)
    eventually(lambda: stack.ps()["api"]["State"] == "running")
    assert stack.ps()["api"]["Pid"] == before
    stack.must("down")
