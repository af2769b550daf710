"""The whole of the kernel tests, while a project outside of their world goes up and down all the time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import ROOT, Pystack
from tests.scenarios.test_beside import churning, foreign

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

ROUNDS = 10
__all__ = ["foreign"]


@pytest.mark.parametrize("tests", ["tests/kernel", "tests/scenarios"])
def test_the_kernel_tests_pass_beside_a_project_that_goes_up_and_down(
    tests: str, foreign: Pystack, busybox_rootfs: Path
) -> None:
    environment = {**os.environ, "PYSTACK_SOAK": "0", "TMPDIR": "/tmp"}  # Its files are no leak of this test.
    with churning(foreign, busybox_rootfs) as rounds:
        argv = [sys.executable, "-m", "pytest", "-q", "-m", "kernel and not servers", tests]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-20_000:]
        for _ in range(ROUNDS):
            assert rounds.readline() == "round\n"
