"""A process that is killed at any step leaves nothing or whole things; several processes at once do everything once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.images.store.store import Store
from tests.machine import ROOT
from tests.unit.images import made
from tests.unit.images.store.killing import FIRST, SECOND, complaints

EVERY = 4


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a file system: what is written here is synced a thousand times."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="pst-", dir="/dev/shm") as directory:
        yield Path(directory)


def kill(scratch: Path, work: str, every: int) -> str:
    command = [sys.executable, "-m", "tests.unit.images.store.killing", str(scratch), work, str(every)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wrong(output: str) -> list[str]:
    return [line for line in output.splitlines() if not line.endswith(" steps")]


@pytest.mark.parametrize("work", ["pull", "prune", "both"])
def test_a_kill_leaves_nothing_or_whole_things(scratch: Path, work: str) -> None:
    output = kill(scratch, work, EVERY)
    assert wrong(output) == []
    assert int(output.split()[-2]) > 5 * EVERY


@pytest.mark.soak
@pytest.mark.parametrize("work", ["pull", "prune", "both"])
def test_a_kill_at_each_step_leaves_nothing_or_whole_things(scratch: Path, work: str) -> None:
    assert wrong(kill(scratch, work, 1)) == []


STORM = """
import sys
from orchestrator.images.store.store import Store
from tests.unit.images import made
from tests.unit.images.store.killing import FIRST, SECOND
store = Store(sys.argv[1])
for number in range(int(sys.argv[2])):
    for image, name in ((FIRST, "first"), (SECOND, "second")):
        with store.lease() as lease:
            lease.hold(image.id)
            stored = made.put(store, image, f"docker.io/library/{name}:{number % 2}")
            assert store.get(stored.id).layers == stored.layers
        store.unname(f"docker.io/library/{name}:{number % 2}")
    store.collect(in_use=(), unnamed=True, unused=number % 3 == 0)
"""


def test_processes_that_pull_and_prune_the_same_images_at_once_do_not_harm_each_other(scratch: Path) -> None:
    root = scratch / "images"
    storm = [sys.executable, "-c", STORM, str(root), "8"]
    running = [
        subprocess.Popen(storm, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert complaints(root) == []
    store = Store(str(root))
    store.collect(in_use=(), unnamed=True, unused=True)
    assert made.kept(root) == []
    assert {FIRST.id, SECOND.id} & {image.id for image in store.images()} == set()
