"""Names at 127.0.0.11, in containers' own namespaces: what Docker's configurations name."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from dnslib import DNSRecord

from orchestrator.contracts.network import Impairment, NoNames
from orchestrator.errors import HostError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, Subnet
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.fdstore import FdStore
from orchestrator.network.upstream import receive_framed, send_framed
from tests.kernel.network_lab import DEADLINE_S, Box, Lab, MemoryStore, lab, network, site, start, stop
from tests.machine import eventually

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing_behind")]

LOOPBACK = "127.0.0.11"
DEFAULT = NetworkName("default")
V6_ONLY: dict[str, Any] = {"ipv4": False, "ipv6": True}
ONLY_HERE = Network(
    NetworkName("lan"), "lab_lan", driver="macvlan", subnets=(Subnet("203.0.113.0/24"),),
    options=(("parent", "wan"), ("macvlan_mode", "private")),
)  # fmt: skip


@asynccontextmanager
async def project(*networks: Network, store: FdStore | None = None) -> AsyncIterator[tuple[Lab, Path, ProjectNetworking]]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory)), store) as networking:
            await networking.ensure(networks)
            yield world, Path(directory), networking
            await networking.remove([item.key for item in networks])


def found_in(answer: bytes) -> list[str]:
    return [str(record.rdata) for record in DNSRecord.parse(answer).rr]


async def by_udp(world: Lab, box: Box, name: str, kind: str = "A") -> list[str]:
    with world.socket(box.fd, socket.SOCK_DGRAM) as sock:
        await sock.sendto(DNSRecord.question(name, kind).pack(), (LOOPBACK, 53))
        answer, sender = await sock.recvfrom(1232)
        assert sender == (LOOPBACK, 53)
        return found_in(answer)


async def by_tcp(world: Lab, box: Box, name: str, kind: str = "A") -> list[str]:
    with world.socket(box.fd, socket.SOCK_STREAM) as sock:
        await sock.connect((LOOPBACK, 53))
        await send_framed(sock, DNSRecord.question(name, kind).pack())
        return found_in(await receive_framed(sock))


async def is_refused(world: Lab, box: Box) -> bool:
    with world.socket(box.fd, socket.SOCK_STREAM) as sock:
        try:
            await sock.connect((LOOPBACK, 53))
        except ConnectionRefusedError:
            return True
        return False


@pytest.mark.parametrize(
    ("item", "kind"),
    [(network(), "A"), (network(internal=True), "A"), (network(**V6_ONLY), "AAAA"), (ONLY_HERE, "A")],
    ids=["bridge", "internal", "ipv6 alone", "macvlan that no server of ours is on"],
)
async def test_names_are_answered_at_dockers_address(item: Network, kind: str) -> None:
    store = MemoryStore()
    async with project(item, store=store) as (world, _, networking):
        web, db = [await start(world, networking, service, [item.key]) for service in ("web", "db")]
        assert (web.resolver == "") == (item is ONLY_HERE)
        for box, name, other in ((web, "db", db), (db, "web", web)):
            assert await by_udp(world, box, name, kind) == await by_tcp(world, box, name, kind) == [other.address]
        await networking.detach(web.name)
        assert await is_refused(world, web)
        await stop(world, networking, web, db)
    assert store.kept == {}


async def test_who_asks_is_known_by_the_socket_and_sees_its_own_networks_alone() -> None:
    async with project(network("front"), network("back")) as (world, _, networking):
        web = await start(world, networking, "web", ["front"])
        both = await start(world, networking, "both", ["front", "back"])
        db = await start(world, networking, "db", ["back"])
        assert await by_udp(world, both, "db") == [db.address]
        assert await by_udp(world, web, "db") == []
        assert await by_udp(world, db, "both") == [both.endpoints[1].addresses[0].ip]
        # What the container says its address is does not matter.
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
            await sock.bind((web.address, 0))
            await sock.sendto(DNSRecord.question("db").pack(), (LOOPBACK, 53))
            assert found_in(await sock.recv(512)) == []
        assert await by_udp(world, web, "both") == [both.address]
        await networking.impair([Impairment("1", NoNames("both"), (web.name,))])
        assert await by_udp(world, web, "both") == []
        assert await by_udp(world, db, "both") == [both.endpoints[1].addresses[0].ip]
        await networking.impair([])
        await stop(world, networking, web, both, db)


async def test_a_name_server_that_runs_in_a_container_is_not_in_the_way_nor_we_in_its() -> None:
    async with project(network()) as (world, _, networking):
        web = await start(world, networking, "web")
        every, stream = await world.udp(web.fd, 53), await world.listen(web.fd, 53, "::")
        assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        with world.socket(web.fd, socket.SOCK_DGRAM) as client:
            await client.sendto(b"for the container's own", ("127.0.0.1", 53))
            assert (await every.recv(100)) == b"for the container's own"
        every.close()
        own = await world.udp(web.fd, 53, LOOPBACK)
        assert await by_udp(world, web, "web") == [web.address]
        own.close()
        stream.close()
        await stop(world, networking, web)


async def test_whoever_has_our_port_already_is_passed_over() -> None:
    async with project(network()) as (world, _, networking):
        fd = world.namespace()
        taken = [await world.udp(fd, 61053), await world.listen(fd, 61054)]
        endpoints = networking.reserve(ContainerId("lab-web-1"), ServiceName("web"), [Attachment(DEFAULT)])
        await networking.attach(ContainerId("lab-web-1"), fd, endpoints, [])
        web = Box(ContainerId("lab-web-1"), fd, endpoints, ())
        assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        for sock in taken:
            sock.close()
        await stop(world, networking, web)


async def test_a_question_asked_while_no_supervisor_is_there_waits_for_the_next_one() -> None:
    store = MemoryStore()
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory)), store) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web")
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock, world.socket(web.fd, socket.SOCK_STREAM) as stream:
            await sock.sendto(DNSRecord.question("web").pack(), (LOOPBACK, 53))
            await stream.connect((LOOPBACK, 53))
            await send_framed(stream, DNSRecord.question("web").pack())
            async with open_networking(site(Path(directory)), store) as networking:
                await networking.ensure([network()])
                networking.restore(web.name, web.endpoints)
                await networking.attach(web.name, web.fd, web.endpoints, [])
                assert found_in(await sock.recv(512)) == found_in(await receive_framed(stream)) == [web.address]
                assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        # One that finds the container gone, and never knew it, leaves nothing of it.
        async with open_networking(site(Path(directory)), store) as networking:
            await networking.ensure([network()])
            await networking.detach(web.name)
            assert await is_refused(world, web)
            await networking.remove([DEFAULT])
        assert store.kept == {}


async def test_it_is_made_anew_without_a_store_and_by_a_supervisor_that_has_not_made_the_container() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        web: Box | None = None
        for _ in range(3):
            async with open_networking(site(Path(directory))) as networking:
                await networking.ensure([network()])
                if web is None:
                    web = await start(world, networking, "web")
                else:
                    networking.restore(web.name, web.endpoints)
                    await networking.attach(web.name, web.fd, web.endpoints, [])
                assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        async with open_networking(site(Path(directory))) as networking:
            await networking.remove([DEFAULT])


async def test_sockets_of_another_namespace_are_not_taken_for_the_containers() -> None:
    store = MemoryStore()
    async with project(network(), store=store) as (world, directory, networking):
        web = await start(world, networking, "web")
        key = f"loopback:{web.name}"
        with world.inside(world.namespace()), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            await store.keep(key, [stranger.fileno()])
        async with open_networking(site(directory), store) as successor:
            await successor.ensure([network()])
            successor.restore(web.name, web.endpoints)
            await successor.attach(web.name, web.fd, web.endpoints, [])
            assert await by_udp(world, web, "web") == await by_tcp(world, web, "web") == [web.address]
        await stop(world, networking, web)
    assert store.kept == {}


async def test_it_follows_the_container_to_other_networks_and_ends_with_the_last() -> None:
    store = MemoryStore()
    async with project(network("front"), network("back"), store=store) as (world, _, networking):
        web, db = await start(world, networking, "web", ["front"]), await start(world, networking, "db", ["back"])

        async def bring(*keys: str) -> None:
            attachments = [Attachment(NetworkName(key)) for key in keys]
            endpoints = networking.reserve(web.name, ServiceName("web"), attachments)
            await networking.rewire(web.name, web.fd, endpoints, [])

        assert await by_udp(world, web, "db") == []
        await bring("front", "back")
        assert await by_udp(world, web, "db") == [db.address]
        await bring("back")
        assert await by_udp(world, web, "db") == await by_tcp(world, web, "db") == [db.address]
        await networking.remove([NetworkName("front")])
        assert await by_udp(world, web, "db") == [db.address]
        await bring()
        assert await is_refused(world, web)
        assert not any(key.startswith("loopback:lab-web") for key in store.kept)
        await bring("back")
        assert await by_udp(world, web, "db") == await by_tcp(world, web, "db") == [db.address]
        await networking.ensure([network("front")])
        await stop(world, networking, web, db)
    assert store.kept == {}


async def test_what_the_container_sends_there_harms_nobody() -> None:
    async with project(network()) as (world, _, networking):
        loud, quiet = [await start(world, networking, service) for service in ("loud", "quiet")]
        question = DNSRecord.question("quiet").pack()
        with world.socket(loud.fd, socket.SOCK_DGRAM) as sock, world.socket(loud.fd, socket.SOCK_DGRAM) as other:
            for size in (0, 1, 11, 12, 13, 4096, 4097, 60000):
                await sock.sendto(os.urandom(size), (LOOPBACK, 53))
            for at in range(len(question)):
                await sock.sendto(question[:at] + b"\xff" + question[at + 1 :], (LOOPBACK, 53))
            # More than one may have outstanding. Some are answered, and others are served meanwhile.
            for number in range(4096):
                await other.sendto(struct.pack(">H", number) + question[2:], (LOOPBACK, 53))
            assert await by_udp(world, quiet, "loud") == [loud.address]
            assert found_in(await other.recv(512)) == [quiet.address]
        assert await by_udp(world, loud, "quiet") == [quiet.address]
        held = [world.socket(loud.fd, socket.SOCK_STREAM) for _ in range(40)]
        for stream in held:
            await stream.connect((LOOPBACK, 53))
        assert await by_tcp(world, quiet, "loud") == [loud.address]
        # Of the same container, no more than 32 are served: the others are closed.
        with trio.fail_after(DEADLINE_S):
            assert await held[-1].recv(1) == b""
        for stream in held:
            stream.close()
        await stop(world, networking, loud, quiet)


async def test_nothing_of_a_container_stays_in_the_supervisor() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    store = MemoryStore()
    async with project(network(), store=store) as (world, _, networking):
        first = await start(world, networking, "first")
        before = descriptors()
        for number in range(5):
            box = await start(world, networking, "web", number=number)
            assert await by_udp(world, box, "first") == [first.address]
            await stop(world, networking, box)
        for sock in world.sockets:
            sock.close()
        await trio.to_thread.run_sync(eventually, lambda: descriptors() <= before)
        await stop(world, networking, first)
    assert store.kept == {}


async def test_a_store_that_refuses_ends_the_start_and_leaves_nothing() -> None:
    class Refusing(MemoryStore):
        async def keep(self, name: str, fds: Any) -> None:
            await super().keep(name, fds)
            if name.startswith("loopback:"):
                raise HostError("no room")

    store = Refusing()
    async with project(network(), store=store) as (world, _, networking):
        with pytest.raises(HostError, match="no room"):
            await start(world, networking, "web")
        networking.release(ContainerId("lab-web-1"))
        assert not any(key.startswith("loopback:") for key in store.kept)
    assert store.kept == {}


@pytest.mark.skipif(shutil.which("nft") is None, reason="no nft program")
async def test_nothing_is_tracked_and_nothing_routed_for_it() -> None:
    async with project(network()) as (world, _, networking):
        web = await start(world, networking, "web")
        assert await by_udp(world, web, "web") == [web.address]
        with world.inside(web.fd):
            shown = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
            assert "daddr 127.0.0.11 meta l4proto 6-17 th dport 53 th dport set 61053" in shown, shown
            assert "saddr 127.0.0.11 meta l4proto 6-17 th sport 61053 th sport set 53" in shown, shown
            assert Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").read_text() == "0\n"
        # In parts: the one case in which the checksum has been made before.
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
            await sock.connect((LOOPBACK, 53))
            question = DNSRecord.question("web").pack()
            await sock.send(question[:9], socket.MSG_MORE)
            await sock.send(question[9:])
            assert found_in(await sock.recv(512)) == [web.address]
        # From a neighbour it is not reached.
        db = await start(world, networking, "db")
        with world.socket(db.fd, socket.SOCK_DGRAM) as sock:
            await sock.connect((web.address, 61053))
            await sock.send(DNSRecord.question("web").pack())
            with pytest.raises(ConnectionRefusedError):
                await sock.recv(512)
        await stop(world, networking, web, db)
