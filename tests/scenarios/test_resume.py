"""`stop --halt` and `start --resume`, which is what a unit does: what ran runs again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import ROOT, Pystack, Stack
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  db: {{image: "rootfs:{rootfs}", command: [sleep, "3600"], init: true}}
  web: {{image: "rootfs:{rootfs}", command: [sleep, "3600"], init: true, depends_on: [db]}}
  once: {{image: "rootfs:{rootfs}", command: ["true"]}}
  idle: {{image: "rootfs:{rootfs}", command: [sleep, "3600"], init: true, restart: unless-stopped}}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Iterator[Stack]:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    yield made
    made.must("down", "-t", "1")


def states(stack: Stack) -> dict[str, str]:
    return {name: row["State"] for name, row in stack.ps().items()}


def test_the_script_that_enable_writes_halts_and_resumes_the_project(stack: Stack, tmp_path: Path) -> None:
    stack.must("up", "-d", "--wait")
    stack.must("stop", "-t", "1", "idle")
    assert states(stack) == {"db": "running", "web": "running", "once": "exited", "idle": "exited"}
    stack.must("enable", "--init", "--root", str(tmp_path), env={"PYTHONPATH": str(ROOT)})
    script = tmp_path / "etc/init.d" / f"pystack-{stack.name}"

    def init(verb: str) -> None:
        clean = {"PATH": os.defpath}
        done = subprocess.run([script, verb], cwd="/", env=clean, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    init("stop")
    assert set(states(stack).values()) == {"exited"}
    init("start")
    assert states(stack) == {"db": "running", "web": "running", "once": "exited", "idle": "exited"}
    kill_hard(supervisor_pid(stack))
    init("restart")
    assert states(stack) == {"db": "running", "web": "running", "once": "exited", "idle": "exited"}
    assert "nothing to start" in stack.must("start", "--resume").stderr
    stack.must("down", "-t", "1")
    init("start")
    init("stop")
