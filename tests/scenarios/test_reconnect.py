"""`up` after a change of networks and ports alone: the container that runs is brought to them."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Stack, eventually, eventually_gone
from tests.scenarios.talk import free_port, running, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [nc, -ll, -p, "7000", -e, cat]
    stop_signal: SIGKILL
    {wiring}
  peer:
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [default, back]
networks:
  default: {{}}
  back: {{}}
  front: {front}
"""
FRONT = "{ipam: {config: [{subnet: 10.77.99.0/24}]}}"


class Site:
    """The stack, of which `web` is wired anew with each `up`."""

    def __init__(self, pystack: Pystack, rootfs: Path) -> None:
        self._rootfs = rootfs
        self.stack: Stack = pystack.stack("services: {}\n")

    def write(self, wiring: str, front: str = FRONT) -> None:
        text = STACK.format(rootfs=self._rootfs, wiring=wiring, front=front)
        (self.stack.directory / "compose.yaml").write_text(text)

    def up(self, wiring: str, front: str = FRONT) -> str:
        """What it said."""
        self.write(wiring, front)
        return self.stack.must("up", "-d").stderr

    def row(self) -> dict[str, Any]:
        found: dict[str, Any] = self.stack.ps()["web"]
        return found

    def read(self, *command: str, service: str = "web") -> str:
        return self.stack.must("exec", "-T", service, *command).stdout

    def address(self, interface: str) -> str:
        """"" for an interface that is not there."""
        text = self.stack.run("exec", "-T", "web", "ip", "-4", "-o", "addr", "show", "dev", interface).stdout
        return text.partition("inet ")[2].partition("/")[0]

    def reaches(self, name: str) -> str:
        """At which address `peer` finds who answers to `name`; "" for nobody."""
        script = f"ping -c 1 -W 1 {name}; echo hello | nc -w 5 {name} 7000"
        said = self.stack.run("exec", "-T", "peer", "sh", "-c", script).stdout
        return said.partition("(")[2].partition(")")[0] if said.endswith("hello\n") else ""


@pytest.fixture
def site(pystack: Pystack, busybox_rootfs: Path) -> Site:
    return Site(pystack, busybox_rootfs)


class Talk:
    """A connection to the echo server of `web`, which stays open."""

    def __init__(self, address: str, port: int) -> None:
        found = eventually(lambda: _connected(address, port))
        assert found is not None
        self._sock = found

    def goes_on(self) -> bool:
        self._sock.sendall(b"hello\n")
        return self._sock.recv(100) == b"hello\n"

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def _connected(address: str, port: int) -> socket.socket | None:
    try:
        return socket.create_connection((address, port), timeout=10)
    except OSError:
        return None


def answers(port: int, address: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((address, port), timeout=5) as sock:
            sock.sendall(b"?")
            return sock.recv(1) == b"?"
    except OSError:
        return False


def test_the_files_of_a_read_only_container_follow(site: Site) -> None:
    site.up("read_only: true\n    networks: [default]")
    pid, before = site.row()["Pid"], site.read("cat", "/etc/hosts")
    site.up("read_only: true\n    networks: [default, back]")
    assert site.row()["Pid"] == pid
    now = site.read("cat", "/etc/hosts")
    assert site.address("eth1") in now.removeprefix(before)
    for name in ("hosts", "hostname", "resolv.conf"):
        refused = site.stack.run("exec", "-T", "web", "sh", "-c", f"echo x > /etc/{name}")
        assert "Read-only file system" in refused.stderr
    assert site.stack.run("cp", "compose.yaml", "web:/etc/hosts").code != 0
    assert site.read("cat", "/etc/hosts") == now


def test_networks_come_and_go_under_a_connection_that_goes_on(site: Site) -> None:
    site.up("networks: [default]")
    pid, first = site.row()["Pid"], site.address("eth0")
    with Talk(first, 7000) as talk:
        assert talk.goes_on()

        site.write("networks: {default: {}, back: {aliases: [www]}}")
        assert "reconnect web: networks +back" in site.stack.must("plan").stdout
        site.stack.must("up", "-d")
        assert talk.goes_on()
        second = site.address("eth1")
        assert second
        assert site.reaches("www.back") == second
        assert f"{second}\t" in site.read("cat", "/etc/hosts")

        assert "nothing had to change" in site.stack.must("up", "-d").stderr
        site.up("networks: {default: {}, back: {aliases: [mail]}}")
        assert (site.reaches("www"), site.reaches("mail")) == ("", second)

        site.up("networks: [default]")
        assert talk.goes_on()
        assert site.reaches("mail") == ""
        assert site.reaches("web") == site.address("eth0") == first
        assert (site.address("eth1"), second in site.read("cat", "/etc/hosts")) == ("", False)
        assert site.row()["Pid"] == pid


def test_a_container_moves_to_another_network_altogether(site: Site) -> None:
    site.up("networks: [default]")
    pid, first = site.row()["Pid"], site.address("eth0")
    site.up("networks: [back]")
    now = site.address("eth0")
    assert now not in ("", first)
    assert site.reaches("web") == now
    resolver = site.read("cat", "/etc/resolv.conf")
    assert site.read("nslookup", "peer")
    assert f"nameserver {now.rpartition('.')[0].rpartition('.')[0]}." in resolver
    via, gateway, dev, interface = site.read("ip", "route").split()[1:5]
    assert (via, dev, interface) == ("via", "dev", "eth0")
    assert gateway.rpartition(".")[0].rpartition(".")[0] == now.rpartition(".")[0].rpartition(".")[0]
    assert site.row()["Pid"] == pid
    # Also those that come later have it so.
    os.kill(pid, signal.SIGKILL)
    eventually_gone(pid)
    site.stack.must("up", "-d")
    assert (site.address("eth0"), site.read("cat", "/etc/resolv.conf")) == (now, resolver)


def test_a_fixed_address_is_moved(site: Site) -> None:
    site.up("networks: {front: {ipv4_address: 10.77.99.7}}")
    pid = site.row()["Pid"]
    for last in (8, 7):
        site.up(f"networks: {{front: {{ipv4_address: 10.77.99.{last}}}, default: {{}}}}")
        assert site.address("eth0") == f"10.77.99.{last}"
        assert answers(7000, f"10.77.99.{last}")
    refused = site.stack.directory / "compose.yaml"
    refused.write_text(refused.read_text().replace("10.77.99.7", "10.77.99.1"))
    assert site.stack.run("up", "-d").code != 0
    assert (site.address("eth0"), site.row()["Pid"]) == ("10.77.99.7", pid)


def test_ports_change_and_connections_by_those_that_stay_go_on(site: Site) -> None:
    first, second, third = free_port(), free_port(), free_port()
    site.up(f'ports: ["{first}:7000", "{second}:7000"]')
    pid = site.row()["Pid"]
    with Talk("127.0.0.1", first) as talk:
        assert talk.goes_on()
        site.write(f'ports: ["{first}:7000", "{third}:7000"]')
        assert f"reconnect web: ports +{third}:7000 -{second}:7000" in site.stack.must("plan").stdout
        site.stack.must("up", "-d")
        assert (answers(first), answers(second), answers(third)) == (True, False, True)
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", second))
            taken.listen()
            site.write(f'ports: ["{second}:7000"]')
            refused = site.stack.run("up", "-d")
            assert refused.code != 0
            assert f"port {second}/tcp on 0.0.0.0 is in use" in refused.stderr
        assert (answers(first), answers(third)) == (True, True)
        assert talk.goes_on()
        assert site.row()["Pid"] == pid
        site.up("networks: [default]")
        assert (answers(first), answers(third)) == (False, False)


def test_who_is_in_its_network_sees_the_new_addresses(site: Site) -> None:
    beside = "\n  beside:\n    image: rootfs:{}\n    command: [sleep, '1000']\n    network_mode: service:web\n".format
    lines = STACK.replace("  peer:", f"{beside('{rootfs}')}  peer:", 1)

    def up(wiring: str) -> None:
        text = lines.format(rootfs=site._rootfs, wiring=wiring, front=FRONT)
        (site.stack.directory / "compose.yaml").write_text(text)
        site.stack.must("up", "-d")

    up("networks: [default]")
    pid = site.stack.ps()["beside"]["Pid"]
    up("networks: [back]")
    assert site.read("cat", "/etc/hosts", service="beside") == site.read("cat", "/etc/hosts")
    assert site.address("eth0") in site.read("cat", "/etc/hosts", service="beside")
    assert site.read("cat", "/etc/resolv.conf", service="beside") == site.read("cat", "/etc/resolv.conf")
    assert site.stack.ps()["beside"]["Pid"] == pid


def test_a_network_with_another_subnet_is_made_anew_under_its_containers(site: Site) -> None:
    port = free_port()
    wiring = f'networks: [default, front]\n    ports: ["{port}:7000"]'
    site.up(wiring)
    pid, first = site.row()["Pid"], site.address("eth0")
    assert site.address("eth1").startswith("10.77.99.")
    with Talk(first, 7000) as talk:
        other = FRONT.replace("99", "98")
        for front, prefix in ((other, "10.77.98."), (other[:-1] + ", internal: true}", "10.77.98."), (FRONT, "10.77.99.")):
            site.write(wiring, front)
            plan = site.stack.must("plan").stdout
            assert "create network front: made anew: " in plan
            assert "reconnect web: network front is made anew" in plan
            site.stack.must("up", "-d")
            assert site.address("eth1").startswith(prefix)
            assert answers(7000, site.address("eth1"))
            assert answers(port)
            assert f"{site.address('eth1')}\t" in site.read("cat", "/etc/hosts")
            assert talk.goes_on()
            assert "nothing had to change" in site.stack.must("up", "-d").stderr
    site.up("networks: [front]", FRONT)
    site.up("networks: [front]", other)
    assert site.address("eth0").startswith("10.77.98.")
    assert site.read("nslookup", "web")
    assert site.row()["Pid"] == pid


def test_another_network_mode_means_another_container(site: Site) -> None:
    site.up("networks: [default]")
    pid = site.row()["Pid"]
    site.write("network_mode: none")
    assert "config hash changed: network_mode" in site.stack.must("plan").stdout
    site.stack.must("up", "-d")
    assert site.row()["Pid"] != pid


@pytest.mark.parametrize("moment", range(6))
def test_a_supervisor_that_is_killed_in_the_middle_leaves_what_the_next_up_completes(site: Site, moment: int) -> None:
    port = free_port()
    site.up("networks: [default]")
    row = site.row()
    with Talk(site.address("eth0"), 7000) as talk:
        site.write(f'networks: [default, back]\n    ports: ["{port}:7000"]')
        events = next(site.stack.pystack.data_dir.glob("projects/*/events.jsonl"))
        before, supervisor = events.stat().st_size, supervisor_pid(site.stack)
        with running(site.stack, "up", "-d"):
            eventually(lambda: events.stat().st_size > before)
            until_s = time.monotonic() + moment * 0.004  # Some further into it, each time.
            while time.monotonic() < until_s:
                pass
            os.kill(supervisor, signal.SIGKILL)
        eventually_gone(supervisor)
        site.stack.must("up", "-d")
        assert answers(port)
        assert talk.goes_on()
        assert (site.address("eth1") != "", site.reaches("web") != "") == (True, True)
        assert site.row()["Pid"] == row["Pid"]
        site.up("networks: [default]")
        assert (answers(port), site.address("eth1")) == (False, "")
