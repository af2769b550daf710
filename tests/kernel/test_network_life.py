"""The life of networks: stable addresses, crashes and adoption, many containers, and that nothing is left."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import trio
import trio.testing

from orchestrator.errors import OperationError
from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, bridge_name, nft_table, veth_name
from orchestrator.model.network import Attachment, Subnet
from orchestrator.network.adapter import open_networking
from orchestrator.network.discovery import find_conflicts
from orchestrator.network.leftovers import Leftovers, find_leftovers, remove_leftovers
from orchestrator.network.veths import is_of_a_container
from tests.kernel.network_lab import (
    DEADLINE_S,
    HOST,
    HOST6,
    OUTSIDE,
    Box,
    Lab,
    MemoryStore,
    ask,
    echo,
    lab,
    network,
    site,
    start,
    stop,
    tcp,
    udp,
)
from tests.leaks import nft_tables
from tests.machine import ROOT

pytestmark = pytest.mark.kernel

DEFAULT = NetworkName("default")


@contextmanager
def world_and_files() -> Iterator[tuple[Lab, Path]]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before, threads = set(world.links(world.host)), threading.active_count()
        yield world, Path(directory)
        assert set(world.links(world.host)) == before
        assert nft_tables() == []
        assert [path for path in Path(directory).rglob("*") if path.is_file()] == []
        assert [t.name for t in threading.enumerate() if t.name.startswith("pystack")] == []
        assert threading.active_count() <= threads


def ruleset() -> str:
    return subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


async def test_the_rules_are_those_of_the_design() -> None:
    with world_and_files() as (world, files):
        place = site(files)
        async with open_networking(place) as networking:
            await networking.ensure(
                [
                    network("default", subnets=(Subnet("10.9.0.0/20"),)),
                    network("closed", subnets=(Subnet("10.8.1.0/24"),), internal=True),
                ]
            )
            web = await start(world, networking, "web", ports=[tcp(80, 8080), udp(53, 5300, "127.0.0.1")])
            opened, closed = (bridge_name(place.key, NetworkName(name)) for name in ("default", "closed"))
            expected = (Path(__file__).parent / "network_rules.txt").read_text()
            port = veth_name(place.key, web.name, DEFAULT)
            assert ruleset() == expected.replace("OPEN", opened).replace("CLOSED", closed).replace("PORT", port)
            await stop(world, networking, web)
            await networking.remove([NetworkName("default"), NetworkName("closed")])


async def test_a_container_keeps_its_address_until_it_is_released() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network()])
            first = await start(world, networking, "web")
            await networking.detach(first.name)
            second = await start(world, networking, "db")
            assert networking.reserve(first.name, ServiceName("web"), [Attachment(DEFAULT)]) == first.endpoints
            await networking.attach(first.name, first.fd, first.endpoints, [])
            assert second.address != first.address
            assert first.endpoints[0].mac == "02:70:" + bytes(map(int, first.address.split("."))).hex(":")
            assert world.links(first.fd)["eth0"].mac == first.endpoints[0].mac
            await stop(world, networking, first, second)
            third = await start(world, networking, "new")
            assert third.address not in (first.address, second.address)
            await stop(world, networking, third)
            await networking.remove([DEFAULT])


async def test_a_wanted_address_is_given_or_the_conflict_is_named() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network(subnets=(Subnet("10.7.0.0/24", "10.7.0.254"),))])
            fixed = Attachment(DEFAULT, ipv4_address="10.7.0.9")
            web = await start(world, networking, "web", [fixed])
            assert (web.address, web.gateway) == ("10.7.0.9", "10.7.0.254")
            with pytest.raises(OperationError, match='on network "default" is taken by container "lab-web-1"'):
                networking.reserve(ContainerId("other"), ServiceName("other"), [fixed])
            for wrong in ("10.8.0.1", "10.7.0.255", "10.7.0.254"):
                with pytest.raises(OperationError):
                    networking.reserve(ContainerId("x"), ServiceName("x"), [Attachment(DEFAULT, ipv4_address=wrong)])
            async with echo(await world.listen(web.fd, 80)):
                assert await ask(world, world.host, web.address, 80) == web.gateway
            await stop(world, networking, web)
            await networking.remove([DEFAULT])


async def test_subnets_avoid_what_the_host_routes_and_what_others_took() -> None:
    with world_and_files() as (_, files):
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            lo = rt.LOOPBACK_INDEX
            vpn = rt.new_address(socket.AF_INET, lo, "10.200.0.1", 9, "10.255.255.255")
            sock.batch([vpn])
            first, second = site(files, "aaaaaaaa"), site(files, "bbbbbbbb")
            async with open_networking(first) as one, open_networking(second) as two:
                many = [network(f"n{n}") for n in range(12)]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(one.ensure, many)
                    nursery.start_soon(two.ensure, many)
                boxes = [
                    adapter.reserve(ContainerId("c"), ServiceName("c"), [Attachment(n.key) for n in many])
                    for adapter in (one, two)
                ]
                found = [endpoint.addresses[0] for box in boxes for endpoint in box]
                subnets = [IPv4Network((address.ip, address.prefix), strict=False) for address in found]
                assert len(set(subnets)) == 24
                assert not any(subnet.overlaps(IPv4Network("10.128.0.0/9")) for subnet in subnets)
                with pytest.raises(OperationError, match=r"subnet: 10.128.0.0/9 overlaps 10.128.0.0/9 by lo on this host"):
                    await one.ensure([network("clash", subnets=(Subnet("10.128.0.0/9"),))])
                for adapter in (one, two):
                    adapter.release(ContainerId("c"))
                    await adapter.remove([n.key for n in many])
            sock.batch([rt.delete_address(socket.AF_INET, lo, "10.200.0.1", 9)])


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (Subnet("203.0.113.0/29", gateway="203.0.113.6"), HOST),
        (Subnet("2001:db8::/120"), HOST6),
        (Subnet("203.0.113.64/28"), "203.0.113.70"),
    ],
)
async def test_a_written_subnet_takes_neither_an_address_nor_a_router_of_the_host(wanted: Subnet, what: str) -> None:
    """It is a part of a network that the host is on, and the bridge's route would be the narrower one."""
    with world_and_files() as (_, files):
        route = ["198.51.100.0/24", "via", "203.0.113.70"]
        subprocess.run(["ip", "route", "add", *route], check=True)
        async with open_networking(site(files)) as networking:
            with pytest.raises(OperationError, match=f"overlaps {what}/"):
                await networking.ensure([network(subnets=(wanted,), ipv6=":" in what)])
            beside = Subnet("203.0.113.128/25")  # Nothing of the host's is there, and who wrote it knows.
            await networking.ensure([network(subnets=(beside,))])
            await networking.remove([DEFAULT])
        subprocess.run(["ip", "route", "delete", *route], check=True)


async def test_routes_to_everything_make_no_network_impossible_and_doctor_advises_nothing() -> None:
    with world_and_files() as (_, files):
        halves = ("0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
        for route in halves:
            subprocess.run(["ip", "route", "add", route, "via", OUTSIDE], check=True)
        try:
            async with open_networking(site(files)) as networking:
                (warning,) = await networking.ensure([network()])
                assert "network default is 1" in warning
                assert "hosts there with these addresses cannot be reached" in warning
                assert await networking.ensure([network()]) == ()
                found = find_conflicts()
                assert len(found) == 2
                assert all(conflict.harmless for conflict in found)
                argv = [sys.executable, "-m", "orchestrator.cli", "doctor"]
                told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
                assert "they are parts of wider routes" in told.stdout
                assert "pystack down" not in told.stdout
                await networking.remove([DEFAULT])
        finally:
            for route in halves:
                subprocess.run(["ip", "route", "del", route], check=True)


async def test_doctor_is_told_of_a_vpn_that_came_later() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network(subnets=(Subnet("10.9.0.0/20"),))])
            assert find_conflicts() == []
            with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
                wan = world.links(world.host)["wan"].index
                vpn = rt.new_address(socket.AF_INET, wan, "10.9.4.1", 24, "10.9.4.255")
                sock.batch([vpn])
                found = find_conflicts()
                argv = [sys.executable, "-m", "orchestrator.cli", "doctor"]
                told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
                sock.batch([rt.delete_address(socket.AF_INET, wan, "10.9.4.1", 24)])
            assert [(str(c.subnet), str(c.other.network), c.other.interface) for c in found] == [
                ("10.9.0.0/20", "10.9.4.0/24", "wan")
            ]
            assert ": 10.9.0.0/20 overlaps the route to 10.9.4.0/24 by wan" in told.stdout
            await networking.remove([DEFAULT])


@pytest.mark.parametrize("stored", [True, False], ids=["with the monitor's store", "without a store"])
async def test_a_supervisor_that_was_killed_is_succeeded_without_a_container_noticing(stored: bool) -> None:
    store = MemoryStore() if stored else None
    with world_and_files() as (world, files):
        place = site(files)
        mappings = [tcp(80, 8080), tcp(80), udp(53)]
        async with open_networking(place, store) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web", ports=mappings)
        # Leaving the block is what a kill does: the kernel's things stay, the process's sockets are gone.
        # With its last holder the namespace of the names goes, and its interface is made anew.
        links = {name: link for name, link in world.links(world.host).items() if stored or is_of_a_container(link)}
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.host, "127.0.0.1", 8080) == web.gateway
            async with open_networking(place, store) as networking:
                networking.restore(web.name, web.endpoints)
                await networking.ensure([network()])
                again = networking.reserve(web.name, ServiceName("web"), [Attachment(DEFAULT)])
                assert again == web.endpoints
                assert await networking.attach(web.name, web.fd, again, mappings) == web.published
                assert await networking.attach(web.name, web.fd, again, mappings) == web.published
                now = world.links(world.host)
                assert {name: link for name, link in now.items() if stored or is_of_a_container(link)} == links
                assert await ask(world, world.host, "127.0.0.1", web.published[1].host_port) == web.gateway
                assert await ask(world, world.host, "::1", 8080) == web.gateway
                assert (await start_and_ask(world, networking, web)) == web.address
                with pytest.raises(OperationError, match='network "default" has containers attached: lab-web-1'):
                    await networking.remove([DEFAULT])
                await stop(world, networking, web)
                await networking.remove([DEFAULT])
        if store is not None:
            assert store.kept == {}


async def start_and_ask(world: Lab, networking: object, web: Box) -> str:
    """What the DNS server says of the service ``web``."""
    from dnslib import DNSRecord

    with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
        await sock.connect((web.resolver, 53))
        await sock.send(DNSRecord.question("web").pack())
        return str(DNSRecord.parse(await sock.recv(512)).rr[0].rdata)


async def test_a_connection_made_between_two_supervisors_waits_for_the_second() -> None:
    store = MemoryStore()
    with world_and_files() as (world, files):
        place = site(files)
        async with open_networking(place, store) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        async with echo(await world.listen(web.fd, 80)):
            said: list[str] = []

            async def client() -> None:
                said.append(await ask(world, world.host, "::1", 8080))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(client)
                await trio.testing.wait_all_tasks_blocked()
                async with open_networking(place, store) as networking:
                    networking.restore(web.name, web.endpoints)
                    await networking.ensure([network()])
                    await networking.attach(web.name, web.fd, web.endpoints, [tcp(80, 8080)])
                    while not said:
                        await trio.testing.wait_all_tasks_blocked(0.005)
                    await stop(world, networking, web)
                    await networking.remove([DEFAULT])
            assert said == [web.gateway]
    store.close()


async def test_what_a_dead_container_left_goes_with_detach_by_the_next_supervisor() -> None:
    with world_and_files() as (world, files):
        place = site(files)
        async with open_networking(place) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        async with open_networking(place) as networking:
            networking.restore(web.name, web.endpoints)
            await networking.ensure([network()])
            await networking.detach(web.name)
            links = world.links(world.host)
            assert not any(name.startswith("psv") and is_of_a_container(link) for name, link in links.items())
            assert "8080" not in ruleset()
            await networking.detach(web.name)
            networking.release(web.name)
            world.close_namespace(web.fd)
            await networking.remove([DEFAULT])
            await networking.remove([DEFAULT])


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
async def test_what_a_container_without_a_supervisor_left_leads_nowhere_any_more(recorded: bool) -> None:
    with world_and_files() as (world, files):
        place = site(files)
        async with open_networking(place) as networking:
            await networking.ensure([network()])
            dead = await start(world, networking, "dead", ports=[tcp(80, 8080)])
            alive = await start(world, networking, "alive", ports=[tcp(80, 9090)])
        async with open_networking(place) as networking:
            await networking.ensure([network()])
            for box in (dead, alive) if recorded else (alive,):
                networking.restore(box.name, box.endpoints)
            await networking.detach(dead.name)
            assert "8080" not in ruleset()
            assert "9090" in ruleset()
            await stop(world, networking, dead, alive)
            await networking.remove([DEFAULT])


async def test_after_a_reboot_a_vpn_in_the_way_gives_the_network_another_subnet() -> None:
    with world_and_files() as (world, files):
        place = site(files)
        async with open_networking(place) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web")
        await remove_leftovers(place.key)
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            wan = world.links(world.host)["wan"].index
            sock.batch([rt.new_address(socket.AF_INET, wan, web.gateway, 20, web.gateway)])
            async with open_networking(place) as networking:
                networking.restore(web.name, web.endpoints)
                await networking.ensure([network()])
                networking.restore(web.name, web.endpoints)
                (moved,) = networking.reserve(web.name, ServiceName("web"), [Attachment(DEFAULT)])
                assert moved.addresses[0].gateway != web.gateway
                await networking.remove([DEFAULT])
            sock.batch([rt.delete_address(socket.AF_INET, wan, web.gateway, 20)])


async def test_a_new_namespace_replaces_a_veth_into_a_dead_one() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web")
            fresh = world.namespace()
            await networking.attach(web.name, fresh, web.endpoints, [])
            assert "eth0" in world.links(fresh)
            assert "eth0" not in world.links(web.fd)
            await stop(world, networking, web)
            await networking.remove([DEFAULT])


async def test_left_overs_of_a_dead_project_are_found_and_removed_by_its_key_alone() -> None:
    with world_and_files() as (world, files):
        place, other = site(files), site(files, "0ther000")
        # The monitors live on: without them the name servers' interfaces go by themselves.
        store, others = MemoryStore(), MemoryStore()
        async with open_networking(place, store) as networking, open_networking(other, others) as neighbour:
            await networking.ensure([network()])
            await neighbour.ensure([network()])
            await start(world, networking, "web", ports=[tcp(80, 8080)])
            kept = await find_leftovers(other.key)
            found = await find_leftovers(place.key)
            assert (len(found.bridges), len(found.veths), found.tables) == (1, 2, (nft_table(place.key),))
        assert await remove_leftovers(place.key) == found
        assert await find_leftovers(place.key) == Leftovers()
        assert await find_leftovers(other.key) == kept
        assert await remove_leftovers(other.key) == kept
        for each in (store, others):
            each.close()
        for path in Path(files).rglob("networks.json"):
            path.unlink()


async def test_a_firewall_reload_does_not_take_published_ports_away() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web", ports=[tcp(80, 8080)])
            before = ruleset()
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            while ruleset() != before:
                await trio.testing.wait_all_tasks_blocked(0.005)
            async with echo(await world.listen(web.fd, 80)):
                assert await ask(world, world.outside, "203.0.113.2", 8080) == "203.0.113.1"
            await stop(world, networking, web)
            await networking.remove([DEFAULT])


async def test_a_hundred_containers_come_and_go_at_once_and_nothing_is_left() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network()])
            spaces = [world.namespace() for _ in range(100)]
            boxes: list[Box] = []

            async def one(number: int, fd: int) -> None:
                name = ContainerId(f"lab-web-{number}")
                endpoints = networking.reserve(name, ServiceName("web"), [Attachment(DEFAULT)])
                published = await networking.attach(name, fd, endpoints, [tcp(80)])
                boxes.append(Box(name, fd, endpoints, published))

            begun = trio.current_time()
            async with trio.open_nursery() as nursery:
                for number, fd in enumerate(spaces):
                    nursery.start_soon(one, number, fd)
            attached = trio.current_time()
            assert len({box.address for box in boxes}) == 100
            async with echo(await world.listen(boxes[77].fd, 80)):
                port = boxes[77].published[0].host_port
                assert await ask(world, world.host, "127.0.0.1", port) == boxes[77].gateway
                assert await ask(world, boxes[3].fd, boxes[77].address, 80) == boxes[3].address
            leaving = trio.current_time()
            await stop(world, networking, *boxes)
            print(f"attach {attached - begun:.3f} s, detach {trio.current_time() - leaving:.3f} s for 100")
            await networking.remove([DEFAULT])


async def test_a_cancelled_attach_leaves_nothing() -> None:
    with world_and_files() as (world, files):
        async with open_networking(site(files)) as networking:
            await networking.ensure([network()])
            before = world.links(world.host)
            with trio.CancelScope() as scope:
                scope.cancel()
                await start(world, networking, "web", ports=[tcp(80, 8080)])
            assert scope.cancelled_caught
            assert world.links(world.host) == before
            again = await start(world, networking, "web", ports=[tcp(80, 8080)])
            await stop(world, networking, again)
            await networking.remove([DEFAULT])


async def test_without_the_right_to_make_networks_the_error_says_so() -> None:
    with world_and_files() as (_, files):
        program = (
            "import trio, sys; from pathlib import Path\n"
            "from orchestrator.errors import HostError\n"
            "from orchestrator.network.adapter import open_networking\n"
            "from tests.kernel.network_lab import network, site\n"
            "async def main():\n"
            "    async with open_networking(site(Path(sys.argv[1]))) as networking:\n"
            "        await networking.ensure([network()])\n"
            "try: trio.run(main)\n"
            "except HostError as exc: print(exc.message, '|', exc.hint)\n"
        )
        without = ["setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", program, str(files)]
        done = subprocess.run(without, capture_output=True, text=True, check=True)
        assert "permission denied | networks need root (CAP_NET_ADMIN)" in done.stdout
