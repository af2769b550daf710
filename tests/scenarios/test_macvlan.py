"""Containers on a network of the host's: a pair of interfaces is the cable."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: sleep 98731
    stop_signal: SIGKILL
    networks: [lan]
    ports: ["80"]
  db:
    image: rootfs:{rootfs}
    command: sleep 98732
    stop_signal: SIGKILL
    networks: [lan]
networks:
  lan:
    driver: macvlan
    driver_opts: {{parent: cable0}}
    ipam: {{config: [{{subnet: 192.0.2.0/24, gateway: 192.0.2.1, ip_range: 192.0.2.64/27}}]}}
"""


@pytest.fixture
def cable() -> Iterator[None]:
    subprocess.run(["ip", "link", "add", "cable0", "up", "type", "veth", "peer", "name", "cable1"], check=True)
    subprocess.run(["ip", "link", "set", "cable1", "up"], check=True)
    yield
    subprocess.run(["ip", "link", "del", "cable0"], check=True)


def found(stack: Stack, service: str, name: str) -> str:
    """What `service` finds as `name`, by its own resolver."""
    words = stack.must("exec", "-T", service, "nslookup", name).stdout.split()
    return words[-1]


def test_a_stack_on_the_hosts_own_network_comes_up_stops_starts_and_goes(
    pystack: Pystack, busybox_rootfs: Path, cable: None
) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    up = stack.must("up", "-d")
    assert "published ports are discarded: web is on macvlan networks only" in up.stderr
    address = stack.must("exec", "-T", "db", "hostname", "-i").stdout.strip()
    assert address.startswith("192.0.2.")
    assert found(stack, "web", "db") == address
    assert "default via 192.0.2.1 dev eth0" in stack.must("exec", "-T", "web", "ip", "route").stdout
    stack.must("stop", "db")
    stack.must("start", "db")
    assert found(stack, "web", "db") == address
    stack.must("down")
    shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert "cable0" in shown
    assert "psb" not in shown


def test_faults_of_the_network_are_refused_where_no_rule_of_ours_is(
    pystack: Pystack, busybox_rootfs: Path, cable: None
) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    stack.must("up", "-d")
    for verb in (("cut", "web", "db"), ("cut", "web", "outside"), ("lag", "web", "1s"), ("dns-fail", "web")):
        refused = stack.run("chaos", *verb)
        assert (refused.code, refused.stdout) == (1, ""), refused
        assert 'error: "web" is on macvlan or ipvlan networks only' in refused.stderr
        assert "hint: their packets pass this machine's bridges by (docs/chaos.md)" in refused.stderr
    assert stack.must("chaos", "list").stdout == "ID   FAULT   LEFT\n"
    stack.must("chaos", "pause", "web", "--for", "0")
    stack.must("chaos", "undo", "--all")


def test_an_interface_that_the_host_does_not_have_is_told_at_its_place(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    failed = stack.run("up", "-d")
    assert failed.code == 1
    assert 'this machine has no interface "cable0"' in failed.stderr
    assert "compose.yaml:17:27: networks.lan.driver_opts.parent: " in failed.stderr
    stack.must("down")
