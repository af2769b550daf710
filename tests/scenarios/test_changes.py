"""What a second ``up`` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

STACK = """
services:
  a:
    image: rootfs:{rootfs}
    command: [sleep, "{a_s}"]
    stop_grace_period: 1s
  b:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
    depends_on: [a]
"""


def test_nothing_changed_means_nothing_is_done(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs, a_s=3600))
    stack.must("up", "-d")
    before = {name: row["Pid"] for name, row in stack.ps().items()}
    again = stack.must("up", "-d")
    assert "nothing had to change" in again.stderr
    assert {name: row["Pid"] for name, row in stack.ps().items()} == before


def test_one_changed_service_is_replaced_alone(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs, a_s=3600))
    stack.must("up", "-d")
    before = {name: row["Pid"] for name, row in stack.ps().items()}
    (stack.directory / "compose.yaml").write_text(STACK.format(rootfs=busybox_rootfs, a_s=7200))
    plan = stack.must("plan").stdout
    stack.must("up", "-d")
    after = {name: row["Pid"] for name, row in stack.ps().items()}
    assert after["b"] == before["b"]
    assert after["a"] != before["a"]
    assert "command" in plan, "the plan says what changed"


LIMITED = """
services:
  a:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    mem_limit: {memory}
    pids_limit: {pids}
"""


def test_new_limits_are_given_to_what_runs(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(LIMITED.format(rootfs=busybox_rootfs, memory="64m", pids=100))
    stack.must("up", "-d")
    before = stack.ps()["a"]["Pid"]
    (stack.directory / "compose.yaml").write_text(LIMITED.format(rootfs=busybox_rootfs, memory="96m", pids=100))
    assert "update a: limits changed: memory" in stack.must("plan").stdout
    stack.must("up", "-d")
    assert stack.ps()["a"]["Pid"] == before
    assert " / 96MiB" in stack.must("stats", "--no-stream").stdout
    assert "nothing had to change" in stack.must("up", "-d").stderr
    stack.must("restart", "-t", "0")
    assert " / 96MiB" in stack.must("stats", "--no-stream").stdout
