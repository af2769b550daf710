"""Who talked to whom, as the kernel counted it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.network import Networking
from orchestrator.contracts.site import Site
from orchestrator.model.names import NetworkName, seen_table
from orchestrator.network.adapter import open_networking
from orchestrator.network.leftovers import find_leftovers, remove_leftovers
from orchestrator.network.observing import flows, observe, stop_observing
from orchestrator.plan.edges import Flow
from tests.kernel.network_lab import DEADLINE_S, HOST, OUTSIDE, Box, Lab, ask, echo, lab, network, site, start, stop, tcp
from tests.leaks import nft_tables

pytestmark = pytest.mark.kernel

SWITCH = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@asynccontextmanager
async def project(bridge_netfilter: bool = False) -> AsyncIterator[tuple[Lab, Networking, Site, Box, Box]]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        for path in SWITCH.parent.glob("bridge-nf-call-ip*tables") if SWITCH.exists() else ():
            path.write_text(f"{bridge_netfilter:d}")
        where = site(Path(directory))
        async with open_networking(where) as networking:
            await networking.ensure([network(ipv6=True)])
            web = await start(world, networking, "web", ports=[tcp(80, 8080)])
            client = await start(world, networking, "client")
            yield world, networking, where, web, client
            await stop(world, networking, web, client)
            await networking.remove([NetworkName("default")])
        assert nft_tables() == []


def counted(where: Site) -> set[tuple[str, str, str, int, int]]:
    on, found = flows(where.key)
    assert on
    return {(flow.source, flow.target, flow.protocol, flow.port, flow.count) for flow in found if flow.count}


async def test_connections_and_questions_within_one_bridge_are_counted_by_who_began_them() -> None:
    async with project() as (world, _, where, web, client):
        observe(where.key)
        async with echo(await world.listen(web.fd, 80, "::")):
            for address in (web.address, web.address, web.address6):
                await ask(world, client.fd, address, 80)
        server = await world.udp(web.fd, 53)
        with await world.udp(client.fd, 4000) as sock:
            for _ in range(2):
                await sock.sendto(b"question", (web.address, 53))
                await server.sendto(b"answer", (await server.recvfrom(100))[1])
                assert await sock.recv(100) == b"answer"
        seen = {
            (client.address, web.address, "tcp", 80, 2),
            (client.address, web.address, "udp", 53, 4),
            (client.address6, web.address6, "tcp", 80, 1),
        }
        assert counted(where) == seen
        observe(where.key)
        assert counted(where) == seen
        stop_observing(where.key)
        assert not flows(where.key)[0]
        observe(where.key)
        assert counted(where) == set()


@pytest.mark.parametrize("bridge_netfilter", [True, False], ids=["br_netfilter on", "br_netfilter off"])
async def test_without_counters_there_is_what_is_tracked(bridge_netfilter: bool) -> None:
    """That is: what passes the host, and what passes a bridge if bridge netfilter is on."""
    async with project(bridge_netfilter) as (world, _, where, web, client):
        async with echo(await world.listen(web.fd, 80)):
            await ask(world, world.outside, HOST, 8080)
            await ask(world, client.fd, HOST, 8080)
            await ask(world, client.fd, web.address, 80)
        on, found = flows(where.key)
        assert not on
        ours = [flow for flow in found if web.address in (flow.source, flow.target)]
        assert Flow(OUTSIDE, web.address, "tcp", 80, now=1) in ours
        by_the_bridge = 1 if bridge_netfilter and SWITCH.exists() else 0
        assert ours.count(Flow(client.address, web.address, "tcp", 80, now=1)) == 1 + by_the_bridge


async def test_a_project_that_died_while_it_was_observed_leaves_nothing() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        where = site(Path(directory))
        async with open_networking(where) as networking:
            await networking.ensure([network()])
            await start(world, networking, "web")
        observe(where.key)
        assert seen_table(where.key) in (await find_leftovers(where.key)).tables
        await remove_leftovers(where.key)
        assert nft_tables() == []


async def test_more_pairs_than_are_counted_harm_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.network.observing.MOST", 4)
    async with project() as (world, _, where, web, client):
        observe(where.key)
        server = world.socket(web.fd, socket.SOCK_DGRAM)
        await server.bind(("0.0.0.0", 9))
        with await world.udp(client.fd, 4000) as sock:
            for port in range(100, 150):
                await sock.sendto(b"x", (web.address, port))
            await sock.sendto(b"heard", (web.address, 9))
            assert (await server.recvfrom(100))[0] == b"heard"
        assert 0 < len(counted(where)) <= 5
