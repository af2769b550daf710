"""DNS as containers see it: real packets to the network's name server."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv6Network
from pathlib import Path

import pytest
import trio
from dnslib import EDNS0, QTYPE, RCODE, RR, TXT, A, DNSRecord

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.network import Attachment
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.datagrams import MOST_QUESTION_BYTES
from orchestrator.network.names import ProjectNames
from orchestrator.network.resolver import HOST_PORTS, Resolver, open_sockets
from orchestrator.network.upstream import Upstream, receive_framed, send_framed
from tests.kernel.network_lab import DEADLINE_S, Box, Lab, lab, network, site, start, stop, udp

pytestmark = pytest.mark.kernel

UPSTREAM_PORT = 5454


@asynccontextmanager
async def project(*networks: str) -> AsyncIterator[tuple[Lab, ProjectNetworking]]:
    """A project whose outside resolver is 127.0.0.1:5454 of the lab's host."""
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "resolv.conf")
        config.write_text("nameserver 127.0.0.1\n")
        async with open_networking(site(Path(directory)), upstream=Upstream(str(config), UPSTREAM_PORT)) as networking:
            await networking.ensure([network(name) for name in networks])
            yield world, networking
            await networking.remove([NetworkName(name) for name in networks])


async def question(world: Lab, box: Box, name: str, kind: str = "A", endpoint: int = 0, edns: int = 0) -> DNSRecord:
    """Ask the server of the box's network by UDP."""
    message = DNSRecord.question(name, kind)
    if edns:
        message.add_ar(EDNS0(udp_len=edns))
    with world.socket(box.fd, socket.SOCK_DGRAM) as sock:
        await sock.connect((box.endpoints[endpoint].name_server, 53))
        await sock.send(message.pack())
        reply = DNSRecord.parse(await sock.recv(65535))
    assert reply.header.id == message.header.id
    return reply


def answers(reply: DNSRecord) -> list[str]:
    return [str(record.rdata) for record in reply.rr]


async def test_services_containers_and_aliases_have_the_address_of_the_network_asked() -> None:
    async with project("front", "back") as (world, networking):
        web = await start(world, networking, "web", ["front"])
        db = await start(world, networking, "db", [Attachment(NetworkName("back"), ("database",)), "front"])
        for name in ("db", "lab-db-1", "DB", "db."):
            reply = await question(world, web, name)
            assert answers(reply) == [db.endpoints[1].addresses[0].ip]
        assert reply.rr[0].ttl <= 5
        assert answers(await question(world, db, "database")) == [db.endpoints[0].addresses[0].ip]
        # The resolv.conf of a container names one server, so that one knows all networks the container is on.
        assert answers(await question(world, db, "database", endpoint=1)) == [db.endpoints[0].addresses[0].ip]
        assert answers(await question(world, db, "web", endpoint=0)) == [web.address]
        missing = await question(world, web, "database")
        assert (missing.header.rcode, answers(missing)) == (RCODE.NXDOMAIN, [])
        await stop(world, networking, web, db)


async def test_all_containers_of_a_service_answer_in_turn() -> None:
    async with project("default") as (world, networking):
        boxes = [await start(world, networking, "web", number=n) for n in (1, 2, 3)]
        addresses = {box.address for box in boxes}
        replies = [answers(await question(world, boxes[0], "web")) for _ in range(3)]
        assert all(set(reply) == addresses for reply in replies)
        assert {reply[0] for reply in replies} == addresses
        await networking.detach(boxes[2].name)
        assert set(answers(await question(world, boxes[0], "web"))) == addresses - {boxes[2].address}
        await stop(world, networking, *boxes)


async def test_other_record_types_of_our_names_are_empty_and_not_missing() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        for kind in ("AAAA", "MX", "HTTPS"):
            reply = await question(world, web, "web", kind)
            assert (reply.header.rcode, answers(reply)) == (RCODE.NOERROR, [])
        reverse = ".".join(reversed(web.address.split("."))) + ".in-addr.arpa"
        assert answers(await question(world, web, reverse, "PTR")) == ["lab-web-1."]
        nobody = ".".join(reversed(web.gateway.split("."))) + ".in-addr.arpa"
        assert (await question(world, web, nobody, "PTR")).header.rcode == RCODE.NXDOMAIN
        await stop(world, networking, web)


async def test_the_name_of_a_stopped_container_is_missing_and_never_asked_outside() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        db = await start(world, networking, "db")
        asked: list[str] = []
        async with upstream(world, lambda request: _answer(request, asked)):
            await networking.detach(db.name)
            assert (await question(world, web, "db")).header.rcode == RCODE.NXDOMAIN
            assert answers(await question(world, web, "example.org")) == ["198.51.100.7"]
        assert asked == ["example.org."]
        await stop(world, networking, web, db)


async def _answer(request: DNSRecord, asked: list[str]) -> DNSRecord:
    asked.append(str(request.q.qname))
    reply = request.reply()
    reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("198.51.100.7"), ttl=60))
    return reply


Handler = Callable[[DNSRecord], Awaitable[DNSRecord | None]]


@asynccontextmanager
async def upstream(world: Lab, handler: Handler, stream: Handler | None = None) -> AsyncIterator[None]:
    """The host's resolver: `handler` makes the answers (None: silence); `stream` those by TCP."""
    server = await world.udp(world.host, UPSTREAM_PORT, "127.0.0.1")
    listener = await world.listen(world.host, UPSTREAM_PORT, "127.0.0.1")

    async def datagrams() -> None:
        while True:
            data, peer = await server.recvfrom(4096)
            reply = await handler(DNSRecord.parse(data))
            if reply is not None:
                await server.sendto(reply.pack(), peer)

    async def streams() -> None:
        while True:
            connection, _ = await listener.accept()
            with connection:
                reply = await (stream or handler)(DNSRecord.parse(await receive_framed(connection)))
                assert reply is not None
                await send_framed(connection, reply.pack())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(datagrams)
        nursery.start_soon(streams)
        yield
        nursery.cancel_scope.cancel()
    server.close()
    listener.close()


async def test_outside_names_keep_their_edns_and_truncation_leads_to_tcp() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        sizes: list[int] = []

        async def truncated(request: DNSRecord) -> DNSRecord:
            sizes.extend(record.edns_len for record in request.ar)
            reply = request.reply()
            reply.header.tc = 1
            return reply

        async def whole(request: DNSRecord) -> DNSRecord:
            reply = request.reply()
            for _ in range(20):
                reply.add_answer(RR(request.q.qname, QTYPE.TXT, rdata=TXT("x" * 200)))
            return reply

        async with upstream(world, truncated, whole):
            first = await question(world, web, "big.example.org", "TXT", edns=1232)
            assert (first.header.tc, sizes) == (1, [1232])
            with world.socket(web.fd, socket.SOCK_STREAM) as sock:
                await sock.connect((web.resolver, 53))
                for name, count in (("big.example.org", 20), ("web", 1)):
                    await send_framed(sock, DNSRecord.question(name, "TXT" if count > 1 else "A").pack())
                    assert len(DNSRecord.parse(await receive_framed(sock)).rr) == count
        await stop(world, networking, web)


async def test_when_no_resolver_can_be_asked_the_answer_is_servfail() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        # Nothing listens on the resolver's port: the kernel refuses at once, by UDP as by TCP.
        assert (await question(world, web, "example.org")).header.rcode == RCODE.SERVFAIL
        await stop(world, networking, web)


async def test_a_forged_answer_from_outside_is_not_believed() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        server = await world.udp(world.host, UPSTREAM_PORT, "127.0.0.1")

        async def resolve() -> None:
            data, peer = await server.recvfrom(4096)
            request = DNSRecord.parse(data)
            wrong_id, wrong_name = await _answer(request, []), await _answer(DNSRecord.question("evil.org"), [])
            wrong_id.header.id ^= 1
            wrong_name.header.id = request.header.id
            for reply in (wrong_id.pack(), wrong_name.pack(), b"", data, (await _answer(request, [])).pack()):
                await server.sendto(reply, peer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(resolve)
            reply = await question(world, web, "example.org")
        assert (str(reply.q.qname), answers(reply)) == ("example.org.", ["198.51.100.7"])
        server.close()
        await stop(world, networking, web)


async def test_garbage_is_ignored_and_the_server_goes_on() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        good = DNSRecord.question("web").pack()
        with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
            await sock.connect((web.resolver, 53))
            loop = good[:12] + b"\xc0\x0c\x00\x01\x00\x01"
            for data in (b"", b"\0", good[:-3], b"\xff" * 600, loop, DNSRecord.parse(good).reply().pack()):
                await sock.send(data)
            await sock.send(good)
            assert answers(DNSRecord.parse(await sock.recv(4096))) == [web.address]
        await stop(world, networking, web)


async def test_a_container_that_publishes_port_53_does_not_capture_the_projects_own_names() -> None:
    async with project("default") as (world, networking):
        dns = await start(world, networking, "dns", ports=[udp(53, 53)])
        assert answers(await question(world, dns, "dns")) == [dns.address]
        server = await world.udp(dns.fd, 53)
        with world.socket(world.outside, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"from outside", ("203.0.113.2", 53))
        assert (await server.recvfrom(100))[0] == b"from outside"
        await stop(world, networking, dns)


async def test_names_work_where_port_53_of_all_addresses_is_taken() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        taken = await world.udp(world.host, 53), await world.listen(world.host, 53)
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web")
            assert answers(await question(world, web, "web")) == [web.address]
            with world.socket(web.fd, socket.SOCK_STREAM) as sock:
                await sock.connect((web.resolver, 53))
                await send_framed(sock, DNSRecord.question("web").pack())
                assert answers(DNSRecord.parse(await receive_framed(sock))) == [web.address]
            await stop(world, networking, web)
            await networking.remove([NetworkName("default")])
        for sock_ in taken:
            sock_.close()


async def test_a_thousand_questions_at_once_are_all_answered_and_then_known() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        asked: list[str] = []
        count = 1000
        async with upstream(world, lambda request: _answer(request, asked)):
            with world.socket(web.fd, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
                await sock.connect((web.resolver, 53))
                for turn in range(2):
                    asked_before = len(asked)
                    questions = [DNSRecord.question(f"n{number}.example.org") for number in range(count)]
                    for number, message in enumerate(questions):
                        message.header.id = number
                        await sock.send(message.pack())
                    assert {int.from_bytes((await sock.recv(4096))[:2], "big") for _ in questions} == set(range(count))
                    # On a busy machine some are asked twice before there is an answer; once it is there, never.
                    assert len(set(asked[asked_before:])) == (count if turn == 0 else 0)
        await stop(world, networking, web)


async def test_another_resolver_of_the_hosts_is_asked_from_the_next_question_on() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "resolv.conf")
        config.write_text("nameserver 127.0.0.9\n")
        async with open_networking(site(Path(directory)), upstream=Upstream(str(config), UPSTREAM_PORT)) as networking:
            await networking.ensure([network()])
            web = await start(world, networking, "web")
            assert (await question(world, web, "example.org")).header.rcode == RCODE.SERVFAIL
            async with upstream(world, lambda request: _answer(request, [])):
                other = config.with_name("new")
                other.write_text("nameserver 127.0.0.1\n")
                other.rename(config)
                assert answers(await question(world, web, "example.org")) == ["198.51.100.7"]
            await stop(world, networking, web)
            await networking.remove([NetworkName("default")])


async def test_one_container_that_opens_all_the_streams_it_can_leaves_some_to_others() -> None:
    async with project("default") as (world, networking):
        web, bad = [await start(world, networking, service) for service in ("web", "bad")]
        held = []
        for _ in range(300):
            sock = world.socket(bad.fd, socket.SOCK_STREAM)
            held.append(sock)
            await sock.connect((bad.resolver, 53))
        with world.socket(web.fd, socket.SOCK_STREAM) as sock:
            await sock.connect((web.resolver, 53))
            message = DNSRecord.question("bad").pack()
            # In pieces, as TCP may deliver it.
            for at in range(len(message) + 2):
                await sock.send((len(message).to_bytes(2, "big") + message)[at : at + 1])
            assert answers(DNSRecord.parse(await receive_framed(sock))) == [bad.address]
        for sock in held:
            sock.close()
        await stop(world, networking, web, bad)


async def test_a_frame_that_is_too_long_for_a_question_ends_its_stream_at_once() -> None:
    async with project("default") as (world, networking):
        web = await start(world, networking, "web")
        with world.socket(web.fd, socket.SOCK_STREAM) as sock:
            await sock.connect((web.resolver, 53))
            await send_framed(sock, DNSRecord.question("web").pack())
            assert answers(DNSRecord.parse(await receive_framed(sock))) == [web.address]
            await sock.send((MOST_QUESTION_BYTES + 1).to_bytes(2, "big"))
            assert await sock.recv(1) == b""
        await stop(world, networking, web)


async def test_questions_by_ipv6_are_answered_for_who_asks() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world:
        names = ProjectNames()
        zone = names.open_zone(NetworkName("default"), [IPv6Network("::/64")], internal=True)
        place = Endpoint(NetworkName("default"), (Address("::1", 64, "::1"),), "", "eth0", ("web", "lab-web-1"))
        names.claim(ContainerId("lab-web-1"), [place])
        names.publish(ContainerId("lab-web-1"), [place])
        sockets = open_sockets("::1", HOST_PORTS)
        server = Resolver(names, zone, Upstream(), sockets)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve)
            with world.socket(world.host, socket.SOCK_DGRAM, socket.AF_INET6) as sock:
                await sock.connect(sockets[0].getsockname()[:2])
                for name, found in (("web", ["::1"]), ("host.docker.internal", ["::1"]), ("example.org", [])):
                    await sock.send(DNSRecord.question(name, "AAAA").pack())
                    assert answers(DNSRecord.parse(await sock.recv(4096))) == found
            server.close()
