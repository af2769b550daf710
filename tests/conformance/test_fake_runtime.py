"""The fake runtime keeps the contract that the real one keeps: what is simulated is what will happen."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator.testing import seeds
from orchestrator.testing.conformance import (
    RUNTIME_CHECKS,
    Check,
    Workload,
    run_check,
    shell_command,
)
from orchestrator.testing.conformance_limits import LIMITS_CHECKS
from orchestrator.testing.conformance_looks import LOOK_CHECKS
from orchestrator.testing.conformance_paused import PAUSE_CHECKS
from orchestrator.testing.conformance_prepared import PREPARED_CHECKS
from orchestrator.testing.conformance_projects import PROJECT_CHECKS, ProjectCheck, run_project_check
from orchestrator.testing.conformance_shared import SHARED_CHECKS
from orchestrator.testing.fake_lab import FakeLab

CHECKS = RUNTIME_CHECKS + LIMITS_CHECKS + SHARED_CHECKS + PAUSE_CHECKS + PREPARED_CHECKS + LOOK_CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_fake_runtime(check: Check) -> None:
    for seed in range(5):

        async def main() -> None:
            await run_check(check, FakeLab())

        seeds.run(main, seed=seed)


@pytest.mark.parametrize("check", PROJECT_CHECKS, ids=lambda check: check.__name__)
def test_two_fake_runtimes(check: ProjectCheck) -> None:
    for seed in range(5):

        async def main() -> None:
            await run_project_check(check, FakeLab(), FakeLab())

        seeds.run(main, seed=seed)


@pytest.mark.parametrize(
    ("workload", "status", "output"),
    [
        (Workload(seconds=0, exit_code=7), 7, b""),
        (Workload(seconds=0.01, output="it's\nhere"), 0, b"it's\nhere"),
        (Workload(reads_stdin=True, exit_code=6), 6, b""),
        (Workload(seconds=0.01, ignores_sigterm=True, exit_code=3), 3, b""),
    ],
)
def test_workloads_mean_the_same_to_a_shell(workload: Workload, status: int, output: bytes) -> None:
    done = subprocess.run(workload.argv(), stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert (done.returncode, done.stdout) == (status, output)


def test_commands_mean_the_same_to_a_shell() -> None:
    done = subprocess.run(shell_command(exit_code=4, output="sick"), stdout=subprocess.PIPE, check=False, timeout=10)
    assert (done.returncode, done.stdout) == (4, b"sick")
