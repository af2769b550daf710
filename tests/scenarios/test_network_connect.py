"""`network connect` and `disconnect`: what a container reaches before and afterwards, and what becomes of it later."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Result, Stack, eventually, eventually_gone
from tests.scenarios.talk import free_port, kill_hard, supervisor_pid
from tests.scenarios.test_reconnect import Talk, answers

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [nc, -ll, -p, "7000", -e, cat]
    stop_signal: SIGKILL
    restart: always
    networks: {{front: {{aliases: [www]}}}}
    ports: ["127.0.0.1:{port}:7000"]
  peer:
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [back]
networks:
  front: {{}}
  back: {{ipam: {{config: [{{subnet: 10.77.97.0/24}}]}}}}
  {more}
"""

OTHER = """
services:
  reader:
    image: rootfs:{rootfs}
    command: [nc, -ll, -p, "7000", -e, cat]
    stop_signal: SIGKILL
    networks: [meeting]
networks:
  meeting: {{external: true}}
"""


class Site:
    def __init__(self, pystack: Pystack, rootfs: Path) -> None:
        self._rootfs = rootfs
        self.port = free_port()
        self.stack: Stack = pystack.stack("services: {}\n")

    def up(self, *arguments: str, more: str = "{}", replace: tuple[str, str] = ("", "")) -> str:
        """What it said."""
        text = STACK.format(rootfs=self._rootfs, port=self.port, more="" if more == "{}" else more)
        (self.stack.directory / "compose.yaml").write_text(text.replace(*replace) if replace[0] else text)
        return self.stack.must("up", "-d", *arguments).stderr

    def connect(self, *words: str) -> Result:
        return self.stack.run("network", "connect", *words)

    def disconnect(self, *words: str) -> Result:
        return self.stack.run("network", "disconnect", *words)

    def pid(self) -> int:
        found: int = self.stack.ps()["web"]["Pid"]
        return found

    def address(self, interface: str) -> str:
        """Of `web`; "" for an interface that is not there."""
        text = self.stack.run("exec", "-T", "web", "ip", "-4", "-o", "addr", "show", "dev", interface).stdout
        return text.partition("inet ")[2].partition("/")[0]

    def reaches(self, name: str, service: str = "peer", within_s: int = 5) -> str:
        """At which address `service` finds who answers to `name`; "" for nobody."""
        return reaches(self.stack, name, service, within_s)


def reaches(stack: Stack, name: str, service: str, within_s: int = 5) -> str:
    script = f"ping -c 1 -W 1 {name}; echo hello | nc -w {within_s} {name} 7000"
    said = stack.run("exec", "-T", service, "sh", "-c", script).stdout
    return said.partition("(")[2].partition(")")[0] if said.endswith("hello\n") else ""


@pytest.fixture
def site(pystack: Pystack, busybox_rootfs: Path) -> Site:
    return Site(pystack, busybox_rootfs)


@pytest.fixture
def meeting(pystack: Pystack) -> Iterator[str]:
    """A shared network, which nothing is left of after the test."""
    assert pystack.run("network", "create", "meeting").code == 0
    yield "meeting"
    for name, directory in pystack.projects.items():
        pystack.run("-p", name, "down", "-t", "0", cwd=directory)
    if pystack.run("network", "inspect", "meeting").code == 0:
        removed = pystack.run("network", "rm", "meeting")
        assert removed.code == 0, removed
    assert not (pystack.data_dir / "networks").exists()


def users(pystack: Pystack, network: str) -> list[str]:
    shown: list[dict[str, Any]] = json.loads(pystack.run("network", "inspect", network).stdout)
    return sorted(item["Name"] for item in shown[0]["Containers"].values())


def test_a_container_is_put_on_a_network_of_the_project_and_taken_off_while_it_runs(site: Site) -> None:
    site.up()
    pid, first = site.pid(), site.address("eth0")
    assert site.reaches("web") == site.reaches(first, within_s=1) == ""
    with Talk("127.0.0.1", site.port) as talk:
        assert talk.goes_on()
        made = site.connect("--alias", "shop", "--ip", "10.77.97.77", "--link", "peer:mate", "back", "web")
        assert made.code == 0, made
        assert "1 container connected" in made.stderr
        assert (site.address("eth0"), site.address("eth1")) == (first, "10.77.97.77")
        for name in ("web", "shop", "web.back", f"{site.stack.name}-web-1"):
            assert site.reaches(name) == "10.77.97.77", name
        assert "10.77.97." in site.stack.must("exec", "-T", "web", "nslookup", "mate").stdout.partition("Name:")[2]
        assert "10.77.97.77\t" in site.stack.must("exec", "-T", "web", "cat", "/etc/hosts").stdout
        again = site.connect("back", f"{site.stack.name}-web-1")
        assert (again.code, "is on network \"back\" already" in again.stderr) == (1, True)

        left = site.disconnect("back", f"{site.stack.name}-web-1")
        assert left.code == 0, left
        assert site.reaches("web") == site.reaches("10.77.97.77", within_s=1) == site.address("eth1") == ""
        assert talk.goes_on()
    assert site.pid() == pid
    refused = site.disconnect("back", "web")
    assert f'container "{site.stack.name}-web-1" is not on network "back"' in refused.stderr
    assert "hint: it is on front" in refused.stderr
    for forced in (("-f", "back", "web"), ("--force", "back", "nobody")):
        assert site.disconnect(*forced).code == 0


def test_what_was_connected_stays_until_the_container_is_made_anew(site: Site) -> None:
    site.up()
    assert site.connect("back", "web").code == 0
    now = site.address("eth1")
    pid = site.pid()
    assert site.reaches("web") == now
    assert "nothing had to change" in site.up()
    assert "reconnect web: ports" in _plan_with_another_port(site)
    site.stack.must("up", "-d")
    assert (site.reaches("web"), site.pid(), answers(site.port)) == (now, pid, True)
    # A new run of it, and another supervisor, change nothing of it either.
    os.kill(pid, signal.SIGKILL)
    eventually_gone(pid)
    assert eventually(lambda: site.reaches("web")) == now
    site.stack.must("stop", "web")
    assert site.reaches("web") == ""
    kill_hard(supervisor_pid(site.stack))
    site.stack.must("start", "web")
    assert (site.reaches("web"), site.address("eth1")) == (now, now)
    kill_hard(supervisor_pid(site.stack))
    eventually(lambda: "web" in site.stack.ps())
    assert (site.reaches("web"), answers(site.port)) == (now, True)
    # One more replica is made as the stack says; and so is this one when it is made anew.
    site.up("--force-recreate")
    assert (site.reaches("web"), site.address("eth1")) == ("", "")


def _plan_with_another_port(site: Site) -> str:
    site.port = free_port()
    path = site.stack.directory / "compose.yaml"
    path.write_text(path.read_text().replace(path.read_text().split("127.0.0.1:")[1].split(":")[0], str(site.port)))
    return site.stack.must("plan").stdout


def test_what_was_disconnected_comes_back_with_the_next_up(site: Site) -> None:
    site.up()
    pid, first = site.pid(), site.address("eth0")
    assert answers(site.port)
    assert site.disconnect("front", "web").code == 0
    assert (site.address("eth0"), answers(site.port), answers(7000, first)) == ("", False, False)
    os.kill(pid, signal.SIGKILL)
    eventually_gone(pid)
    pid = eventually(site.pid)
    assert (site.address("eth0"), answers(site.port)) == ("", False)
    plan = site.stack.must("plan").stdout
    assert "reconnect web: networks +front, which it was disconnected from" in plan
    assert "reconnected" in site.up()
    assert (answers(site.port), site.pid()) == (True, pid)
    assert site.reaches("www", service="web") == site.address("eth0")
    # By hand it is as the stack has it, too, with what is said besides.
    assert site.disconnect("front", "web").code == 0
    assert site.connect("--alias", "also", "front", "web").code == 0
    assert answers(site.port)
    for name in ("www", "also"):
        assert site.reaches(name, service="web") == site.address("eth0")
    assert "nothing had to change" in site.up()


def test_a_container_joins_a_shared_network_that_its_stack_does_not_know(
    pystack: Pystack, busybox_rootfs: Path, site: Site, meeting: str
) -> None:
    other = pystack.stack(OTHER.format(rootfs=busybox_rootfs))
    other.must("up", "-d")
    site.up()
    assert reaches(other, f"{site.stack.name}-web-1", "reader") == site.reaches("reader", "web") == ""
    identity = json.loads(pystack.run("network", "inspect", meeting).stdout)[0]["Id"]
    assert site.connect("--alias", "shop", identity[:12], "web").code == 0
    assert users(pystack, meeting) == sorted([f"{site.stack.name}-web-1", f"{other.name}-reader-1"])
    for name in ("web", "shop", f"{site.stack.name}-web-1"):
        assert eventually(partial(reaches, other, name, "reader")) == site.address("eth1"), name
    assert site.reaches("reader", "web")
    refused = pystack.run("network", "rm", meeting)
    assert (refused.code, f"{site.stack.name}-web-1" in refused.stderr) == (1, True)
    # It survives the supervisor and `up`, and `peer` has nothing of it.
    kill_hard(supervisor_pid_of(site.stack))
    assert "nothing had to change" in site.up()
    assert eventually(lambda: reaches(other, "shop", "reader"))
    assert site.reaches("reader", "peer") == ""
    # A stack that has it by now, and calls it otherwise, takes it over: first for somebody else, then for itself.
    more, pid = "talk: {external: true, name: meeting}", site.pid()
    site.up(more=more, replace=("networks: [back]", "networks: [back, talk]"))
    assert eventually(lambda: reaches(other, "shop", "reader")) == site.reaches("shop.talk")
    assert site.reaches("reader") == site.reaches("reader", "web") != ""
    own = "networks: {front: {aliases: [www]}}"
    site.up(more=more, replace=(own, "networks: {front: {aliases: [www]}, talk: {}}"))
    assert reaches(other, "web", "reader") == site.address("eth1")
    assert site.pid() == pid
    assert eventually(lambda: reaches(other, "shop", "reader") == "")
    site.up()
    assert eventually(lambda: reaches(other, "web", "reader") == "")
    assert site.connect(meeting, "web").code == 0
    assert site.disconnect(meeting, "web").code == 0
    assert users(pystack, meeting) == [f"{other.name}-reader-1"]
    other.must("down")
    assert pystack.run("network", "rm", meeting).code == 0
    assert pystack.run("network", "ls").stdout.count("meeting") == 0


def supervisor_pid_of(stack: Stack) -> int:
    found = [pid for pid, text in stack.pystack.processes().items() if "supervisor" in text and stack.name in text]
    assert len(found) == 1, found
    return found[0]


def test_what_makes_no_sense_is_one_error(site: Site, meeting: str) -> None:
    site.up("--scale", "peer=2")
    name = site.stack.name
    for words, code, text in (
        (("nowhere", "web"), 2, 'there is no network "nowhere"'),
        (("back", "nobody"), 2, "no such service: nobody"),
        (("back", "web", "--ip", "10.77.97"), 2, '--ip: "10.77.97" is not an IPv4 address'),
        (("back", "web", "--ip", "10.1.1.1"), 1, 'error: --ip: network "back": 10.1.1.1 is not'),
        (("front", "peer", "--ip", "10.1.1.1"), 2, 'service "peer" has 2 containers, and an address is for one'),
        (("back", "web", "--link", "nobody:x"), 2, '"nobody", which "x" is to mean, is neither a service nor a container'),
        (("back", "web", "--gw-priority", "much"), 2, '--gw-priority: "much" is not a whole number'),
        (("front", "web"), 1, f'container "{name}-web-1" is on network "front" already'),
    ):
        refused = site.connect(*words)
        assert (refused.code, refused.stderr.count("error: ")) == (code, 1), refused
        assert text in refused.stderr
    assert (site.address("eth0") != "", site.address("eth1")) == (True, "")
    assert "nothing had to change" in site.up("--scale", "peer=2")
    assert site.connect("front", "peer").code == 0
    assert site.reaches("www")
