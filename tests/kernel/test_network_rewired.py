"""Containers that are brought to other networks and ports while they talk, on a kernel."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.network import Networking
from orchestrator.errors import HostError, PystackError
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Attachment, PortMapping
from orchestrator.network.adapter import open_networking
from tests.kernel.network_lab import (
    DEADLINE_S,
    HOST,
    HOST6,
    OUTSIDE,
    Box,
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

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing_behind")]
KEYS = ("default", "front", "back")


@asynccontextmanager
async def networks(tmp_path: Path) -> AsyncIterator[tuple[Lab, Networking]]:
    with lab() as world:
        async with open_networking(site(tmp_path)) as networking:
            await networking.ensure([network(key) for key in KEYS])
            yield world, networking
            await networking.remove([NetworkName(key) for key in KEYS])


def on(key: str, **fields: object) -> Attachment:
    return Attachment(NetworkName(key), **fields)  # type: ignore[arg-type]


async def rewire(
    networking: Networking, box: Box, attachments: Sequence[Attachment], ports: Sequence[PortMapping] = ()
) -> Box:
    try:
        endpoints = networking.reserve(box.name, ServiceName("web"), attachments)
        published = await networking.rewire(box.name, box.fd, endpoints, ports, box.published)
    except PystackError:
        networking.restore(box.name, box.endpoints, box.published)
        raise
    return Box(box.name, box.fd, endpoints, published)


async def test_not_one_packet_is_lost_on_a_network_that_stays(tmp_path: Path) -> None:
    async with networks(tmp_path) as (world, networking):
        web, peer = await start(world, networking, "web"), await start(world, networking, "peer")
        here, there = await world.udp(web.fd, 7000), await world.udp(peer.fd)
        sent = answered = 0
        over = trio.Event()

        async def serve() -> None:
            while True:
                data, client = await here.recvfrom(100)
                await here.sendto(data, client)

        async def talk() -> None:
            nonlocal sent, answered
            while not over.is_set() or sent < 100:
                sent += 1
                await there.sendto(b"%d" % sent, (web.address, 7000))
                with trio.fail_after(DEADLINE_S):
                    assert int(await there.recv(100)) == sent
                answered += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(talk)
            box = web
            for attachments, ports in (
                ([on("default"), on("back")], []),
                ([on("default"), on("back", aliases=("x",)), on("front", gw_priority=5)], [tcp(80, 8400)]),
                ([on("front"), on("default")], [tcp(80, 8401)]),
                ([on("default")], []),
            ):
                box = await rewire(networking, box, attachments, ports)
            over.set()
            while answered < sent or sent < 100:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert box.endpoints[0].interface == web.endpoints[0].interface
        await stop(world, networking, box, peer)


async def test_interfaces_change_names_places_and_addresses(tmp_path: Path) -> None:
    async with networks(tmp_path) as (world, networking):
        web = await start(world, networking, "web", ["default", "front"])
        first, second = (end.addresses[0] for end in web.endpoints)
        swapped = [on("default", interface="eth1"), on("front", interface="eth0")]
        web = await rewire(networking, web, swapped)
        assert set(world.links(web.fd)) == {"lo", "eth0", "eth1"}
        assert [end.interface for end in web.endpoints] == ["eth1", "eth0"]
        assert [end.addresses[0] for end in web.endpoints] == [first, second]
        named = [on("default", interface="lan", mac_address="02:00:00:00:00:09"), on("front")]
        web = await rewire(networking, web, named)
        links = world.links(web.fd)
        assert set(links) == {"lo", "lan", "eth0"}
        assert links["lan"].mac == "02:00:00:00:00:09"
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.host, first.ip, 80) == first.gateway
            assert await ask(world, world.host, second.ip, 80) == second.gateway
        await stop(world, networking, web)


async def test_published_ports_lead_to_where_the_way_out_is_now(tmp_path: Path) -> None:
    async with networks(tmp_path) as (world, networking):
        ports = [tcp(80, 8400), udp(80, 8400)]
        web = await start(world, networking, "web", ["default"], ports)
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.outside, HOST, 8400) == OUTSIDE
            assert await ask(world, world.outside, HOST6, 8400) == web.gateway
            web = await rewire(networking, web, [on("back"), on("default")], ports)
            assert await ask(world, world.outside, HOST, 8400) == OUTSIDE
            assert await ask(world, world.outside, HOST6, 8400) == web.gateway
            web = await rewire(networking, web, [on("back")], [tcp(80, 8401)])
            assert await ask(world, world.outside, HOST, 8401) == OUTSIDE
            assert await ask(world, world.outside, HOST6, 8401) == web.gateway
            for address in (HOST, HOST6):
                with pytest.raises(ConnectionRefusedError):
                    await ask(world, world.outside, address, 8400)
        await stop(world, networking, web)


async def test_a_proxied_connection_by_a_port_that_stays_or_goes_is_not_cut(tmp_path: Path) -> None:
    async with networks(tmp_path) as (world, networking):
        web = await start(world, networking, "web", ["default"], [tcp(80, 8400), tcp(80, 8401)])
        listener = await world.listen(web.fd, 80)
        talks = []
        for port in (8400, 8401):
            client = world.socket(world.outside, socket.SOCK_STREAM, socket.AF_INET6)
            await client.connect((HOST6, port))
            server, _ = await listener.accept()
            talks.append((client, server))
        web = await rewire(networking, web, [on("default"), on("back")], [tcp(80, 8400), tcp(80, 8402)])
        with trio.fail_after(DEADLINE_S):
            for client, server in talks:
                await client.send(b"still here")
                assert await server.recv(100) == b"still here"
                server.close()
        await stop(world, networking, web)


async def test_what_is_refused_in_the_middle_is_put_back(tmp_path: Path) -> None:
    """The container has an interface of the name that a new one would have: that is found when the old ones are gone."""
    async with networks(tmp_path) as (world, networking):
        ports = [tcp(80, 8400)]
        web = await start(world, networking, "web", ["default", "front"], ports)
        with pytest.raises(HostError, match='no interface "lo" can be made'):
            await rewire(networking, web, [on("default"), on("back", interface="lo")], [tcp(80, 8401)])
        assert set(world.links(web.fd)) == {"lo", "eth0", "eth1"}
        async with echo(await world.listen(web.fd, 80)):
            for end in web.endpoints:
                assert await ask(world, world.host, end.addresses[0].ip, 80) == end.addresses[0].gateway
            assert await ask(world, world.outside, HOST, 8400) == OUTSIDE
            with pytest.raises(ConnectionRefusedError):
                await ask(world, world.outside, HOST, 8401)
        await stop(world, networking, web)


async def test_a_container_that_is_taken_away_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    async with networks(tmp_path) as (world, networking):
        web = await start(world, networking, "web", ["default"], [tcp(80, 8400)])
        endpoints = networking.reserve(web.name, ServiceName("web"), [on("back"), on("front")])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(networking.rewire, web.name, web.fd, endpoints, [tcp(80, 8401)])
            await trio.lowlevel.checkpoint()
            nursery.start_soon(networking.detach, web.name)
        assert set(world.links(web.fd)) == {"lo"}
        networking.release(web.name)
        world.close_namespace(web.fd)
