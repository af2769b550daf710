"""Host ports: who has them, who gets them, and that nothing stays taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.network import Published
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, PortMapping
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.ports import bind
from tests.kernel.network_lab import DEADLINE_S, Lab, ask, echo, lab, network, site, start, stop, tcp, udp

pytestmark = pytest.mark.kernel


@asynccontextmanager
async def project() -> AsyncIterator[tuple[Lab, ProjectNetworking]]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network()])
            yield world, networking
            await networking.remove([NetworkName("default")])


async def test_a_port_that_another_program_has_is_refused_with_its_name() -> None:
    async with project() as (world, networking):
        program = (
            "import socket, sys; s = socket.create_server(('127.0.0.1', 8080)); "
            "print('up', flush=True); sys.stdin.read()"
        )
        other = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "up\n"
        before = world.links(world.host)
        box = ContainerId("lab-web-1")
        endpoints = networking.reserve(box, ServiceName("web"), [Attachment(NetworkName("default"))])
        fd = world.namespace()
        with pytest.raises(OperationError) as caught:
            await networking.attach(box, fd, endpoints, [tcp(80, 8081), tcp(80, 8080)])
        comm = Path(f"/proc/{other.pid}/comm").read_text().strip()
        expected = f'services.web.ports[0]: port 8080/tcp on 0.0.0.0 is in use by "{comm}" (pid {other.pid})'
        assert str(caught.value) == expected
        assert '"8081:80"' in (caught.value.hint or "")
        assert world.links(world.host) == before
        assert list(world.links(fd)) == ["lo"]
        # The first mapping's port was given back, and the address was not.
        with bind("tcp", "0.0.0.0", 8081):
            pass
        other.stdin.close()
        other.wait()
        other.stdout.close()
        assert await networking.attach(box, fd, endpoints, [tcp(80, 8080)]) == (Published("0.0.0.0", 8080, 80),)
        await networking.detach(box)
        networking.release(box)


async def test_a_port_of_our_own_container_is_refused_with_the_containers_name() -> None:
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        with pytest.raises(OperationError, match=r"port 8080/tcp on 127\.0\.0\.1 is published by lab-web-1 already"):
            await start(world, networking, "other", ports=[tcp(80, 8080, "127.0.0.1")])
        udp_too = await start(world, networking, "third", ports=[udp(80, 8080)])
        await stop(world, networking, web, udp_too)


async def test_a_range_takes_its_first_free_port_and_none_means_any() -> None:
    async with project() as (world, networking):
        some = PortMapping(80, (9000, 9002), None, "tcp", "services.web.ports[0]")
        boxes = [await start(world, networking, "web", ports=[some, PortMapping(81)], number=n) for n in (1, 2, 3)]
        assert [box.published[0].host_port for box in boxes] == [9000, 9001, 9002]
        assert len({box.published[1].host_port for box in boxes}) == 3
        async with echo(await world.listen(boxes[1].fd, 81)):
            assert await ask(world, world.host, "127.0.0.1", boxes[1].published[1].host_port)
        with pytest.raises(OperationError, match=r"ports 9000-9002/tcp on 0\.0\.0\.0 are all in use"):
            await start(world, networking, "web", ports=[some], number=4)
        await stop(world, networking, boxes[0])
        again = await start(world, networking, "web", ports=[some], number=5)
        assert again.published[0].host_port == 9000
        await stop(world, networking, again, *boxes[1:])


async def test_a_range_leaves_the_port_that_another_mapping_of_the_container_needs() -> None:
    async with project() as (world, networking):
        some = PortMapping(80, (9000, 9001), None, "tcp", "services.web.ports[0]")
        web = await start(world, networking, "web", ports=[some, tcp(81, 9000)])
        assert [p.host_port for p in web.published] == [9001, 9000]
        await stop(world, networking, web)


async def test_an_address_that_is_not_the_hosts_is_refused() -> None:
    async with project() as (world, networking):
        for host_ip, text in [("198.51.100.1", "is not an address of this host"), ("web", "is not an IP address")]:
            with pytest.raises(OperationError, match=text):
                await start(world, networking, "web", ports=[tcp(80, 8080, host_ip)])


async def test_a_port_can_be_taken_again_at_once_after_connections_to_it() -> None:
    async with project() as (world, networking):
        for _ in range(3):
            web = await start(world, networking, "web", ports=[tcp(80, 8080)])
            async with echo(await world.listen(web.fd, 80)):
                assert await ask(world, world.host, "::1", 8080)
                assert await ask(world, world.host, "127.0.0.1", 8080)
            await stop(world, networking, web)
        with bind("tcp", "0.0.0.0", 8080):
            pass


async def test_the_proxy_carries_a_megabyte_both_ways_and_half_closed_connections() -> None:
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        listener = await world.listen(web.fd, 80)
        sent = os.urandom(1 << 20)

        async def answer_after_the_end() -> None:
            connection, _ = await listener.accept()
            with connection:
                received = await _read_all(connection)
                await _send_all(connection, received[::-1])

        with world.socket(world.host, socket.SOCK_STREAM, socket.AF_INET6) as sock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_after_the_end)
                await sock.connect(("::1", 8080))
                await _send_all(sock, sent)
                sock.shutdown(socket.SHUT_WR)
                assert (await _read_all(sock))[::-1] == sent
        listener.close()
        with world.socket(world.host, socket.SOCK_STREAM, socket.AF_INET6) as sock:
            await sock.connect(("::1", 8080))
            with pytest.raises(ConnectionResetError):
                await sock.recv(1)
        await stop(world, networking, web)


async def _send_all(sock: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await sock.send(view) :]


async def _read_all(sock: trio.socket.SocketType) -> bytes:
    parts = []
    while part := await sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)
