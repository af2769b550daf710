"""IPv6 on networks: who reaches whom, what leaves and how it looks, and what must not get through."""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.network import Networking
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Attachment, Network, Subnet
from orchestrator.network.adapter import open_networking
from tests.kernel.network_lab import DEADLINE_S, HOST6, OUTSIDE6, Lab, ask, echo, lab, network, site, start, stop, tcp
from tests.leaks import nft_tables

pytestmark = pytest.mark.kernel

DUAL = network(ipv6=True)


@asynccontextmanager
async def project(*networks: Network) -> AsyncIterator[tuple[Lab, Networking]]:
    """A world with a project in it, which leaves nothing behind."""
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        async with open_networking(site(Path(directory))) as adapter:
            networking: Networking = adapter
            await networking.ensure(networks)
            yield world, networking
            await networking.remove([item.key for item in networks])
        assert set(world.links(world.host)) == before
        assert nft_tables() == []


async def unreachable(world: Lab, namespace: int, address: str, port: int) -> bool:
    """Nothing comes back, or nothing goes."""
    with trio.move_on_after(0.4), world.socket(namespace, socket.SOCK_STREAM, socket.AF_INET6) as sock:
        try:
            await sock.connect((address, port))
        except OSError:
            return True
        return False
    return True


def shown(world: Lab, namespace: int, *words: str) -> str:
    with world.inside(namespace):
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


async def test_containers_of_a_dual_network_reach_each_other_the_host_and_the_outside_by_both() -> None:
    async with project(DUAL) as (world, networking):
        web, client = await start(world, networking, "web"), await start(world, networking, "client")
        assert web.address6.startswith("fd")
        async with (
            echo(await world.listen(web.fd, 80, "::")),
            echo(await world.listen(world.outside, 80, "::")),
            echo(await world.listen(world.host, 81, "::")),
        ):
            assert await ask(world, client.fd, web.address6, 80) == client.address6
            assert await ask(world, world.host, web.address6, 80) == web.gateway6
            assert await ask(world, client.fd, web.gateway6, 81) == client.address6
            assert await ask(world, client.fd, OUTSIDE6, 80) == HOST6
            assert (await ask(world, client.fd, web.address, 80)).endswith(client.address)
            assert await unreachable(world, world.outside, web.address6, 80)
        assert "tentative" not in shown(world, web.fd, "-6", "addr", "show", "dev", "eth0")
        await stop(world, networking, web, client)


async def test_without_ipv4_everything_goes_by_ipv6_names_too() -> None:
    only = network(ipv4=False, ipv6=True, subnets=(Subnet("fd00:7::/64", "fd00:7::fe"),))
    async with project(only) as (world, networking):
        fixed = Attachment(NetworkName("default"), ipv6_address="fd00:7::9", link_local=("fe80::77", "169.254.9.9"))
        web, client = await start(world, networking, "web", [fixed]), await start(world, networking, "client")
        assert [(a.ip, a.gateway) for a in web.endpoints[0].addresses] == [
            ("fd00:7::9", "fd00:7::fe"),
            ("fe80::77", ""),
            ("169.254.9.9", ""),
        ]
        async with echo(await world.listen(web.fd, 80, "::")), echo(await world.listen(world.outside, 80, "::")):
            assert await ask(world, client.fd, "fd00:7::9", 80) == client.address
            assert await ask(world, web.fd, OUTSIDE6, 80) == HOST6
        addresses = shown(world, web.fd, "addr", "show", "dev", "eth0")
        assert "inet6 fe80::77/64" in addresses
        assert "inet 169.254.9.9/16" in addresses
        assert shown(world, web.fd, "-4", "route", "show", "default") == ""
        assert "via fd00:7::fe" in shown(world, web.fd, "-6", "route", "show", "default")
        with world.socket(client.fd, socket.SOCK_DGRAM, socket.AF_INET6) as sock:
            assert client.resolver == "fd00:7::ffff:ffff:ffff:ff7f"
            await sock.connect((client.resolver, 53))
            await sock.send(b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\3web\0\0\x1c\0\1")
            answer = await sock.recv(512)
        assert answer[:2] == b"\x12\x34"
        assert answer[3] & 0xF == 0
        await stop(world, networking, web, client)


async def test_networks_are_apart_and_internal_ones_have_no_way_out() -> None:
    front, back = network("front", ipv6=True), network("back", ipv6=True, internal=True)
    async with project(front, back) as (world, networking):
        web, db = await start(world, networking, "web", ["front"]), await start(world, networking, "db", ["back"])
        async with (
            echo(await world.listen(web.fd, 80, "::")),
            echo(await world.listen(db.fd, 80, "::")),
            echo(await world.listen(world.outside, 80, "::")),
        ):
            with world.inside(db.fd):
                # One who makes a way for itself is stopped all the same.
                subprocess.run(["ip", "-6", "route", "add", "default", "via", db.gateway6], check=True)
            assert await unreachable(world, db.fd, OUTSIDE6, 80)
            assert await unreachable(world, db.fd, web.address6, 80)
            assert await unreachable(world, web.fd, db.address6, 80)
            assert await unreachable(world, world.outside, db.address6, 80)
            assert await ask(world, world.host, db.address6, 80) == db.gateway6
        await stop(world, networking, web, db)


async def test_a_routed_network_is_seen_outside_as_itself_and_let_in_no_more_than_before() -> None:
    options = (("com.docker.network.bridge.gateway_mode_ipv6", "routed"),)
    async with project(network(ipv6=True, options=options)) as (world, networking):
        web = await start(world, networking, "web")
        async with echo(await world.listen(world.outside, 80, "::")), echo(await world.listen(web.fd, 80, "::")):
            assert await ask(world, web.fd, OUTSIDE6, 80) == web.address6
            assert await unreachable(world, world.outside, web.address6, 80)
        await stop(world, networking, web)


async def test_ports_are_published_for_both_families_of_the_host() -> None:
    async with project(DUAL) as (world, networking):
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        async with echo(await world.listen(web.fd, 80, "::")):
            for namespace, address in ((world.host, "::1"), (world.host, HOST6), (world.outside, HOST6)):
                assert await ask(world, namespace, address, 8080)
        await stop(world, networking, web)


async def test_what_a_container_advertises_moves_neither_the_host_nor_others() -> None:
    async with project(DUAL) as (world, networking):
        mallory, victim = await start(world, networking, "mallory"), await start(world, networking, "victim")
        before = [shown(world, place, "-6", "route") for place in (world.host, victim.fd)]
        wrong = socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
        prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 9000, 9000, 0, wrong)
        advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 9000, 0, 0) + prefix
        with world.inside(mallory.fd):
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            index = socket.if_nametoindex("eth0")
        with sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            for _ in range(5):
                sock.sendto(advertisement, ("ff02::1", 0, 0, index))
        async with echo(await world.listen(victim.fd, 80, "::")):
            assert await ask(world, mallory.fd, victim.address6, 80) == mallory.address6
        assert [shown(world, place, "-6", "route") for place in (world.host, victim.fd)] == before
        for place in (world.host, victim.fd):
            assert "2001:db8:bad" not in shown(world, place, "-6", "addr")
        await stop(world, networking, mallory, victim)


async def test_a_host_that_takes_router_advertisements_goes_on_taking_them() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        conf = Path("/proc/sys/net/ipv6/conf")
        assert (conf / "wan/accept_ra").read_text() == "1\n"
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network("v4")])
            assert (conf / "all/forwarding").read_text() == "0\n"
            await networking.ensure([DUAL])
            assert (conf / "all/forwarding").read_text() == "1\n"
            assert (conf / "wan/accept_ra").read_text() == "2\n"
            await networking.remove([DUAL.key, NetworkName("v4")])
        assert world.host


async def test_a_successor_finds_both_families_again() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        place = site(Path(directory))
        async with open_networking(place) as networking:
            await networking.ensure([DUAL])
            web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        async with open_networking(place) as networking:
            await networking.ensure([DUAL])
            networking.restore(web.name, web.endpoints, web.published)
            assert await networking.attach(web.name, web.fd, web.endpoints, [tcp(80, 8080)]) == web.published
            other = await start(world, networking, "other")
            assert other.address6 != web.address6
            async with echo(await world.listen(web.fd, 80, "::")):
                assert await ask(world, other.fd, web.address6, 80) == other.address6
                assert await ask(world, world.outside, HOST6, 8080)
            await stop(world, networking, web, other)
            await networking.remove([DUAL.key])
        assert nft_tables() == []


async def test_both_tables_come_back_after_a_flush() -> None:
    async with project(DUAL) as (world, networking):
        web = await start(world, networking, "web")
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        while len(nft_tables()) < 2:
            await trio.sleep(0.01)
        async with echo(await world.listen(world.outside, 80, "::")):
            assert await ask(world, web.fd, OUTSIDE6, 80) == HOST6
        await stop(world, networking, web)
