"""Interfaces whose names hash alike, those made by version 1, and what the kernel says to messages of either family."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import trio

from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, bridge_name, veth_name
from orchestrator.model.network import Attachment
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.veths import is_of_a_container
from orchestrator.values import replace
from tests.kernel.network_lab import DEADLINE_S, Box, Lab, ask, echo, lab, network, site, start, stop, tcp

pytestmark = pytest.mark.kernel

DEFAULT = NetworkName("default")


@asynccontextmanager
async def project() -> AsyncIterator[tuple[Lab, Path, ProjectNetworking]]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network()])
            yield world, Path(directory), networking
            await networking.remove([DEFAULT])
        assert set(world.links(world.host)) == before


def _stranger(world: Lab, name: str) -> int:
    """An interface of that name that belongs to another container; its index."""
    with world.inside(world.host), nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
        other = rt.new_veth(name, 0, "eth0", "02:70:00:00:00:09", world.namespace(), "02:73:00:00:00:00")
        assert sock.batch([other]) == [0]
    return world.links(world.host)[name].index


async def test_a_container_whose_interface_name_another_one_has_gets_the_next_name() -> None:
    async with project() as (world, files, networking):
        web = ContainerId("lab-web-1")
        first, second = (veth_name(site(files).key, web, DEFAULT, attempt) for attempt in (0, 1))
        stranger = _stranger(world, first)
        box = await start(world, networking, "web", ports=[tcp(80, 8080)])
        assert second in world.links(world.host)
        async with echo(await world.listen(box.fd, 80)):
            assert await ask(world, world.host, "127.0.0.1", 8080) == box.gateway
        assert await networking.attach(web, box.fd, box.endpoints, [tcp(80, 8080)]) == box.published
        await networking.detach(web)
        links = world.links(world.host)
        assert (links[first].index, second in links) == (stranger, False)
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            sock.batch([rt.delete_link(first)])
        networking.release(web)


async def test_a_supervisor_that_takes_over_finds_the_interface_under_its_later_name() -> None:
    async with project() as (world, files, networking):
        web = ContainerId("lab-web-1")
        first = veth_name(site(files).key, web, DEFAULT)
        stranger = _stranger(world, first)
        box = await start(world, networking, "web")
        for stranger_lives in (True, False):
            async with open_networking(site(files)) as successor:
                successor.restore(web, box.endpoints)
                await successor.ensure([network()])
                if not stranger_lives:
                    with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
                        sock.batch([rt.delete_link(first)])
                before = world.links(world.host)
                await successor.attach(web, box.fd, box.endpoints, [])
                assert world.links(world.host) == before
                assert (first in before and before[first].index == stranger) is stranger_lives
        async with open_networking(site(files)) as successor:
            await successor.ensure([network()])
            await successor.detach(web)
            links = world.links(world.host)
            assert not any(name.startswith("psv") and is_of_a_container(link) for name, link in links.items())
        await networking.detach(web)
        networking.release(web)


async def test_what_version_1_connected_is_taken_over_and_taken_away() -> None:
    """Its interfaces have the first name, and a random MAC in place of an owner's."""
    async with project() as (world, files, networking):
        web, fd = ContainerId("lab-web-1"), world.namespace()
        endpoints = networking.reserve(web, ServiceName("web"), [Attachment(DEFAULT)])
        bridge = world.links(world.host)[bridge_name(site(files).key, DEFAULT)].index
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            old = rt.new_veth(veth_name(site(files).key, web, DEFAULT), bridge, "eth0", endpoints[0].mac, fd)
            assert sock.batch([old]) == [0]
        before = world.links(world.host)
        await networking.attach(web, fd, endpoints, [])
        assert world.links(world.host) == {
            name: replace(link, working=name != "lo") for name, link in before.items()
        }
        with pytest.raises(Exception, match="has containers attached: lab-web-1"):
            await networking.remove([DEFAULT])
        box = Box(web, fd, endpoints, ())
        async with open_networking(site(files)) as successor:
            await successor.ensure([network()])
            await successor.detach(web)
        rest = set(before) - {veth_name(site(files).key, web, DEFAULT)}
        # A name server's goes with its namespace, of which the kernel takes care when it comes to it.
        assert rest - {name for name in rest if name.startswith("psv")} <= set(world.links(world.host)) <= rest
        await stop(world, networking, box)


async def test_two_networks_whose_names_hash_alike_have_a_bridge_each() -> None:
    by_bridge: dict[str, str] = {}
    for number in count():
        name = f"n{number}"
        twin = by_bridge.setdefault(bridge_name(site(Path("/")).key, NetworkName(name)), name)
        if twin != name:
            break
    async with project() as (world, files, networking):
        await networking.ensure([network(twin), network(name)])
        one, two = await start(world, networking, "one", [twin]), await start(world, networking, "two", [name])
        assert one.gateway != two.gateway
        async with open_networking(site(files)) as successor:
            # In another order than they were made in: the record knows whose the name is.
            before = world.links(world.host)
            await successor.ensure([network(name), network(twin)])
            assert set(world.links(world.host)) == set(before)
            async with echo(await world.listen(one.fd, 80)):
                assert await ask(world, world.host, one.address, 80) == one.gateway
        await stop(world, networking, one, two)
        await networking.remove([NetworkName(twin), NetworkName(name)])


@pytest.mark.parametrize(
    ("family", "ip", "prefix"), [(socket.AF_INET, "10.9.8.7", 20), (socket.AF_INET6, "fd09:8:7::7", 60)]
)
def test_the_kernel_takes_addresses_and_rules_of_either_family(family: int, ip: str, prefix: int) -> None:
    with lab() as world, nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
        wan = world.links(world.host)["wan"].index
        sock.batch([rt.new_address(family, wan, ip, prefix)])
        found = [rt.parse_address(body) for body in sock.ask(rt.get_addresses(family))]
        assert rt.InterfaceAddress(wan, ip, prefix) in found
        assert any((index, length) == (wan, prefix) for _, length, index in _routes(sock, family))
        sock.batch([rt.delete_address(family, wan, ip, prefix)])
        table = nft.Table("pystack_family", family)
        key = (nft.type_address_port(family), nft.bytes_address_port(family))
        element = (nft.pack_address_port(family, ip, 80), nft.pack_address_port(family, ip, 8080))
        requests = [nft.new_table(table), nft.new_base_chain(table, "in", "nat", nft.HOOK_PREROUTING, -100)]
        requests += [nft.new_map(table, "at", 1, *key), nft.new_map(table, "any", 2, nft.TYPE_PORT, 2)]
        tests = [*nfx.to_subnet(family, ip, prefix), *nfx.from_subnet(family, ip, 8), *nfx.to_local_address()]
        for way in (nfx.translate_by_address_and_port(family, "at"), nfx.translate_by_port(family, "any")):
            requests.append(nft.new_rule(table, "in", [*tests, *nfx.l4_protocol(6), *way]))
        requests.append(nft.new_elements(table, "at", [element]))
        with nl.NetlinkSocket(nl.NETLINK_NETFILTER) as rules:
            nft.commit(rules, requests)
            bodies = rules.ask(nft.get_elements(table, "at"))
            assert [one for body in bodies for one in nft.parse_elements(body)] == [element]
            nft.commit(rules, [nft.delete_table(table)])


def _routes(sock: nl.NetlinkSocket, family: int) -> list[tuple[str, int, int]]:
    return [route for body in sock.ask(rt.get_routes(family)) if (route := rt.parse_route(body)) is not None]
