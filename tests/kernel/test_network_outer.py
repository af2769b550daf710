"""Networks that the host is on too: containers with interfaces of their own on one of the host's (macvlan, ipvlan).

A pair of the lab is the host's cable: `lan0` on the host, and its other end, 192.0.2.1, in a namespace that plays the LAN.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping, Subnet
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.fdstore import FdStore
from orchestrator.values import replace
from tests.kernel.network_lab import (
    DEADLINE_S,
    HOST,
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
)
from tests.kernel.test_network_name_servers import by_tcp, by_udp

pytestmark = pytest.mark.kernel

LAN = NetworkName("lan")
ROUTER = "192.0.2.1"
RANGE = Subnet("192.0.2.0/24", ROUTER, "192.0.2.128/28", ("192.0.2.142",))


def on_lan(*options: tuple[str, str], driver: str = "macvlan", subnet: Subnet = RANGE, **more: object) -> Network:
    return network("lan", driver=driver, options=(("parent", "lan0"), *options), subnets=(subnet,), **more)


@contextmanager
def lan() -> Iterator[tuple[Lab, Path, int]]:
    """The world, a directory for files, and the namespace of the LAN."""
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        there = world.namespace()
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            assert sock.batch([rt.new_veth("lan0", 0, "lan0", "02:00:00:00:00:09", there)]) == [0]
        with world.inside(there):
            for words in (["addr", "add", f"{ROUTER}/24", "dev", "lan0"], ["link", "set", "lan0", "up"]):
                subprocess.run(["ip", *words], check=True)
        before = set(world.links(world.host))
        yield world, Path(directory), there
        assert set(world.links(world.host)) == before
        assert [path for path in Path(directory).rglob("*") if path.is_file()] == []


@asynccontextmanager
async def project(*networks: Network, store: FdStore | None = None) -> AsyncIterator[tuple[Lab, int, ProjectNetworking]]:
    with lan() as (world, directory, there):
        async with open_networking(site(directory), store) as networking:
            await networking.ensure(networks)
            yield world, there, networking
            await networking.remove([item.key for item in networks])


def route(world: Lab, box: Box) -> str:
    with world.inside(box.fd):
        return subprocess.run(["ip", "route", "show", "default"], capture_output=True, text=True, check=True).stdout


async def test_containers_are_on_the_network_of_the_parent_with_names_and_the_router() -> None:
    store = MemoryStore()
    async with project(on_lan(), store=store) as (world, there, networking):
        web, db = [await start(world, networking, service, ["lan"]) for service in ("web", "db")]
        assert (web.address, db.address, web.resolver) == ("192.0.2.128", "192.0.2.129", "192.0.2.143")
        assert f"via {ROUTER} dev eth0" in route(world, web)
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, there, web.address, 80) == ROUTER
            assert await ask(world, db.fd, web.address, 80) == db.address
        for one, name, other in ((web, "db", db), (db, "web", web)):
            assert await by_udp(world, one, name) == await by_tcp(world, one, name) == [other.address]
        # The gateway is another machine, and not this one.
        assert await by_udp(world, web, "host.docker.internal") == []
        with pytest.raises(OperationError, match="has containers attached: lab-db-1, lab-web-1"):
            await networking.remove([LAN])
        await networking.detach(web.name)
        assert set(world.links(web.fd)) == {"lo"}
        await networking.attach(web.name, web.fd, web.endpoints, [])
        assert await by_udp(world, web, "db") == [db.address]
        await stop(world, networking, web, db)
    assert store.kept == {}


async def test_without_a_router_in_the_stack_there_is_no_default_route() -> None:
    async with project(on_lan(subnet=Subnet("192.0.2.0/24"))) as (world, there, networking):
        web = await start(world, networking, "web", ["lan"])
        assert (web.address, web.gateway, route(world, web)) == ("192.0.2.2", "", "")
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, there, web.address, 80) == ROUTER
        assert await by_tcp(world, web, "web") == ["192.0.2.2"]
        await stop(world, networking, web)


@pytest.mark.parametrize("mode", ["private", "passthru"])
async def test_who_reaches_nobody_else_on_the_interface_has_no_name_server(mode: str) -> None:
    async with project(on_lan(("macvlan_mode", mode))) as (world, there, networking):
        web = await start(world, networking, "web", ["lan"])
        assert web.resolver == ""
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, there, web.address, 80) == ROUTER
        if mode == "private":
            db = await start(world, networking, "db", ["lan"])
            with trio.move_on_after(0.4):
                await ask(world, db.fd, web.address, 80)
                raise AssertionError("reached")
            await stop(world, networking, db)
        await stop(world, networking, web)


@pytest.mark.parametrize("stored", [True, False], ids=["with the monitor's store", "without a store"])
async def test_a_supervisor_that_takes_over_finds_the_interfaces(stored: bool) -> None:
    store = MemoryStore() if stored else None
    with lan() as (world, directory, there):
        async with open_networking(site(directory), store) as networking:
            await networking.ensure([on_lan()])
            web = await start(world, networking, "web", ["lan"])
        links = world.links(web.fd)
        async with open_networking(site(directory), store) as networking:
            await networking.ensure([on_lan()])
            networking.restore(web.name, web.endpoints)
            await networking.attach(web.name, web.fd, web.endpoints, [])
            assert world.links(web.fd) == links
            assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
            async with echo(await world.listen(web.fd, 80)):
                assert await ask(world, there, web.address, 80) == ROUTER
            await stop(world, networking, web)
            await networking.remove([LAN])
        assert store is None or store.kept == {}


async def test_ports_are_published_by_the_networks_that_the_host_makes_and_else_not_at_all() -> None:
    async with project(on_lan(), network("front")) as (world, there, networking):
        both = await start(world, networking, "both", ["lan", "front"], [tcp(80, 8080)])
        alone = await start(world, networking, "alone", ["lan"], [tcp(80, 8081)])
        assert ([item.host_port for item in both.published], alone.published) == ([8080], ())
        async with echo(await world.listen(both.fd, 80)):
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
            assert await ask(world, there, both.address, 80) == ROUTER
        await stop(world, networking, both, alone)


async def moved(networking: ProjectNetworking, box: Box, to: list[str], ports: Sequence[PortMapping] = ()) -> Box:
    """Reserved and rewired, as the scheduler does."""
    joined = [Attachment(NetworkName(name)) for name in to]
    endpoints = networking.reserve(box.name, ServiceName(box.name.split("-")[1]), joined)
    published = await networking.rewire(box.name, box.fd, endpoints, ports, box.published)
    return Box(box.name, box.fd, endpoints, published)


async def test_a_container_that_runs_gets_on_such_a_network_and_off_it() -> None:
    ports = [tcp(80, 8080)]
    async with project(on_lan(), network("front")) as (world, there, networking):
        web = await start(world, networking, "web", ["front"], ports)
        veths = set(world.links(world.host))
        async with echo(await world.listen(web.fd, 80)):
            both = await moved(networking, web, ["front", "lan"], ports)
            on = next(end for end in both.endpoints if end.network == LAN).addresses[0].ip
            assert set(world.links(web.fd)) == {"lo", "eth0", "eth1"}
            assert set(world.links(world.host)) == veths
            assert await ask(world, there, on, 80) == ROUTER
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
            # Only there: its ports are given up, and the pair goes.
            outer = await moved(networking, both, ["lan"], ports)
            assert (set(world.links(web.fd)), outer.published, outer.address) == ({"lo", "eth1"}, (), on)
            assert await by_udp(world, outer, "web") == [on]
            assert await ask(world, there, on, 80) == ROUTER
            back = await moved(networking, outer, ["front"], ports)
            assert [item.host_port for item in back.published] == [8080]
            assert {link.kind for link in world.links(web.fd).values()} == {"", "veth"}
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
        await stop(world, networking, back)


async def test_what_cannot_be_moved_off_such_a_network_is_on_it_as_before() -> None:
    async with project(on_lan(), network("front")) as (world, there, networking):
        other = await start(world, networking, "other", ["front"], [tcp(80, 8080)])
        web = await start(world, networking, "web", ["lan"])
        with pytest.raises(OperationError, match="8080"):
            await moved(networking, web, ["front"], [tcp(80, 8080)])
        networking.restore(web.name, web.endpoints)
        # The kernel refuses the new interface after the old one was taken away.
        broken = [replace(end, mac="01:00:00:00:00:01") for end in web.endpoints]
        with pytest.raises((OperationError, HostError)):
            await networking.rewire(web.name, web.fd, broken, [])
        assert set(world.links(web.fd)) == {"lo", "eth0"}
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, there, web.address, 80) == ROUTER
        await stop(world, networking, web, other)


async def test_a_successor_takes_away_interfaces_that_are_not_wanted_any_more_and_leaves_the_container_s_own() -> None:
    with lan() as (world, directory, _):
        async with open_networking(site(directory)) as networking:
            await networking.ensure([on_lan(), network("front")])
            web = await start(world, networking, "web", ["front", "lan"])
        with world.inside(web.fd):
            subprocess.run(["ip", "link", "add", "link", "eth0", "name", "own", "type", "macvlan"], check=True)
        async with open_networking(site(directory)) as networking:
            await networking.ensure([on_lan(), network("front")])
            networking.restore(web.name, web.endpoints)
            alone = await moved(networking, web, ["front"])
            assert set(world.links(web.fd)) == {"lo", "eth0", "own"}
            await stop(world, networking, alone)
            await networking.remove([LAN, NetworkName("front")])


async def test_the_default_route_is_by_the_network_that_the_stack_prefers() -> None:
    async with project(on_lan(), network("front")) as (world, _, networking):
        joined = [Attachment(LAN, gw_priority=1), Attachment(NetworkName("front"))]
        lan_first, front_first = [
            await start(world, networking, name, ends) for name, ends in (("a", joined), ("b", ["lan", "front"]))
        ]
        assert f"via {ROUTER} dev eth0" in route(world, lan_first)
        assert "dev eth1" in route(world, front_first)
        await stop(world, networking, lan_first, front_first)


async def test_a_parent_that_is_not_there_is_named_with_its_place() -> None:
    with lan() as (_, directory, _):
        async with open_networking(site(directory)) as networking:
            wrong = network("lan", driver="macvlan", options=(("parent", "eth7"),))
            with pytest.raises(OperationError, match='this machine has no interface "eth7"') as refused:
                await networking.ensure([wrong])
            assert refused.value.place == "networks.lan.driver_opts.parent"


async def test_a_kernel_without_ipvlan_is_told_which_option_it_needs() -> None:
    with lan() as (_, directory, _):
        async with open_networking(site(directory)) as networking:
            if _has("ipvlan"):
                pytest.skip("this kernel has ipvlan")
            with pytest.raises(HostError, match="this kernel has no ipvlan") as refused:
                await networking.ensure([on_lan(("ipvlan_mode", "l2"), driver="ipvlan")])
            assert "CONFIG_IPVLAN" in (refused.value.hint or "")


def _has(kind: str) -> bool:
    """Whether the kernel makes such interfaces; what is tried goes with the lab."""
    made = subprocess.run(["ip", "link", "add", "link", "lan0", "name", "probe", "type", kind], capture_output=True)
    if made.returncode == 0:
        subprocess.run(["ip", "link", "del", "probe"], check=True)
    return made.returncode == 0
