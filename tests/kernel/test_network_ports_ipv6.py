"""Published ports by IPv6, for containers with and without an address of theirs; and what another host cannot reach."""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.network import Published
from orchestrator.errors import OperationError
from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.kernel.netlink import NetlinkSocket, Request
from orchestrator.model.names import NetworkName
from orchestrator.model.network import PortMapping
from orchestrator.network import udp_proxy
from orchestrator.network.adapter import open_networking
from tests.kernel.network_lab import (
    DEADLINE_S,
    HOST,
    HOST6,
    OUTSIDE,
    OUTSIDE6,
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
from tests.kernel.test_network_ports import project

pytestmark = pytest.mark.kernel

OTHER6 = "2001:db8::22"


def give_address(world: Lab) -> None:
    """A second one of the host's."""
    index = world.links(world.host)["wan"].index
    with world.inside(world.host), nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
        sock.batch([rt.new_address(socket.AF_INET6, index, OTHER6, 64)])


async def exchange(world: Lab, namespace: int, address: str, port: int, server: trio.socket.SocketType) -> str:
    """A question and its answer; the client's address as the server saw it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with trio.fail_after(DEADLINE_S), world.socket(namespace, socket.SOCK_DGRAM, family) as sock:
        # Connected: an answer from another address than that which was asked is not taken.
        await sock.connect((address, port))
        await sock.send(b"question")
        data, peer = await server.recvfrom(100)
        assert data == b"question"
        await server.sendto(b"answer", peer)
        assert await sock.recv(100) == b"answer"
    return str(peer[0])


async def test_ports_on_all_addresses_are_reachable_by_ipv6() -> None:
    async with project() as (world, networking):
        give_address(world)
        web = await start(world, networking, "web", ports=[tcp(80, 8080), udp(53, 5353)])
        server = await world.udp(web.fd, 53)
        async with echo(await world.listen(web.fd, 80)):
            for namespace, address in [
                (world.host, "::1"),
                (world.host, HOST6),
                (world.host, OTHER6),
                (world.outside, HOST6),
                (world.outside, OTHER6),
            ]:
                assert await ask(world, namespace, address, 8080) == web.gateway
                assert await exchange(world, namespace, address, 5353, server) == web.gateway
        await stop(world, networking, web)


async def test_ports_on_one_ipv6_address_are_reachable_by_that_alone() -> None:
    async with project() as (world, networking):
        give_address(world)
        ports = [tcp(80, 8080, HOST6), udp(53, 5353, HOST6), tcp(80, 8081, "::1"), udp(53, 5354, "0:0::1")]
        web = await start(world, networking, "web", ports=ports)
        assert web.published == (
            Published(HOST6, 8080, 80),
            Published(HOST6, 5353, 53, "udp"),
            Published("::1", 8081, 80),
            Published("::1", 5354, 53, "udp"),
        )
        server = await world.udp(web.fd, 53)
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.outside, HOST6, 8080) == web.gateway
            await exchange(world, world.outside, HOST6, 5353, server)
            assert await ask(world, world.host, "::1", 8081) == web.gateway
            await exchange(world, world.host, "::1", 5354, server)
            for namespace, address, port in [
                (world.outside, OTHER6, 8080),
                (world.outside, HOST6, 8081),
                (world.outside, HOST, 8080),
                (world.host, "::1", 8080),
                (world.host, "127.0.0.1", 8081),
            ]:
                with pytest.raises(ConnectionRefusedError):
                    await ask(world, namespace, address, port)
            for namespace, address, port in [(world.outside, OTHER6, 5353), (world.outside, HOST6, 5354)]:
                with world.socket(namespace, socket.SOCK_DGRAM, socket.AF_INET6) as sock:
                    await sock.connect((address, port))
                    await sock.send(b"nobody")
                    with pytest.raises(ConnectionRefusedError):
                        await sock.recv(10)
        await stop(world, networking, web)


async def test_a_container_with_both_families_sees_who_asks_by_either() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network(ipv6=True)])
            give_address(world)
            ports = [tcp(80, 8080), udp(53, 5353), tcp(80, 8081, HOST6), tcp(80, 8082, "::1"), udp(53, 5354, "::1")]
            web = await start(world, networking, "web", ports=ports)
            client = await start(world, networking, "client")
            server = await world.udp(web.fd, 53, "::")
            async with echo(await world.listen(web.fd, 80, "::")):
                assert await ask(world, world.outside, HOST, 8080) == f"::ffff:{OUTSIDE}"
                for port in (8080, 8081):
                    assert await ask(world, world.outside, HOST6, port) == OUTSIDE6
                    assert await ask(world, client.fd, HOST6, port) == web.gateway6
                for port in (8080, 8082):
                    assert await ask(world, world.host, "::1", port) == web.gateway6
                assert await ask(world, world.outside, OTHER6, 8080) == OUTSIDE6
                for address, port in [(OTHER6, 8081), (HOST6, 8082)]:
                    with pytest.raises(ConnectionRefusedError):
                        await ask(world, world.outside, address, port)
            assert await exchange(world, world.outside, HOST, 5353, server) == f"::ffff:{OUTSIDE}"
            assert await exchange(world, world.outside, HOST6, 5353, server) == OUTSIDE6
            assert await exchange(world, world.host, "::1", 5353, server) == web.gateway6
            assert await exchange(world, world.host, "::1", 5354, server) == web.gateway6
            await stop(world, networking, web, client)
            await networking.remove([NetworkName("default")])


async def test_a_container_with_ipv6_alone_is_reached_by_ipv4_too() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network(ipv4=False, ipv6=True)])
            web = await start(world, networking, "web", ports=[tcp(80, 8080), udp(53, 5353)])
            server = await world.udp(web.fd, 53, "::")
            async with echo(await world.listen(web.fd, 80, "::")):
                assert await ask(world, world.outside, HOST6, 8080) == OUTSIDE6
                for namespace, address in ((world.outside, HOST), (world.host, "127.0.0.1"), (world.host, "::1")):
                    assert await ask(world, namespace, address, 8080) == web.gateway6
                    assert await exchange(world, namespace, address, 5353, server) == web.gateway6
            assert await exchange(world, world.outside, HOST6, 5353, server) == OUTSIDE6
            await stop(world, networking, web)
            await networking.remove([NetworkName("default")])


async def test_a_container_port_without_publishing_is_reachable_from_no_other_host() -> None:
    async with project() as (world, networking):
        give_address(world)
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        async with echo(await world.listen(web.fd, 80)), echo(await world.listen(web.fd, 81)):
            assert await ask(world, world.outside, HOST, 8080)
            for address in (HOST, HOST6):
                with pytest.raises(ConnectionRefusedError):
                    await ask(world, world.outside, address, 81)
            # The outside sends what is for the container to the host: no answer of any kind.
            for port in (80, 81):
                with world.socket(world.outside, socket.SOCK_STREAM) as sock, trio.move_on_after(0.3) as waiting:
                    await sock.connect((web.address, port))
                assert waiting.cancelled_caught
        await stop(world, networking, web)


async def test_a_container_on_an_internal_network_is_reached_from_this_machine_alone() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network(internal=True)])
            web = await start(world, networking, "web", ports=[tcp(80, 8080), udp(53, 5353)])
            server = await world.udp(web.fd, 53)
            async with echo(await world.listen(web.fd, 80)):
                for address in ("::1", HOST6):
                    assert await ask(world, world.host, address, 8080) == web.gateway
                with pytest.raises(ConnectionResetError):
                    await ask(world, world.outside, HOST6, 8080)
            with world.socket(world.outside, socket.SOCK_DGRAM, socket.AF_INET6) as sock:
                await sock.sendto(b"from outside", (HOST6, 5353))
            assert await exchange(world, world.host, "::1", 5353, server) == web.gateway
            await stop(world, networking, web)
            await networking.remove([NetworkName("default")])


async def test_holders_of_a_port_are_told_apart_by_family_and_address() -> None:
    async with project() as (world, networking):
        give_address(world)
        one = await start(world, networking, "one", ports=[tcp(80, 8080, HOST6), udp(53, 5353)])
        two = await start(world, networking, "two", ports=[tcp(80, 8080, OTHER6), tcp(80, 8081, "0.0.0.0")])
        for mapping, text in [
            (tcp(80, 8080, "::"), r"port 8080/tcp on :: is published by lab-(one|two)-1 already"),
            (udp(53, 5353, "::1"), r"port 5353/udp on ::1 is published by lab-one-1 already"),
        ]:
            with pytest.raises(OperationError, match=text):
                await start(world, networking, "three", ports=[mapping], number=mapping.target)
        four = await start(world, networking, "four", ports=[tcp(80, 8081, "::")])
        await stop(world, networking, one, two, four)


async def test_a_client_that_is_silent_for_long_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_proxy, "_FLOWS", 2)
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[udp(53, 5353)])
        server = await world.udp(web.fd, 53)
        peers = []
        clients = [world.socket(world.host, socket.SOCK_DGRAM, socket.AF_INET6) for _ in range(3)]
        for client in clients:
            await client.connect(("::1", 5353))
            await client.send(b"question")
            peers.append((await server.recvfrom(100))[1])
        for peer in peers:
            await server.sendto(b"answer", peer)
        for client in clients[1:]:
            assert await client.recv(100) == b"answer"
        with trio.move_on_after(0.1) as waiting:
            await clients[0].recv(100)
        assert waiting.cancelled_caught
        await clients[0].send(b"again")
        assert (await server.recvfrom(100))[0] == b"again"
        await stop(world, networking, web)


async def test_a_large_datagram_and_a_burst_pass_by_ipv6() -> None:
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[udp(53, 5353)])
        server = await world.udp(web.fd, 53)
        with world.socket(world.host, socket.SOCK_DGRAM, socket.AF_INET6) as sock:
            await sock.connect(("::1", 5353))
            largest = b"x" * 60000
            await sock.send(largest)
            data, peer = await server.recvfrom(1 << 16)
            assert data == largest
            await server.sendto(largest, peer)
            assert await sock.recv(1 << 16) == largest
            for number in range(200):
                await sock.send(struct.pack(">I", number))
            for number in range(200):
                assert await server.recv(10) == struct.pack(">I", number)
        await stop(world, networking, web)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_two_thousand_ports_are_published_adopted_and_published_again_in_few_calls(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [PortMapping(port, (port, port), None, protocol) for port in range(10000, 12000)]
    said: list[int] = []
    batch, transaction = NetlinkSocket.batch, NetlinkSocket.transaction

    def counted_batch(self: NetlinkSocket, requests: Sequence[Request]) -> list[int]:
        said.append(len(requests))
        return batch(self, requests)

    def counted_transaction(self: NetlinkSocket, begin: Request, requests: Sequence[Request], end: Request) -> None:
        said.append(len(requests))
        transaction(self, begin, requests, end)

    monkeypatch.setattr(NetlinkSocket, "batch", counted_batch)
    monkeypatch.setattr(NetlinkSocket, "transaction", counted_transaction)
    with trio.fail_after(6 * DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        store = MemoryStore()
        async with open_networking(site(Path(directory)), store) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web", ports=ports)
        async with open_networking(site(Path(directory)), store) as networking:
            networking.restore(web.name, web.endpoints, web.published)
            await networking.ensure([network()])
            for _ in range(2):
                assert await networking.attach(web.name, web.fd, web.endpoints, ports, web.published) == web.published
                await networking.detach(web.name)
            networking.release(web.name)
            await networking.remove([NetworkName("default")])
        store.close()
    assert sum(said) > len(ports)
    assert len(said) < 100, "several for each of the few networks and containers, and not one for each port"
