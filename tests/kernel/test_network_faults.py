"""Faults on purpose, as packets meet them: what is dropped, slowed, or not answered, and what is not."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from dnslib import RCODE, DNSRecord

from orchestrator.contracts.network import Delay, Impairment, Loss, Networking, NoNames, Rate
from orchestrator.errors import HostError, PystackError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, chaos_table
from orchestrator.model.network import Attachment, Subnet
from orchestrator.network.adapter import open_networking
from orchestrator.network.leftovers import Leftovers, find_leftovers, remove_leftovers
from orchestrator.network.queues import Tree
from orchestrator.network.wiring import Interface, Wiring
from tests.kernel.network_lab import DEADLINE_S, HOST, OUTSIDE, Box, Lab, ask, echo, lab, network, site, start, stop, tcp
from tests.leaks import nft_tables

pytestmark = pytest.mark.kernel

PORT = 7000
ALL = Loss()
RATE = Rate(2_000_000)
SIZE = 250_000


@asynccontextmanager
async def project(ipv6: bool = False, subnets: tuple[Subnet, ...] = ()) -> AsyncIterator[tuple[Lab, Networking]]:
    """A world with a project in it, which leaves nothing behind."""
    with trio.fail_after(3 * DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        async with open_networking(site(Path(directory))) as adapter:
            networking: Networking = adapter
            await networking.ensure([network(ipv6=ipv6, subnets=subnets)])
            yield world, networking
            await networking.remove([NetworkName("default")])
        assert set(world.links(world.host)) == before
        assert nft_tables() == []


def between(effect: Loss | Delay | Rate, one: Box, other: Box, one_way: bool = False) -> Impairment:
    return Impairment("fault-1", effect, (one.name,), (other.name,), one_way=one_way)


def outside(effect: Loss | Delay | Rate, one: Box) -> Impairment:
    return Impairment("fault-1", effect, (one.name,), outside=True)


async def arrive(world: Lab, sender: int, receiver: int, address: str, count: int = 1) -> int:
    """How many of `count` datagrams from `sender` arrive at `address`, which is in `receiver`. The kernel handles a
    datagram to its end in the call that sends it, but for the wire between namespaces, which takes moments."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with world.inside(receiver):
        target = socket.socket(family, socket.SOCK_DGRAM)
    with world.inside(sender):
        source = socket.socket(family, socket.SOCK_DGRAM)
    with target, source:
        target.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        found = 0
        for _ in range(count):
            source.sendto(b"x", (address, PORT))
            target.settimeout(0.3 if count == 1 else 0.02)
            try:
                target.recv(10)
                found += 1
            except TimeoutError:
                pass
        return found


async def reach(world: Lab, one: Box, other: Box) -> tuple[int, int]:
    return await arrive(world, one.fd, other.fd, other.address), await arrive(world, other.fd, one.fd, one.address)


async def test_a_cut_drops_what_two_containers_send_each_other_and_nothing_else() -> None:
    async with project() as (world, networking):
        api, db, web = [await start(world, networking, name) for name in ("api", "db", "web")]
        before = sorted(nft_tables())
        assert await reach(world, api, db) == (1, 1)
        await networking.impair([between(ALL, api, db)])
        assert await reach(world, api, db) == (0, 0)
        assert await reach(world, api, web) == (1, 1)
        assert await reach(world, web, db) == (1, 1)
        await networking.impair([between(ALL, api, db, one_way=True)])
        assert await reach(world, api, db) == (0, 1)
        await networking.impair([])
        assert await reach(world, api, db) == (1, 1)
        assert sorted(nft_tables()) == before
        await stop(world, networking, api, db, web)


async def test_a_cut_is_of_both_families_and_leaves_neighbour_discovery_alone() -> None:
    async with project(ipv6=True) as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        await networking.impair([between(ALL, api, db, one_way=True)])
        assert await arrive(world, api.fd, db.fd, db.address6) == 0
        assert await arrive(world, db.fd, api.fd, api.address6) == 1
        await networking.impair([between(ALL, api, db)])
        assert await arrive(world, db.fd, api.fd, api.address6) == 0
        await networking.impair([])
        await stop(world, networking, api, db)


async def test_a_connection_that_exists_stands_still_and_goes_on_when_the_cut_is_undone() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        listener = await world.listen(db.fd, 5432)
        client = world.socket(api.fd, socket.SOCK_STREAM)
        await client.connect((db.address, 5432))
        server, _ = await listener.accept()
        with server:
            await networking.impair([between(ALL, api, db)])
            await client.send(b"select 1")
            with trio.move_on_after(0.3) as waited:
                await server.recv(100)
            assert waited.cancelled_caught
            await networking.impair([])
            assert await server.recv(100) == b"select 1"
        await stop(world, networking, api, db)


@pytest.mark.parametrize("bridge_netfilter", [True, False], ids=["br_netfilter on", "br_netfilter off"])
async def test_what_is_routed_by_a_published_port_is_cut_too(bridge_netfilter: bool) -> None:
    async with project() as (world, networking):
        if (switch := Path("/proc/sys/net/bridge/bridge-nf-call-iptables")).exists():
            switch.write_text(f"{bridge_netfilter:d}")
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        client = await start(world, networking, "client")
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, client.fd, HOST, 8080) == web.gateway
            await networking.impair([between(ALL, client, web)])
            with trio.move_on_after(0.5) as waited:
                await ask(world, client.fd, HOST, 8080)
            assert waited.cancelled_caught
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
            assert await ask(world, world.host, "127.0.0.1", 8080) == web.gateway
        await networking.impair([])
        await stop(world, networking, web, client)


@pytest.mark.parametrize("subnets", [(), (Subnet("10.77.1.0/29"),)], ids=["of its own address", "at the gateway"])
async def test_outside_is_all_but_the_stack_and_its_name_server(subnets: tuple[Subnet, ...]) -> None:
    async with project(subnets=subnets) as (world, networking):
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        client = await start(world, networking, "client")
        async with echo(await world.listen(web.fd, 80)), echo(await world.listen(world.outside, 81)):
            await networking.impair([outside(ALL, web)])
            for namespace, address, port in (
                (world.outside, HOST, 8080),
                (world.host, "127.0.0.1", 8080),
                (world.host, web.address, 80),
                (web.fd, OUTSIDE, 81),
            ):
                with trio.move_on_after(0.4) as waited:
                    await ask(world, namespace, address, port)
                assert waited.cancelled_caught, (address, port)
            assert await ask(world, client.fd, web.address, 80) == client.address
            assert await rcode(world, web, "client") == RCODE.NOERROR
            assert await ask(world, client.fd, OUTSIDE, 81) == HOST
            await networking.impair([])
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
        await stop(world, networking, web, client)


async def rcode(world: Lab, box: Box, name: str) -> int | None:
    """What the name server answers; None: nothing."""
    with trio.move_on_after(1), world.socket(box.fd, socket.SOCK_DGRAM) as sock:
        await sock.connect((box.resolver, 53))
        await sock.send(DNSRecord.question(name).pack())
        return int(DNSRecord.parse(await sock.recv(512)).header.rcode)
    return None


@pytest.mark.parametrize("bridge_netfilter", [True, False], ids=["br_netfilter on", "br_netfilter off"])
async def test_loss_drops_about_as_many_as_it_says_and_each_by_chance(bridge_netfilter: bool) -> None:
    async with project() as (world, networking):
        if (switch := Path("/proc/sys/net/bridge/bridge-nf-call-iptables")).exists():
            switch.write_text(f"{bridge_netfilter:d}")
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        await networking.impair([between(Loss(0.5), api, db)])
        found = await arrive(world, api.fd, db.fd, db.address, 200)
        assert 60 <= found <= 140, found
        await networking.impair([between(Loss(0.01), api, db)])
        found = await arrive(world, api.fd, db.fd, db.address, 200)
        assert 180 <= found <= 200, found
        await networking.impair([])
        await stop(world, networking, api, db)


async def seconds(world: Lab, sender: int, receiver: int, address: str) -> float:
    """How long it takes to send a quarter of a megabyte to `address` by TCP, to the last byte's arrival."""
    listener, client = await world.listen(receiver, 0), world.socket(sender, socket.SOCK_STREAM)
    await client.connect((address, listener.getsockname()[1]))
    server, _ = await listener.accept()
    with listener, client, server:
        began, left = time.monotonic(), SIZE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, bytes(SIZE))
            while left:
                left -= len(await server.recv(1 << 16))
        return time.monotonic() - began


async def send(client: trio.socket.SocketType, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await client.send(rest) :]


async def between_s(world: Lab, sender: Box, receiver: Box) -> float:
    return await seconds(world, sender.fd, receiver.fd, receiver.address)


def slow(took_s: float) -> bool:
    """A quarter of a megabyte at two megabits a second is a second's worth."""
    return 0.7 <= took_s <= 3.0


async def test_a_rate_is_kept_between_the_two_and_not_for_others() -> None:
    async with project() as (world, networking):
        api, db, web = [await start(world, networking, name) for name in ("api", "db", "web")]
        await networking.impair([between(RATE, api, db)])
        assert slow(await between_s(world, api, db))
        assert slow(await between_s(world, db, api))
        assert await between_s(world, api, web) < 0.5
        await networking.impair([between(RATE, api, db, one_way=True)])
        assert await between_s(world, db, api) < 0.5
        assert slow(await between_s(world, api, db))
        await networking.impair([Impairment("fault-1", RATE, (api.name,))])
        assert slow(await between_s(world, api, web))
        assert slow(await between_s(world, web, api))
        assert await between_s(world, db, web) < 0.5
        await networking.impair([])
        assert await between_s(world, api, db) < 0.5
        await stop(world, networking, api, db, web)


async def test_a_rate_to_the_outside_is_none_within_the_stack() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        await networking.impair([outside(RATE, api)])
        assert await between_s(world, api, db) < 0.5
        assert await between_s(world, db, api) < 0.5
        assert slow(await seconds(world, api.fd, world.outside, OUTSIDE))
        assert slow(await seconds(world, api.fd, world.host, api.gateway))
        assert slow(await seconds(world, world.host, api.fd, api.address))
        await networking.impair([])
        await stop(world, networking, api, db)


def kernel_has_netem() -> bool:
    with lab():
        made = subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], capture_output=True)
    return made.returncode == 0


async def test_lag_holds_packets_back_or_the_kernel_lacks_what_the_error_names() -> None:
    netem = kernel_has_netem()
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        before = [between(Loss(1.0), api, db, one_way=True)]
        await networking.impair(before)
        lag = Impairment("lag-1", Delay(0.1, 0.01), (api.name,), (db.name,))
        if netem:
            await networking.impair([lag])
            began = time.monotonic()
            assert await arrive(world, api.fd, db.fd, db.address) == 1
            assert time.monotonic() - began >= 0.08
        else:
            with pytest.raises(HostError) as caught:
                await networking.impair([*before, lag])
            assert "sch_netem" in caught.value.message
            assert caught.value.hint is not None
            assert "CONFIG_NET_SCH_NETEM" in caught.value.hint
            assert await reach(world, api, db) == (0, 1), "what was in force before still is"
            assert "7079" not in queues_of(world, api)
        await networking.impair([])
        await stop(world, networking, api, db)


def queues_of(world: Lab, box: Box, *which: str) -> str:
    """As tc(8) shows them. `which`: options first, then which."""
    options = [word for word in which if word.startswith("-")]
    with world.inside(box.fd):
        words = ["tc", *options, "qdisc", "show", *which[len(options) :]]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


async def test_queues_of_somebody_elses_are_not_replaced() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        with world.inside(api.fd):
            add = ["tc", "qdisc", "add", "dev", "eth0", "root", "handle", "5:", "htb"]
            subprocess.run(add, check=True)
        with pytest.raises(HostError) as caught:
            await networking.impair([between(Rate(1_000_000), api, db)])
        assert "somebody else" in caught.value.message
        await networking.impair([])
        assert "htb 5:" in queues_of(world, api)
        assert "7079" not in queues_of(world, db)
        await stop(world, networking, api, db)


async def test_names_fail_for_who_is_meant_alone_and_at_once() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        assert await rcode(world, api, "db") == RCODE.NOERROR
        await networking.impair([Impairment("dns-1", NoNames("db"), (api.name,))])
        assert await rcode(world, api, "db") == RCODE.SERVFAIL
        assert await rcode(world, api, "DB.lab_default") == RCODE.SERVFAIL
        assert await rcode(world, api, "api") == RCODE.NOERROR
        assert await rcode(world, db, "db") == RCODE.NOERROR
        await networking.impair([Impairment("dns-1", NoNames(silent=True), (api.name,))])
        assert await rcode(world, api, "api") is None
        await networking.impair([])
        assert await rcode(world, api, "db") == RCODE.NOERROR
        await stop(world, networking, api, db)


async def test_who_is_attached_later_has_the_fault_from_its_first_packet() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        await networking.impair([between(ALL, api, db), Impairment("rate-2", RATE, (api.name,), (db.name,))])
        await networking.detach(db.name)
        world.close_namespace(db.fd)
        fd = world.namespace()
        await networking.attach(db.name, fd, db.endpoints, [])
        again = Box(db.name, fd, db.endpoints, ())
        assert await reach(world, api, again) == (0, 0)
        assert "htb 7079:" in queues_of(world, again)
        await networking.impair([])
        assert await reach(world, api, again) == (1, 1)
        assert "7079" not in queues_of(world, again)
        await stop(world, networking, api, again)


async def test_who_is_rewired_has_its_queues_and_those_of_a_network_that_stays_are_not_made_anew() -> None:
    async with project() as (world, networking):
        back = NetworkName("back")
        await networking.ensure([network("back")])
        api = await start(world, networking, "api")
        both = [await start(world, networking, name, ["default", "back"]) for name in ("db", "web")]
        await networking.impair([Impairment("rate-1", RATE, (api.name,))])
        assert await arrive(world, api.fd, both[0].fd, both[0].address) == 1
        sent = queues_of(world, api, "-s", "dev", "eth0")
        assert "Sent 0 bytes" not in sent

        joined = await rewire(networking, api, Attachment(NetworkName("default")), Attachment(back))
        assert queues_of(world, api, "-s", "dev", "eth0") == sent
        assert "htb 7079:" in queues_of(world, api, "dev", "eth1")
        moved = await rewire(networking, joined, Attachment(back))
        there = both[0].endpoints[1].addresses[0].ip
        assert slow(await seconds(world, api.fd, both[0].fd, there))
        assert slow(await seconds(world, both[0].fd, api.fd, moved.address))
        again = await rewire(networking, moved, Attachment(NetworkName("default")))
        assert slow(await between_s(world, again, both[1]))
        assert slow(await between_s(world, both[1], again))
        await networking.impair([])
        assert await between_s(world, again, both[1]) < 0.5
        await stop(world, networking, api, *both)
        await networking.remove([back])


async def test_who_cannot_be_slowed_where_it_is_rewired_to_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    lay = Wiring.slow
    refused: list[Interface] = []

    def refuse(wiring: Wiring, interface: Interface, sent: Tree | None, received: Tree | None) -> None:
        refused.append(interface)
        if len(refused) == 1:
            raise HostError("no queues there")
        lay(wiring, interface, sent, received)

    async with project() as (world, networking):
        await networking.ensure([network("back")])
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        await networking.impair([Impairment("rate-1", RATE, (api.name,))])
        monkeypatch.setattr(Wiring, "slow", refuse)
        with pytest.raises(HostError, match="no queues there"):
            await rewire(networking, api, Attachment(NetworkName("back")))
        assert await rcode(world, api, "db") == RCODE.NOERROR
        assert slow(await between_s(world, api, db))
        assert slow(await between_s(world, db, api))
        await networking.impair([])
        await stop(world, networking, api, db)
        await networking.remove([NetworkName("back")])


async def rewire(networking: Networking, box: Box, *attachments: Attachment) -> Box:
    """Reserve and rewire, as the scheduler does."""
    endpoints = networking.reserve(box.name, ServiceName("api"), attachments)
    try:
        published = await networking.rewire(box.name, box.fd, endpoints, [])
    except PystackError:
        networking.restore(box.name, box.endpoints)
        raise
    return Box(box.name, box.fd, endpoints, published)


async def test_a_firewall_reload_does_not_mend_what_is_cut() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        await networking.impair([between(ALL, api, db)])
        before = sorted(nft_tables())
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        while sorted(nft_tables()) != before:
            await trio.sleep(0.01)
        assert await reach(world, api, db) == (0, 0)
        await networking.impair([])
        await stop(world, networking, api, db)


async def test_a_successor_undoes_what_a_killed_supervisor_left_and_down_finds_it_by_name() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        place = site(Path(directory))
        async with open_networking(place) as networking:
            await networking.ensure([network()])
            api, db = [await start(world, networking, name) for name in ("api", "db")]
            await networking.impair([between(ALL, api, db), Impairment("rate-2", Rate(1000), (api.name,))])
        assert await reach(world, api, db) == (0, 0)
        async with open_networking(place) as networking:
            for box in (api, db):
                networking.restore(box.name, box.endpoints)
            await networking.ensure([network()])
            for box in (api, db):
                await networking.attach(box.name, box.fd, box.endpoints, [])
            await networking.impair([])
            assert await reach(world, api, db) == (1, 1)
            assert "7079" not in queues_of(world, api)
            await networking.impair([between(ALL, api, db)])
        found = await remove_leftovers(place.key)
        assert chaos_table(place.key) in found.tables
        assert await find_leftovers(place.key) == Leftovers()
        assert nft_tables() == []


async def test_a_project_with_a_thousand_peers_is_cut_in_one_transaction() -> None:
    async with project() as (world, networking):
        api, db = [await start(world, networking, name) for name in ("api", "db")]
        others = [ContainerId(f"lab-other-{number}") for number in range(1500)]
        for name in others:
            networking.reserve(name, ServiceName("other"), [Attachment(NetworkName("default"))])
        await networking.impair([Impairment("cut-1", ALL, (api.name,), (*others, db.name))])
        assert await reach(world, api, db) == (0, 0)
        await networking.impair([])
        assert await reach(world, api, db) == (1, 1)
        for name in others:
            networking.release(name)
        await stop(world, networking, api, db)
