"""The fuzzers, for minutes, from a seed that no run had before. A finding names its seed and is kept by the fuzzer."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.machine import ROOT

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "3"))
STACKS_EACH_MINUTE = 300
SEEDS = 20
"""Each takes about fifteen seconds."""


def fresh_seed() -> int:
    return time.time_ns() // 1_000_000_000


def must(*argv: str) -> None:
    done = subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-20_000:]}\n{done.stderr[-5_000:]}"


def test_mutated_stacks_load_or_are_refused() -> None:
    must("tests.fuzz.loader", "--minutes", str(MINUTES), "--seed", str(fresh_seed()))


def test_random_stacks_mean_the_same_as_in_docker_compose() -> None:
    count = int(MINUTES * STACKS_EACH_MINUTE)
    must("tests.differential.run_random", "--count", str(count), "--seed", str(fresh_seed()), "--jobs", "2")


@pytest.mark.parametrize("number", range(SEEDS))
def test_the_simulation_s_properties_hold_under_other_seeds(number: int) -> None:
    must("pytest", "-q", "tests/simulation", f"--hypothesis-seed={fresh_seed() + number}")
