"""kill -9 of the supervisor and of the monitor: no container, no log byte and no exit status is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, monitor_pid, supervisor_pid

pytestmark = pytest.mark.kernel

LINES = 60_000
WRITE = f"i=0; while [ $$i -lt {LINES} ]; do echo line $$i; i=$$((i+1)); done"
WAIT = "until [ -e /tmp/go ]; do sleep 0.05; done"
EXPECTED = b"".join(b"line %d\n" % number for number in range(LINES))


@pytest.fixture
def writer(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    stack = pystack.stack(
        f"""
services:
  writer:
    image: rootfs:{busybox_rootfs}
    command: ["/bin/sh", "-c", "{WRITE}; {WAIT}; exit 7"]
  bystander:
    image: rootfs:{busybox_rootfs}
    command: [sleep, "3600"]
"""
    )
    stack.must("up", "-d")
    return stack


@pytest.mark.parametrize(
    "victims",
    [(supervisor_pid,), (monitor_pid,), (supervisor_pid, monitor_pid), (monitor_pid, supervisor_pid)],
    ids=lambda victims: "-then-".join(victim.__name__.removesuffix("_pid") for victim in victims),
)
def test_logs_are_complete_to_the_byte_and_the_exit_status_is_kept(
    writer: Stack, victims: tuple[Callable[[Stack], int], ...]
) -> None:
    log = writer.log_file("writer")
    before = {name: row["Pid"] for name, row in writer.ps().items()}
    for victim in victims:
        # In the middle of the writing, as far as a test can say: some lines are there, the last is not.
        eventually(lambda: log.exists() and log.stat().st_size > 0)
        kill_hard(victim(writer))
        writer.must("exec", "bystander", "true")  # Until there is another of its kind: the two together are too much.
        assert {name: row["Pid"] for name, row in writer.ps().items()} == before
    eventually(lambda: log.stat().st_size >= len(EXPECTED))
    assert log.read_bytes() == EXPECTED
    writer.must("exec", "-d", "writer", "touch", "/tmp/go")  # It ends the container, which may end this.
    eventually(lambda: writer.ps()["writer"]["State"] == "exited")
    assert writer.ps()["writer"]["ExitCode"] == 7
    assert writer.ps()["bystander"]["Pid"] == before["bystander"]


def test_logs_shows_what_was_written_while_nobody_supervised(writer: Stack) -> None:
    kill_hard(supervisor_pid(writer))
    log = writer.log_file("writer")
    eventually(lambda: log.stat().st_size >= len(EXPECTED))
    shown = writer.must("logs", "-n", "1", "writer").stdout
    assert f"line {LINES - 1}" in shown


def test_down_after_both_were_killed_leaves_nothing(writer: Stack) -> None:
    kill_hard(supervisor_pid(writer))
    for pid in writer.pystack.processes():
        kill_hard(pid)
    writer.must("down", "-t", "1")
    assert writer.pystack.processes() == {}
