"""Three hundred containers on ten networks, and a hundred kills of the supervisor while networks come and go."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests import leaks
from tests.machine import ROOT, Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http, running
from tests.scenarios.test_crashes import SUPERVISOR
from tests.soak.test_fuzzers import fresh_seed

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

CONTAINERS, NETWORKS, WITH_IPV6 = 300, 10, 5
SAMPLE = 3
"""Names of each network that each container asks for, and as many of no network of its own."""
UP_S, DOWN_S = 300.0, 120.0

Memberships = Mapping[str, frozenset[str]]
Question = tuple[str, str]


def memberships(seed: int) -> Memberships:
    """Service -> the two or three networks that it is on."""
    choice = random.Random(seed)
    networks = [f"n{number}" for number in range(NETWORKS)]
    return {f"s{number:03}": frozenset(choice.sample(networks, choice.choice((2, 3)))) for number in range(CONTAINERS)}


def large_stack(rootfs: Path, services: Memberships) -> str:
    named = "".join(f"  {name}: {{<<: *service, networks: {json.dumps(sorted(on))}}}\n" for name, on in services.items())
    networks = "".join(f"  n{number}: {{enable_ipv6: {str(number < WITH_IPV6).lower()}}}\n" for number in range(NETWORKS))
    return f"""
x-service: &service
  image: rootfs:{rootfs}
  command: [sleep, "3600"]
  stop_signal: SIGKILL
services:
{named}networks:
{networks}"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of `client`, and any one of the addresses that is a right answer; none: there is no such name."""

    client: str
    question: Question
    right: frozenset[str]


def questions(services: Memberships, addresses: Mapping[str, Mapping[str, Sequence[str]]], seed: int) -> Iterator[Asked]:
    """`addresses`: service -> network -> what it has there."""
    choice = random.Random(seed)
    for client, own in services.items():
        for network in sorted(own):
            neighbours = [name for name, on in services.items() if network in on and name != client]
            for name in choice.sample(neighbours, min(SAMPLE, len(neighbours))):
                shared = [address for each in own & services[name] for address in addresses[name][each]]
                there = addresses[name][network]
                yield Asked(client, (name, "A"), frozenset(address for address in shared if ":" not in address))
                there_v4 = frozenset(address for address in there if ":" not in address)
                yield Asked(client, (f"{name}.{network}", "A"), there_v4)
                if with_ipv6 := frozenset(address for address in there if ":" in address):
                    yield Asked(client, (f"{name}.{network}", "AAAA"), with_ipv6)
        strangers = [name for name, on in services.items() if not own & on]
        for name in choice.sample(strangers, min(SAMPLE, len(strangers))):
            for asked in (name, f"{name}.{min(own)}", f"{name}.{min(services[name])}"):
                yield from (Asked(client, (asked, kind), frozenset()) for kind in ("A", "AAAA"))


def wrong_answers(asked: Sequence[Asked], pids: Mapping[str, int]) -> list[str]:
    """One text for each question that was not answered rightly."""
    clients: dict[str, list[Asked]] = {}
    for each in asked:
        clients.setdefault(each.client, []).append(each)
    told = [[pids[client], [each.question for each in theirs]] for client, theirs in clients.items()]
    argv = [sys.executable, "-m", "tests.soak.resolving"]
    done = subprocess.run(argv, cwd=ROOT, input=json.dumps(told), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wrong = []
    for theirs, answers in zip(clients.values(), json.loads(done.stdout), strict=True):
        for each, (rcode, found) in zip(theirs, answers, strict=True):
            if each.right:
                is_right = rcode == 0 and len(found) == 1 and found[0] in each.right
            else:
                is_right = (rcode, found) == (3, [])
            if not is_right:
                wrong.append(f"{each}: rcode {rcode}, {found}")
    return wrong


def addresses_of(row: Mapping[str, Any], networks: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Network -> addresses there, from the kernel: a container's interfaces are in the order of its `networks`."""
    found = {network: [address] for network, address in row["Addresses"].items()}
    assert sorted(found) == list(networks), row
    for line in Path(f"/proc/{row['Pid']}/net/if_inet6").read_text().splitlines():
        digits, _, _, scope, _, interface = line.split()
        if scope == "00" and interface.startswith("eth"):
            found[networks[int(interface.removeprefix("eth"))]].append(str(IPv6Address(int(digits, 16))))
    return found


def check_names(stack: Stack, services: Memberships) -> int:
    """Every one of `services`, of one container each, finds its neighbours and no others. How many questions were asked."""
    rows = {row["Service"]: row for row in stack.rows() if row["Service"] in services}
    assert rows.keys() == services.keys()
    assert {row["State"] for row in rows.values()} == {"running"}
    addresses = {service: addresses_of(row, sorted(services[service])) for service, row in rows.items()}
    asked = list(questions(services, addresses, seed=9))
    wrong = wrong_answers(asked, {service: row["Pid"] for service, row in rows.items()})
    assert wrong == [], f"{len(wrong)} of {len(asked)}"
    return len(asked)


def check_nothing_left(stack: Stack, before: leaks.Snapshot) -> None:
    """Of processes, links, tables, namespaces, control groups, mounts and files."""
    pystack = stack.pystack
    assert leaks.settle(before) == []
    assert pystack.processes() == {}
    assert leaks.files(pystack.run_dir) == []
    assert not (pystack.data_dir / "projects" / stack.name).exists()


def test_three_hundred_containers_on_ten_networks_find_each_other_and_nobody_else(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    services, before = memberships(seed=9), leaks.take()
    stack = pystack.stack(large_stack(busybox_rootfs, services))
    up = stack.must("up", "-d", timeout_s=UP_S)
    asked = check_names(stack, services)
    down = stack.must("down", timeout_s=DOWN_S)
    check_nothing_left(stack, before)
    print(f"{CONTAINERS} containers: up {up.seconds:.1f} s, {asked} questions, down {down.seconds:.1f} s")


KILLS = int(os.environ.get("SOAK_KILLS", "100"))
MOST_ROUNDS = 4 * KILLS
"""A random moment may be before there is a supervisor, or when the command is done."""
COMMAND_S = 20.0
"""How long a command may take that heals what was cut short: one of a second on a machine with nothing else to do."""
SMALL_STACK = """
x-service: &service
  image: rootfs:{rootfs}
  command: [sleep, "3600"]
  stop_signal: SIGKILL
x-web: &web
  <<: *service
  command: [httpd, -f, -p, "8000", -h, /etc]
services:
  web0: {{<<: *web, networks: [back, front], ports: ["{ports[0]}:8000", "127.0.0.1:{ports[3]}:53/udp"]}}
  web1: {{<<: *web, networks: [back], ports: ["127.0.0.1:{ports[1]}:8000"]}}
  web2: {{<<: *web, networks: [far], ports: ["[::1]:{ports[2]}:8000", "127.0.0.1:{ports[2]}:8000"]}}
  web3: {{<<: *web, networks: [far, front], depends_on: [web0, other]}}
  other: {{<<: *service, networks: [back, far, front], scale: 6}}
networks:
  front:
  back: {{internal: true}}
  far: {{enable_ipv6: true}}
"""
SMALL = {
    "web0": frozenset({"front", "back"}),
    "web1": frozenset({"back"}),
    "web2": frozenset({"far"}),
    "web3": frozenset({"front", "far"}),
}
SMALL_COUNT = 10
UPS, DOWN = (("up", "-d"), ("up", "-d", "--force-recreate")), ("down",)


def kill_at_random(stack: Stack, verb: tuple[str, ...], delay_s: float) -> bool:
    """Run `verb`, and kill the supervisor so much later, if there is one then. Whether there was."""
    killed = False
    with running(stack, *verb) as process:
        Event().wait(delay_s)  # Not a wait for anything: the moment is what is varied.
        for pid in (pid for pid, command in stack.pystack.processes().items() if SUPERVISOR in command):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed = True
        _, told = process.communicate(timeout=60)
    # Its supervisor may have done all by then; else there is one error, with what is to be done.
    assert process.returncode == 0 or (killed and process.returncode == 125), told
    assert told.count("error: ") == (process.returncode != 0), told
    assert "Traceback" not in told, told
    return killed


def check_up(stack: Stack, ports: Sequence[int]) -> None:
    rows = stack.rows()
    assert len(rows) == SMALL_COUNT, rows
    assert {row["State"] for row in rows} == {"running"}, rows
    check_names(stack, SMALL)
    for url in (*(f"http://127.0.0.1:{port}/passwd" for port in ports[:3]), f"http://[::1]:{ports[2]}/passwd"):
        eventually(lambda url=url: http(url)[0] == 200)  # type: ignore[misc]


def test_whenever_the_supervisor_is_killed_the_next_command_heals_or_leaves_nothing(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    seed, before = fresh_seed(), leaks.take()
    print(f"seed {seed}")
    choice, ports = random.Random(seed), [free_port() for _ in range(4)]
    stack = pystack.stack(SMALL_STACK.format(rootfs=busybox_rootfs, ports=ports))
    usual_s = {verb: stack.must(*verb).seconds for verb in (*UPS, DOWN)}
    kills, rounds, healed_s = 0, 0, list[float]()
    is_up = False
    while kills < KILLS:
        rounds += 1
        assert rounds <= MOST_ROUNDS, kills
        cut = choice.choice((UPS[1], DOWN)) if is_up else UPS[0]
        delay_s = choice.random() * usual_s[cut]
        kills += kill_at_random(stack, cut, delay_s)
        then = choice.choice((UPS[0], DOWN))
        healed = stack.run(*then, timeout_s=60)
        assert healed.code == 0, f"round {rounds}: {cut} killed after {delay_s:.3f} s, then {healed}"
        assert healed.seconds < COMMAND_S, f"round {rounds}: {cut} killed after {delay_s:.3f} s, then {healed}"
        healed_s.append(healed.seconds)
        is_up = then != DOWN
        if is_up:
            check_up(stack, ports)
        else:
            check_nothing_left(stack, before)
    stack.must("down")
    check_nothing_left(stack, before)
    print(f"{kills} kills in {rounds} rounds, healed in at most {max(healed_s):.1f} s")
