"""Networks that several projects share: what they reach there, and what they do not."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import http, kill_hard, monitor_pid, supervisor_pid

pytestmark = pytest.mark.kernel

SHOP = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo shop > index.html && exec httpd -f -p 80"]
    stop_signal: SIGKILL
    working_dir: /tmp
    networks: {{meet: {{aliases: [front]}}, default: {{}}}}
  db:
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
networks:
  meet: {{external: true, name: {network}}}
"""

STATS = """
services:
  reader:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo stats > index.html && exec httpd -f -p 80"]
    stop_signal: SIGKILL
    working_dir: /tmp
    ports: ["127.0.0.1::80"]
    networks: [{network}]
  web:
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
networks:
  {network}: {{external: true}}
"""

ALONE = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
"""


@pytest.fixture
def network(pystack: Pystack) -> Iterator[str]:
    """A shared network, which nothing is left of after the test."""
    assert pystack.run("network", "create", "meeting", "--ipv6").code == 0
    yield "meeting"
    for name, directory in pystack.projects.items():
        pystack.run("-p", name, "down", "-t", "0", cwd=directory)
    if pystack.run("network", "inspect", "meeting").code == 0:
        removed = pystack.run("network", "rm", "meeting")
        assert removed.code == 0, removed
    assert not (pystack.data_dir / "networks").exists()


def stack(pystack: Pystack, text: str, rootfs: Path, network: str = "") -> Stack:
    made = pystack.stack(text.format(rootfs=rootfs, network=network))
    made.must("up", "-d")
    return made


def fetched(stack: Stack, service: str, name: str, within_s: int = 3) -> str:
    """What `service` gets from `name` by HTTP; "" if it does not."""
    words = ("timeout", str(within_s), "wget", "-qO-", f"http://{name}/")
    return stack.run("exec", "-T", service, *words).stdout.strip()


def address(stack: Stack, service: str, network: str, family: str = "IPv4Address") -> str:
    shown: list[dict[str, Any]] = json.loads(stack.pystack.run("network", "inspect", network).stdout)
    containers = shown[0]["Containers"].values()
    found = [item[family] for item in containers if item["Name"] == f"{stack.name}-{service}-1"]
    return str(found[0].partition("/")[0])


def looked_up(stack: Stack, service: str, name: str) -> bool:
    found = stack.run("exec", "-T", service, "nslookup", name)
    return found.code == 0


def test_two_projects_meet_on_a_shared_network_and_nowhere_else(
    pystack: Pystack, busybox_rootfs: Path, network: str
) -> None:
    shop, stats = stack(pystack, SHOP, busybox_rootfs, network), stack(pystack, STATS, busybox_rootfs, network)
    third = stack(pystack, ALONE, busybox_rootfs)
    listed = pystack.run("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert {network, f"{shop.name}_default", f"{stats.name}_default", f"{third.name}_default"} <= set(listed)
    # By names and addresses, both ways. A project's own names come first.
    for name in ("reader", f"{stats.name}-reader-1", f"reader.{network}", address(stats, "reader", network)):
        assert fetched(shop, "web", name) == "stats", name
    six = address(shop, "web", network, "IPv6Address")
    for name in ("front", f"{shop.name}-web-1", address(shop, "web", network), f"[{six}]"):
        assert fetched(stats, "reader", name) == "shop", name
    # What is on the projects' own networks is neither known nor reached.
    assert not looked_up(stats, "reader", "db")
    assert not looked_up(stats, "reader", f"{shop.name}-db-1")
    assert not looked_up(shop, "db", "reader")
    inside = shop.must("exec", "-T", "db", "hostname", "-i").stdout.split()[0]
    assert stats.run("exec", "-T", "reader", "ping", "-c", "1", "-W", "1", inside).code != 0
    # Who is not on it sees nothing of it.
    for name in ("front", "reader"):
        assert not looked_up(third, "web", name)
    for there in (address(shop, "web", network), address(stats, "reader", network)):
        assert fetched(third, "web", there, within_s=1) == ""
        assert fetched(shop, "db", there, within_s=1) == ""
    # What is published is, by a container that is on nothing else.
    port = stats.must("port", "reader", "80").stdout.strip()
    assert http(f"http://{port}/") == (200, "stats\n")


def test_one_goes_down_and_the_other_stays_where_it_is(pystack: Pystack, busybox_rootfs: Path, network: str) -> None:
    shop, stats = stack(pystack, SHOP, busybox_rootfs, network), stack(pystack, STATS, busybox_rootfs, network)
    before = address(stats, "reader", network)
    refused = pystack.run("network", "rm", network)
    assert refused.code == 1
    assert f"{shop.name}-web-1 of project {shop.name}" in refused.stderr
    assert pystack.run("network", "prune", "-f").stdout == ""
    shop.must("down", "-t", "0")
    assert not looked_up(stats, "reader", "front")
    assert address(stats, "reader", network) == before
    again = stack(pystack, SHOP, busybox_rootfs, network)
    assert fetched(again, "web", "reader") == "stats"
    assert fetched(stats, "reader", "front") == "shop"


def test_a_killed_supervisor_is_neither_missed_nor_believed_for_ever(
    pystack: Pystack, busybox_rootfs: Path, network: str
) -> None:
    shop = stack(pystack, SHOP, busybox_rootfs, network)
    killed, monitor = supervisor_pid(shop), monitor_pid(shop)
    stats = stack(pystack, STATS, busybox_rootfs, network)
    kill_hard(killed)
    assert fetched(stats, "reader", "front") == "shop"
    assert fetched(stats, "reader", address(shop, "web", network)) == "shop"
    shop.must("up", "-d")
    assert fetched(stats, "reader", "front") == "shop"
    assert fetched(shop, "web", "reader") == "stats"
    for pid in (_supervisor_of(pystack, shop), monitor, *_first_processes(pystack, shop)):
        kill_hard(pid)
    eventually(lambda: not looked_up(stats, "reader", "front"))
    shop.must("up", "-d")
    eventually(lambda: fetched(stats, "reader", "front") == "shop")


def _supervisor_of(pystack: Pystack, stack: Stack) -> int:
    return int((pystack.data_dir / "projects" / stack.name / "lock").read_text().strip())


def _first_processes(pystack: Pystack, stack: Stack) -> list[int]:
    starts = (pystack.data_dir / "projects" / stack.name / "exits.journal").read_text().splitlines()
    return [entry["pid"] for entry in map(json.loads, starts) if entry["e"] == "start"]


def test_what_the_kernel_has_lost_is_made_again(pystack: Pystack, busybox_rootfs: Path, network: str) -> None:
    """As after a reboot."""
    shop = stack(pystack, SHOP, busybox_rootfs, network)
    (value,) = json.loads(pystack.run("network", "inspect", network).stdout)
    subprocess.run(["ip", "link", "delete", value["Bridge"]], check=True)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    eventually(lambda: "pystack_n_" in subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout)
    shop.must("down", "-t", "0")
    shop.must("up", "-d")
    stats = stack(pystack, STATS, busybox_rootfs, network)
    assert fetched(stats, "reader", "front") == "shop"
    (now,) = json.loads(pystack.run("network", "inspect", network).stdout)
    assert (now["Bridge"], now["IPAM"]) == (value["Bridge"], value["IPAM"])


def test_two_that_come_at_once_have_different_addresses(pystack: Pystack, busybox_rootfs: Path, network: str) -> None:
    stacks = [pystack.stack(SHOP.format(rootfs=busybox_rootfs, network=network)) for _ in range(2)]
    threads = [threading.Thread(target=each.must, args=("up", "-d", "--scale", "web=3")) for each in stacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (value,) = json.loads(pystack.run("network", "inspect", network).stdout)
    addresses = [item["IPv4Address"] for item in value["Containers"].values()]
    assert len(addresses) == len(set(addresses)) == 6
    assert len({fetched(stacks[0], "web", f"{stacks[1].name}-web-{number}") for number in (1, 2, 3)}) == 1


def test_a_network_that_is_missing_is_one_error_with_its_place_and_what_to_do(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    made = pystack.stack(STATS.format(rootfs=busybox_rootfs, network="nowhere"))
    failed = made.run("up", "-d", "reader")
    assert failed.code == 1
    assert failed.stderr.count("error: ") == 1
    what = "compose.yaml:15:3: networks.nowhere: network nowhere declared as external, but could not be found"
    assert what in failed.stderr
    assert "hint: make it: pystack network create nowhere; or remove `external: true`" in failed.stderr


def test_a_missing_network_that_nobody_can_make_has_another_hint(pystack: Pystack, busybox_rootfs: Path) -> None:
    service = f"services: {{a: {{image: rootfs:{busybox_rootfs}, command: [sleep, '9'], networks: [n]}}}}"
    made = pystack.stack(f"{service}\nnetworks: {{n: {{external: true, name: default}}}}\n")
    failed = made.run("up", "-d")
    assert (failed.code, "networks.n: network default declared as external" in failed.stderr) == (1, True)
    assert "hint: none can be called so: name another one, or remove `external: true`" in failed.stderr


def test_a_network_that_is_missing_fails_those_who_are_on_it_alone(pystack: Pystack, busybox_rootfs: Path) -> None:
    made = pystack.stack(STATS.format(rootfs=busybox_rootfs, network="nowhere"))
    failed = made.run("up", "-d")
    assert failed.code == 1
    what = "compose.yaml:15:3: networks.nowhere: network nowhere declared as external, but could not be found"
    told = [line for line in failed.stderr.splitlines() if what in line]
    assert told == [f"reader failed: {what}", f"error: {what}"]
    assert made.ps()["web"]["State"] == "running"
    assert pystack.run("network", "create", "nowhere").code == 0
    made.must("up", "-d")
    assert made.ps()["reader"]["State"] == "running"
    made.must("down")
    assert pystack.run("network", "rm", "nowhere").code == 0


def test_a_stack_may_call_it_otherwise_while_its_containers_run(
    pystack: Pystack, busybox_rootfs: Path, network: str
) -> None:
    shop, stats = stack(pystack, SHOP, busybox_rootfs, network), stack(pystack, STATS, busybox_rootfs, network)
    pid = shop.ps()["web"]["Pid"]
    path = shop.directory / "compose.yaml"
    path.write_text(path.read_text().replace("meet:", "talk:"))
    assert "disconnect web: network meet is called talk now" in shop.must("plan").stdout
    shop.must("up", "-d", "db")  # Whoever is on it is moved, asked for or not.
    for name in ("web", f"web.{network}"):
        assert looked_up(stats, "reader", name), name
    assert eventually(lambda: fetched(stats, "reader", address(shop, "web", network))) == "shop"
    assert fetched(shop, "web", "reader") == "stats"
    assert looked_up(shop, "web", "reader.talk")
    assert shop.ps()["web"]["Pid"] == pid
    assert "nothing had to change" in shop.must("up", "-d").stderr
    shop.must("down")
    shown = json.loads(pystack.run("network", "inspect", network).stdout)[0]
    assert list(shown["Containers"]) == [f"{stats.name}/{stats.name}-reader-1"]


def test_the_network_of_another_project_is_its_own(pystack: Pystack, busybox_rootfs: Path) -> None:
    owner = stack(pystack, ALONE, busybox_rootfs)
    made = pystack.stack(STATS.format(rootfs=busybox_rootfs, network=f"{owner.name}_default"))
    failed = made.run("up", "-d", "reader")
    assert failed.code == 1
    assert f"is project {owner.name}'s own" in failed.stderr
    assert "pystack network create NAME" in failed.stderr


def test_a_network_whose_record_is_damaged_keeps_nobody_from_going_down(
    pystack: Pystack, busybox_rootfs: Path, network: str
) -> None:
    shop = stack(pystack, SHOP, busybox_rootfs, network)
    kill_hard(supervisor_pid(shop))
    (pystack.data_dir / "networks" / network / "network.json").write_bytes(b"\0" * 100)
    failed = shop.run("up", "-d", "--force-recreate", "-t", "0")
    assert failed.code == 1
    assert f"networks/{network}/network.json is damaged" in failed.stderr
    assert shop.must("exec", "-T", "db", "nslookup", "db").code == 0
    shop.must("down", "-t", "0")
    assert pystack.run("network", "rm", network).code == 0
