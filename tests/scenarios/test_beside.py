"""The suite's own world (`tests.world`): whatever others do on this machine is neither seen nor in the way."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests import leaks, world
from tests.machine import ROOT, Pystack, Stack, eventually
from tests.scenarios.talk import http

pytestmark = pytest.mark.kernel

ROUNDS = 2
PYSTACK = f"{sys.executable} -m orchestrator.cli"
STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [httpd, -f, -p, "8000"]
    ports: ["127.0.0.1:{port}:8000"]
    init: true
networks: {{default: {{ipam: {{config: [{{subnet: {subnet}}}]}}}}}}
"""


@pytest.fixture
def foreign(leaves_nothing_behind: None) -> Iterator[Pystack]:
    """A pystack with directories of its own, in the namespaces that this run came from."""
    made = Pystack(Path(tempfile.mkdtemp(prefix="psf-", dir="/tmp")), prefix=world.outside())
    yield made
    complaints = made.close()
    subprocess.run(["rm", "-rf", made.root], check=True)
    assert complaints == []


def stack_of(pystack: Pystack, rootfs: Path, where: tuple[int, str]) -> Stack:
    port, subnet = where
    return pystack.stack(STACK.format(rootfs=rootfs, port=port, subnet=subnet))


def somewhere() -> tuple[int, str]:
    """A port that nobody has in the world outside, and a subnet that another run of these tests hardly has there."""
    script = "from tests.scenarios.talk import free_port; print(free_port())"
    done = subprocess.run(
        [*world.outside(), sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    high, low = os.urandom(2)
    return int(done.stdout), f"10.213.{high}.{low & 0xF0}/28"


@contextlib.contextmanager
def churning(foreign: Pystack, rootfs: Path) -> Iterator[IO[str]]:
    """A foreign project goes up and down until the block ends; one round is over by now. A line comes for each round."""
    stack = stack_of(foreign, rootfs, somewhere())
    enough = stack.directory / "enough"
    up, down = (" ".join([PYSTACK, "-p", stack.name, *words]) for words in (("up", "-d"), ("down",)))
    # A shell of their own: only this one process is a child of ours.
    script = f"until [ -e {enough} ]; do {up} && {down} && echo round || exit; done"
    process = subprocess.Popen(
        [*foreign.prefix, "sh", "-c", script],
        cwd=stack.directory,
        env=foreign.child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield process.stdout
    finally:
        enough.touch()
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr


def test_a_leak_check_beside_a_project_that_goes_up_and_down_sees_nothing(foreign: Pystack, busybox_rootfs: Path) -> None:
    with churning(foreign, busybox_rootfs) as rounds:
        before = leaks.take()
        for _ in range(ROUNDS):
            while not select.select([rounds], [], [], 0)[0]:
                # Not `settle`: nothing of theirs may be seen even for a moment.
                assert leaks.compare(before, leaks.take()) == []
            assert rounds.readline() == "round\n"


def test_a_foreign_project_is_not_seen(foreign: Pystack, busybox_rootfs: Path) -> None:
    before = leaks.take()
    stack = stack_of(foreign, busybox_rootfs, somewhere())
    stack.must("up", "-d")
    assert len(foreign.processes()) == 2
    assert leaks.compare(before, leaks.take()) == []
    kinds = {text.partition("_")[0][:3] for text in foreign.left_outside(stack.name)}
    assert kinds == {"psb", "psv", "tab", "/sy"}, "so what stays of it there is found by its names"
    stack.must("down")
    assert foreign.left_outside(stack.name) == []


def test_two_worlds_have_the_same_ports_and_subnets(foreign: Pystack, pystack: Pystack, busybox_rootfs: Path) -> None:
    port, subnet = somewhere()
    theirs, ours = (stack_of(each, busybox_rootfs, (port, subnet)) for each in (foreign, pystack))
    theirs.must("up", "-d")
    ours.must("up", "-d")
    assert http(f"http://127.0.0.1:{port}/")[0] == 404
    theirs.must("down")
    assert http(f"http://127.0.0.1:{port}/")[0] == 404


def test_a_leak_beside_a_foreign_project_is_still_found(foreign: Pystack, pystack: Pystack, busybox_rootfs: Path) -> None:
    stack_of(foreign, busybox_rootfs, somewhere()).must("up", "-d")
    before = leaks.take()
    ours = stack_of(pystack, busybox_rootfs, somewhere())
    ours.must("up", "-d")
    found = leaks.compare(before, leaks.take())
    ours.must("down")
    kinds = {line.partition(":")[0] for line in found}
    assert kinds == {"processes", "network_namespaces", "links", "cgroups", "nft_tables"}
    assert leaks.settle(before) == []


def test_we_are_not_where_we_came_from() -> None:
    names = ("mnt", "net", "cgroup")
    script = " ".join(["readlink", *(f"/proc/self/ns/{name}" for name in names)])
    there = subprocess.run([*world.outside(), "sh", "-c", script], capture_output=True, text=True, check=True)
    here = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    assert not set(there.stdout.split()) & set(here)
    assert [name for _, name in socket.if_nameindex() if not name.startswith("tunl")] == ["lo"]


KILLED = """
import os, signal, subprocess
from tests import world
world.enter()
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
box = f"{world.hierarchies()[-1].mount}/box"
os.mkdir(box)
with open(f"{box}/cgroup.procs", "w") as file:
    file.write(str(child.pid))
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_leaves_no_process_and_no_cgroup() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    child = Path("/proc", done.stdout.strip())
    eventually(lambda: not child.exists())
