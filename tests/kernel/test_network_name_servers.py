"""Where names are answered: inside the network itself, whatever the host's rules are."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from dnslib import DNSRecord

from orchestrator.errors import OperationError
from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, Subnet
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.fdstore import FdStore
from orchestrator.network.leftovers import Leftovers, find_leftovers, remove_leftovers
from orchestrator.network.upstream import receive_framed, send_framed
from orchestrator.network.veths import is_of_a_container
from tests.kernel.network_lab import DEADLINE_S, Box, Lab, MemoryStore, lab, network, site, start, stop

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(shutil.which("nft") is None, reason="no nft program")]

DEFAULT = NetworkName("default")
NO_ICC = (("com.docker.network.bridge.enable_icc", "false"),)
V6_ONLY: dict[str, Any] = {"ipv4": False, "ipv6": True}
DROP = "table inet own {{ chain {hook} {{ type filter hook {hook} priority 0; policy drop; {rules}\n}}\n}}"
SWITCHES = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}") for name in ("iptables", "ip6tables")]


@asynccontextmanager
async def project(*networks: Network, store: FdStore | None = None) -> AsyncIterator[tuple[Lab, Path, ProjectNetworking]]:
    """A world with a project in it, which leaves nothing behind."""
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        async with open_networking(site(Path(directory)), store) as networking:
            await networking.ensure(networks)
            yield world, Path(directory), networking
            await networking.remove([item.key for item in networks])
        assert set(world.links(world.host)) == before


def host_rules(world: Lab, *texts: str) -> None:
    with world.inside(world.host):
        script = "table inet own\ndelete table inet own\n" + "\n".join(texts)
        subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


def bridges_are_filtered(world: Lab, on: bool) -> None:
    """Whether the host's rules see what a bridge carries (br_netfilter)."""
    with world.inside(world.host):
        for switch in SWITCHES:
            if switch.exists():
                switch.write_text(f"{on:d}")


async def by_udp(world: Lab, box: Box, name: str) -> list[str]:
    """The addresses of `name`, asked of the name server of the container's first network."""
    kind, family = ("AAAA", socket.AF_INET6) if ":" in box.resolver else ("A", socket.AF_INET)
    with world.socket(box.fd, socket.SOCK_DGRAM, family) as sock:
        await sock.connect((box.resolver, 53))
        await sock.send(DNSRecord.question(name, kind).pack())
        return [str(record.rdata) for record in DNSRecord.parse(await sock.recv(1232)).rr]


async def by_tcp(world: Lab, box: Box, name: str) -> list[str]:
    kind, family = ("AAAA", socket.AF_INET6) if ":" in box.resolver else ("A", socket.AF_INET)
    with world.socket(box.fd, socket.SOCK_STREAM, family) as sock:
        await sock.connect((box.resolver, 53))
        await send_framed(sock, DNSRecord.question(name, kind).pack())
        return [str(record.rdata) for record in DNSRecord.parse(await receive_framed(sock)).rr]


@pytest.mark.parametrize("internal", [False, True], ids=["open", "internal"])
@pytest.mark.parametrize("families", [{}, V6_ONLY], ids=["ipv4", "ipv6"])
async def test_names_are_answered_where_the_host_drops_what_comes_in_and_what_it_forwards(
    families: dict[str, Any], internal: bool
) -> None:
    async with project(network(internal=internal, **families)) as (world, _, networking):
        web, db = [await start(world, networking, service) for service in ("web", "db")]
        host_rules(world, DROP.format(hook="input", rules=""), DROP.format(hook="forward", rules=""))
        bridges_are_filtered(world, on=False)
        assert await by_udp(world, web, "db") == await by_tcp(world, web, "db") == [db.address]
        # Where the host's rules see what a bridge carries, they have to let it: as everything between two containers.
        bridges_are_filtered(world, on=True)
        ours = 'iifname "psb*" oifname "psb*" accept;'
        host_rules(world, DROP.format(hook="input", rules=""), DROP.format(hook="forward", rules=ours))
        assert await by_udp(world, db, "web") == await by_tcp(world, db, "web") == [web.address]
        await stop(world, networking, web, db)


@pytest.mark.parametrize("filtered", [True, False], ids=["br_netfilter on", "br_netfilter off"])
@pytest.mark.parametrize("families", [{}, V6_ONLY], ids=["ipv4", "ipv6"])
async def test_containers_that_do_not_reach_each_other_reach_the_name_server(
    families: dict[str, Any], filtered: bool
) -> None:
    async with project(network(options=NO_ICC, **families)) as (world, _, networking):
        bridges_are_filtered(world, filtered)
        web, db = [await start(world, networking, service) for service in ("web", "db")]
        assert await by_udp(world, web, "db") == await by_tcp(world, web, "db") == [db.address]
        family = socket.AF_INET6 if families else socket.AF_INET
        await world.listen(db.fd, 80, "::" if families else "0.0.0.0")
        with trio.move_on_after(0.4), world.socket(web.fd, socket.SOCK_STREAM, family) as sock:
            await sock.connect((db.address, 80))
            raise AssertionError("reached")
        await stop(world, networking, web, db)


async def test_of_two_networks_neither_is_led_into_the_other_by_the_name_servers() -> None:
    async with project(network("front"), network("back")) as (world, _, networking):
        web, db = await start(world, networking, "web", ["front"]), await start(world, networking, "db", ["back"])
        # Of what a bridge carries, the host's own rules would drop it before.
        bridges_are_filtered(world, on=False)
        with world.inside(web.fd):
            for target in (db.resolver, db.address):
                subprocess.run(["ip", "route", "add", target, "via", web.resolver], check=True)
        # The other network's server has the address, and does not hear who comes by this one.
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
            await sock.connect((db.resolver, 53))
            await sock.send(DNSRecord.question("db").pack())
            with pytest.raises(ConnectionRefusedError):
                await sock.recv(512)
        server = await world.udp(db.fd, 1000)
        for namespace, text in ((web.fd, b"routed"), (world.host, b"by the host")):
            with world.socket(namespace, socket.SOCK_DGRAM) as sock:
                await sock.sendto(text, (db.address, 1000))
        assert (await server.recvfrom(100))[0] == b"by the host"
        await stop(world, networking, web, db)


async def test_a_question_asked_while_no_supervisor_is_there_waits_for_the_next_one() -> None:
    store = MemoryStore()
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory)), store) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web")
        links = world.links(world.host)
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
            await sock.connect((web.resolver, 53))
            await sock.send(DNSRecord.question("web").pack())
            async with open_networking(site(Path(directory)), store) as networking:
                await networking.ensure([network()])
                networking.restore(web.name, web.endpoints)
                await networking.attach(web.name, web.fd, web.endpoints, [])
                assert [str(record.rdata) for record in DNSRecord.parse(await sock.recv(512)).rr] == [web.address]
                assert world.links(world.host) == links
                assert await by_tcp(world, web, "web") == [web.address]
                await stop(world, networking, web)
                await networking.remove([DEFAULT])
        assert store.kept == {}


async def test_without_a_store_the_next_supervisor_makes_it_anew_at_the_same_address() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        boxes: list[Box] = []
        for _ in range(2):
            async with open_networking(site(Path(directory))) as networking:
                await networking.ensure([network(), network("other", **V6_ONLY)])
                for box in boxes:
                    networking.restore(box.name, box.endpoints)
                    await networking.attach(box.name, box.fd, box.endpoints, [])
                if not boxes:
                    boxes = [await start(world, networking, "web"), await start(world, networking, "db", ["other"])]
                for box, name in zip(boxes, ("web", "db"), strict=True):
                    assert await by_udp(world, box, name) == await by_tcp(world, box, name) == [box.address]
        async with open_networking(site(Path(directory))) as networking:
            await networking.remove([DEFAULT, NetworkName("other")])
        assert not any(name.startswith("ps") for name in world.links(world.host))


async def test_an_interface_that_somebody_took_away_is_made_anew_with_its_sockets() -> None:
    store = MemoryStore()
    async with project(network(), store=store) as (world, directory, networking):
        web = await start(world, networking, "web")
        (name,) = [name for name, link in world.links(world.host).items() if not is_of_a_container(link)]
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            sock.batch([rt.delete_link(name)])
        async with open_networking(site(directory), store) as successor:
            await successor.ensure([network()])
            successor.restore(web.name, web.endpoints)
            await successor.attach(web.name, web.fd, web.endpoints, [])
            assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        await stop(world, networking, web)
    assert store.kept == {}


async def test_what_a_killed_project_left_is_found_by_its_key() -> None:
    store = MemoryStore()
    with trio.fail_after(DEADLINE_S), lab(), tempfile.TemporaryDirectory() as directory:
        place = site(Path(directory))
        async with open_networking(place, store) as networking:
            await networking.ensure([network(), network("other")])
        found = await find_leftovers(place.key)
        assert (len(found.bridges), len(found.veths)) == (2, 2)
        assert await remove_leftovers(place.key) == found
        assert await find_leftovers(place.key) == Leftovers()
        store.close()


async def test_networks_that_an_older_pystack_made_keep_the_name_server_that_containers_were_told() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        place, store = site(Path(directory)), MemoryStore()
        async with open_networking(place, store) as networking:
            await networking.ensure([network()])
        # As it was then: no address in the record, no interface for it, nothing of it in the store.
        record = Path(place.data_dir, "networks.json")
        written = json.loads(record.read_text())
        assert written["networks"]["default"].pop("resolver")
        record.write_text(json.dumps(written | {"version": 3}))
        (name,) = [name for name, link in world.links(world.host).items() if not is_of_a_container(link)]
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            sock.batch([rt.delete_link(name)])
        store.close()
        store = MemoryStore()
        boxes: list[Box] = []
        for _ in range(2):
            async with open_networking(place, store) as networking:
                await networking.ensure([network()])
                for box in boxes:
                    networking.restore(box.name, box.endpoints)
                    await networking.attach(box.name, box.fd, box.endpoints, [])
                boxes = boxes or [await start(world, networking, "web")]
                (web,) = boxes
                assert (web.endpoints[0].resolver, web.resolver) == ("", web.gateway)
                assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        async with open_networking(place, store) as networking:
            await networking.ensure([network()])
            await networking.detach(web.name)
            await networking.remove([DEFAULT])
            await networking.ensure([network()])
            fresh = await start(world, networking, "fresh")
            assert fresh.resolver not in ("", fresh.gateway)
            assert await by_udp(world, fresh, "fresh") == [fresh.address]
            await stop(world, networking, fresh)
            await networking.remove([DEFAULT])
        assert store.kept == {}


async def test_a_network_without_an_address_to_spare_has_its_name_server_at_the_gateway() -> None:
    async with project(network(subnets=(Subnet("10.7.0.0/29"),))) as (world, _, networking):
        boxes = [await start(world, networking, "web", number=number) for number in range(1, 6)]
        assert boxes[0].resolver == boxes[0].gateway
        found = [await ask(world, boxes[0], "lab-web-5") for ask in (by_udp, by_tcp)]
        assert found == [[boxes[4].address]] * 2
        await stop(world, networking, *boxes)


async def test_an_address_that_a_stack_wants_later_is_the_name_servers_until_the_network_is_made_anew() -> None:
    wanted = network(subnets=(Subnet("10.7.0.0/24", reserved=("10.7.0.254",)),))
    async with project(wanted) as (world, _, networking):
        web = await start(world, networking, "web")
        assert web.resolver == "10.7.0.253"
        networking.reserve_written({DEFAULT: ["10.7.0.253"]})
        fixed = [Attachment(DEFAULT, ipv4_address="10.7.0.253")]
        with pytest.raises(OperationError, match=r"10\.7\.0\.253 .* is that of the project's name server"):
            networking.reserve(ContainerId("lab-db-1"), ServiceName("db"), fixed)
        await stop(world, networking, web)
        await networking.remove([DEFAULT])
        await networking.ensure([wanted])
        db = await start(world, networking, "db", fixed)
        assert (db.address, db.resolver) == ("10.7.0.253", "10.7.0.252")
        assert await by_udp(world, db, "db") == [db.address]
        await stop(world, networking, db)


async def test_the_namespace_of_the_names_routes_nothing_and_goes_with_the_last_network() -> None:
    store = MemoryStore()
    async with project(network(), network("other", ipv6=True), store=store) as (world, _, networking):
        namespace = os.readlink(f"/proc/self/fd/{store.kept['names'][0]}")
        with world.inside(store.kept["names"][0]):
            assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
            assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "0\n"
            shown = subprocess.run(["ip", "route", "show", "default"], capture_output=True, text=True, check=True)
            assert shown.stdout == ""
            assert [name[:3] for _, name in socket.if_nameindex()] == ["lo", "psb", "psb"]
        await networking.remove([DEFAULT])
        assert set(store.kept) == {"dns/other", "names"}
        await networking.remove([NetworkName("other")])
        assert store.kept == {}
        with os.scandir("/proc/self/fd") as opened:
            assert namespace not in [os.readlink(entry.path) for entry in opened]
