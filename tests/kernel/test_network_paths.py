"""Who can reach whom: containers, the host, the outside."""

from __future__ import annotations

import errno
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.network import Networking
from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.model.names import NetworkName
from orchestrator.network.adapter import open_networking
from tests.kernel.network_lab import (
    DEADLINE_S,
    HOST,
    OUTSIDE,
    Lab,
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

pytestmark = pytest.mark.kernel


@asynccontextmanager
async def project(*networks: str, internal: str = "") -> AsyncIterator[tuple[Lab, Networking]]:
    """A world with a project in it, which leaves nothing behind."""
    names = [*networks, *([internal] if internal else [])] or ["default"]
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        async with open_networking(site(Path(directory))) as adapter:
            networking: Networking = adapter
            await networking.ensure([network(name, internal=name == internal) for name in names])
            yield world, networking
            await networking.remove([NetworkName(name) for name in names])
        assert set(world.links(world.host)) == before


@pytest.mark.parametrize("bridge_netfilter", [True, False], ids=["br_netfilter on", "br_netfilter off"])
async def test_a_published_tcp_port_is_reachable_by_every_address_of_the_host(bridge_netfilter: bool) -> None:
    """With br_netfilter on, frames between containers of one bridge pass the IPv4 rules too."""
    async with project() as (world, networking):
        switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        if switch.exists():
            switch.write_text(f"{bridge_netfilter:d}")
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        client = await start(world, networking, "client")
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.host, "127.0.0.1", 8080) == web.gateway
            assert await ask(world, world.host, web.gateway, 8080) == web.gateway
            assert await ask(world, world.host, HOST, 8080) in (HOST, web.gateway)
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
            assert await ask(world, client.fd, HOST, 8080) == web.gateway
            assert await ask(world, client.fd, web.gateway, 8080) == web.gateway
            assert await ask(world, web.fd, HOST, 8080) == web.gateway
            assert await ask(world, client.fd, web.address, 80) == client.address
            assert await ask(world, world.host, "::1", 8080) == web.gateway
        await stop(world, networking, web, client)


async def test_a_published_udp_port_is_reachable_by_every_address_of_the_host() -> None:
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[udp(53, 5353)])
        client = await start(world, networking, "client")
        server = await world.udp(web.fd, 53)
        for namespace, address in [
            (world.host, "127.0.0.1"),
            (world.host, web.gateway),
            (world.host, HOST),
            (world.outside, HOST),
            (client.fd, HOST),
            (web.fd, HOST),
        ]:
            with world.socket(namespace, socket.SOCK_DGRAM) as sock:
                await sock.connect((address, 5353))
                await sock.send(b"question")
                data, peer = await server.recvfrom(100)
                assert data == b"question"
                await server.sendto(b"answer", peer)
                assert await sock.recv(100) == b"answer"
        await stop(world, networking, web, client)


async def test_what_was_tracked_before_a_port_was_published_does_not_miss_it() -> None:
    async with project() as (world, networking):
        with world.socket(world.outside, socket.SOCK_DGRAM) as sock:
            await sock.bind(("0.0.0.0", 4000))
            # A listener on the host makes this a tracked flow to the host itself.
            with await world.udp(world.host, 5353) as old:
                await sock.sendto(b"early", (HOST, 5353))
                assert (await old.recvfrom(100))[0] == b"early"
            for round_ in (b"first", b"second"):
                web = await start(world, networking, "web", ports=[udp(53, 5353)])
                server = await world.udp(web.fd, 53)
                await sock.sendto(round_, (HOST, 5353))
                assert (await server.recvfrom(100))[0] == round_
                await stop(world, networking, web)


async def test_an_attached_container_can_be_reached_at_once() -> None:
    """What is sent before the kernel's link watch has told the bridge of its new port is dropped: a lost datagram, or a
    second until TCP tries again."""
    async with project() as (world, networking):
        for number in range(1, 21):
            web = await start(world, networking, "web", number=number)
            links = [link for link in world.links(world.host).values() if link.kind]
            assert [link.working for link in links] == [True] * 4  # bridge, name server, both ends of wan and container
            await stop(world, networking, web)


async def test_published_on_loopback_means_local_only() -> None:
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[udp(53, 5353, "127.0.0.1"), tcp(80, 8080, "127.0.0.1")])
        server = await world.udp(web.fd, 53)
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.host, "127.0.0.1", 8080) == web.gateway
            with pytest.raises(ConnectionRefusedError):
                await ask(world, world.outside, HOST, 8080)
        # Packets from outside that are addressed to the host's loopback, or to the container itself.
        _send_raw(world, "127.0.0.1", 5353, b"martian")
        _send_raw(world, web.address, 53, b"direct")
        with world.socket(world.host, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"local", ("127.0.0.1", 5353))
        assert (await server.recvfrom(100))[0] == b"local"
        await stop(world, networking, web)


async def test_a_loopback_address_of_a_projects_own_is_local_only() -> None:
    async with project() as (world, networking):
        ports = [udp(53, 5353, "127.34.5.6"), tcp(80, 8080, "127.34.5.6")]
        web = await start(world, networking, "web", ports=ports)
        server = await world.udp(web.fd, 53)
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.host, "127.34.5.6", 8080) == web.gateway
            for address in ("127.0.0.1", HOST):
                with pytest.raises(ConnectionRefusedError):
                    await ask(world, world.host, address, 8080)
        _send_raw(world, "127.34.5.6", 5353, b"martian")
        with world.socket(world.host, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"local", ("127.34.5.6", 5353))
        assert (await server.recvfrom(100))[0] == b"local"
        await stop(world, networking, web)


def _send_raw(world: Lab, address: str, port: int, data: bytes) -> None:
    """A UDP packet from outside, straight to the host's interface, whatever the outside's routes say."""
    target = world.links(world.host)["wan"].mac.replace(":", "")
    source = world.links(world.outside)["wan"].mac.replace(":", "")
    udp_header = struct.pack(">HHHH", 4444, port, 8 + len(data), 0)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 1, 0, 64, 17, 0, *map(socket.inet_aton, (OUTSIDE, address)))
    total = sum(struct.unpack(">10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", ~total & 0xFFFF) + ip[12:]
    with world.inside(world.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("wan", 0x0800))
        sock.send(bytes.fromhex(target + source) + b"\x08\x00" + ip + udp_header + data)


async def test_a_container_reaches_the_outside_with_the_hosts_address() -> None:
    async with project() as (world, networking):
        box = await start(world, networking, "box")
        async with echo(await world.listen(world.outside, 99)):
            assert await ask(world, box.fd, OUTSIDE, 99) == HOST
        await stop(world, networking, box)


async def test_a_container_cannot_reach_the_loopback_services_of_the_host() -> None:
    async with project() as (world, networking):
        box = await start(world, networking, "box")
        private = await world.udp(world.host, 7777, "127.0.0.1")
        bridge = world.links(world.host)[_bridge_of(world)]
        inner = world.links(box.fd)["eth0"]
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 28 + 4, 1, 0, 64, 17, 0, socket.inet_aton(box.address), socket.inet_aton("127.0.0.1")
        )
        total = sum(struct.unpack(">10H", ip))
        ip = ip[:10] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + ip[12:]
        frame = bytes.fromhex((bridge.mac + inner.mac).replace(":", "")) + b"\x08\x00" + ip
        with world.inside(box.fd), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0x0800))
            sock.send(frame + struct.pack(">HHHH", 4444, 7777, 12, 0) + b"evil")
        with world.socket(world.host, socket.SOCK_DGRAM) as sock_:
            await sock_.sendto(b"good", ("127.0.0.1", 7777))
        assert (await private.recvfrom(100))[0] == b"good"
        await stop(world, networking, box)


def _bridge_of(world: Lab) -> str:
    return next(name for name in world.links(world.host) if name.startswith("psb"))


async def test_networks_of_one_project_are_apart() -> None:
    async with project("front", "back") as (world, networking):
        web = await start(world, networking, "web", ["front"])
        db = await start(world, networking, "db", ["back"])
        both = await start(world, networking, "both", ["front", "back"])
        server = await world.udp(db.fd, 1000)
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"across", (db.address, 1000))
        with world.socket(both.fd, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"inside", (db.address, 1000))
        data, peer = await server.recvfrom(100)
        assert (data, peer[0]) == (b"inside", both.endpoints[1].addresses[0].ip)
        await stop(world, networking, web, db, both)


async def test_an_internal_network_has_no_way_out_and_publishes_to_the_host_only() -> None:
    async with project("open", internal="closed") as (world, networking):
        db = await start(world, networking, "db", ["closed"], ports=[tcp(80, 8080), udp(53, 5353)])
        web = await start(world, networking, "web", ["open"], ports=[udp(54, 5354)])
        with pytest.raises(OSError) as caught:
            await ask(world, db.fd, OUTSIDE, 99)
        assert caught.value.errno == errno.ENETUNREACH
        async with echo(await world.listen(db.fd, 80)):
            assert await ask(world, world.host, "127.0.0.1", 8080) == db.gateway
            assert await ask(world, world.host, HOST, 8080) == db.gateway
        server = await world.udp(db.fd, 53)
        with world.socket(world.outside, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"outside", (HOST, 5353))
        with world.socket(world.host, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"host", ("127.0.0.1", 5353))
        assert (await server.recvfrom(100))[0] == b"host"
        # A container there that makes itself a default route gets no further.
        other = await world.udp(web.fd, 54)
        with world.inside(db.fd):
            with nl.NetlinkSocket(nl.NETLINK_ROUTE) as route:
                route.batch([rt.new_default_route(socket.AF_INET, db.gateway, world.links(db.fd)["eth0"].index)])
        enter = world.socket(db.fd, socket.SOCK_DGRAM)
        await enter.sendto(b"sneaky", (HOST, 5354))
        with world.socket(world.host, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"host", ("127.0.0.1", 5354))
        assert (await other.recvfrom(100))[0] == b"host"
        enter.close()
        await stop(world, networking, db, web)


async def test_interfaces_of_containers_have_no_ipv6() -> None:
    async with project() as (world, networking):
        box = await start(world, networking, "box")
        with world.inside(box.fd):
            disabled = Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").read_text().strip()
            routers = Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").read_text().strip()
        assert (disabled, routers) == ("1", "0")
        with world.inside(world.host):
            assert Path(f"/proc/sys/net/ipv6/conf/{_bridge_of(world)}/disable_ipv6").read_text().strip() == "1"
        await stop(world, networking, box)
