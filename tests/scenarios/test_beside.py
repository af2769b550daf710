"""The suite's own world (`tests.world`): whatever others do on this machine is neither seen nor in the way."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, world
from tests.machine import Pystack, Stack
from tests.scenarios.talk import free_port, http

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [httpd, -f, -p, "8000"]
    ports: ["127.0.0.1:{port}:8000"]
    stop_grace_period: 1s
networks: {{default: {{ipam: {{config: [{{subnet: 10.213.7.0/24}}]}}}}}}
"""


@pytest.fixture
def foreign(leaves_nothing_behind: None) -> Iterator[Pystack]:
    """A pystack with directories of its own, in the namespaces that this run came from."""
    made = Pystack(Path(tempfile.mkdtemp(prefix="psf-", dir="/tmp")), prefix=world.outside())
    yield made
    complaints = made.close()
    subprocess.run(["rm", "-rf", made.root], check=True)
    assert complaints == []


def stack_of(pystack: Pystack, rootfs: Path, port: int) -> Stack:
    return pystack.stack(STACK.format(rootfs=rootfs, port=port))


def test_a_foreign_project_is_not_seen(foreign: Pystack, busybox_rootfs: Path) -> None:
    before = leaks.take()
    stack = stack_of(foreign, busybox_rootfs, free_port())
    stack.must("up", "-d")
    assert len(foreign.processes()) == 2
    assert leaks.compare(before, leaks.take()) == []


def test_two_worlds_have_the_same_ports_and_subnets(foreign: Pystack, pystack: Pystack, busybox_rootfs: Path) -> None:
    port = free_port()
    theirs, ours = (stack_of(each, busybox_rootfs, port) for each in (foreign, pystack))
    theirs.must("up", "-d")
    ours.must("up", "-d")
    assert http(f"http://127.0.0.1:{port}/")[0] == 404
    theirs.must("down")
    assert http(f"http://127.0.0.1:{port}/")[0] == 404


def test_a_leak_beside_a_foreign_project_is_still_found(foreign: Pystack, pystack: Pystack, busybox_rootfs: Path) -> None:
    stack_of(foreign, busybox_rootfs, free_port()).must("up", "-d")
    before = leaks.take()
    ours = stack_of(pystack, busybox_rootfs, free_port())
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
