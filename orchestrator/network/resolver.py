"""The DNS server of one network: two sockets on the bridge's address.

Not on port 53: then neither a name server of the host nor a container could have that port on all addresses. The firewall
leads port 53 of the bridge's address here.

Answers from the zone are given in the receiving task itself; questions for the outside get a task each, at most
`_FORWARDED` at a time, so that one container cannot use up the supervisor's file descriptors.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

import trio

from orchestrator.network.names import ProjectNames
from orchestrator.network.ports import bind
from orchestrator.network.serving import accept_forever
from orchestrator.network.upstream import Upstream, receive_framed, send_framed
from orchestrator.network.zones import Zone

DNS_PORT = 53
"""What clients ask."""
_PORTS = range(61053, 61153)
"""Above the kernel's range for ports of its own choice, and always tried in the same order: after a crash the server is
where the flows that the kernel tracks expect it."""
_FORWARDED = 128
_STREAMS = 32
_STREAM_IDLE_S = 10.0
_MAX_QUESTION = 4096


def open_sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on `address`, on the first port of `_PORTS` that is free for both. Raises OSError."""
    for port in _PORTS:
        try:
            udp = bind("udp", address, port)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                continue
            raise
        try:
            return udp, bind("tcp", address, port)
        except OSError as exc:
            udp.close()
            if exc.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), f"DNS server on {address}")


def usable(sockets: list[socket.socket], address: str) -> tuple[socket.socket, socket.socket] | None:
    """The pair among `sockets` (from a supervisor that died), if it is one for `address`."""
    by_type = {sock.type: sock for sock in sockets if sock.getsockname()[0] == address}
    if len(by_type) == len(sockets) == 2:
        return by_type[socket.SOCK_DGRAM], by_type[socket.SOCK_STREAM]
    return None


class Resolver:
    """Serves `zone`; owns the sockets."""

    def __init__(
        self, names: ProjectNames, zone: Zone, upstream: Upstream, sockets: tuple[socket.socket, socket.socket]
    ) -> None:
        self._names = names
        self._zone = zone
        self._upstream = upstream
        self.sockets = sockets
        self._scope = trio.CancelScope()
        self._udp, self._tcp = (trio.socket.from_stdlib_socket(sock.dup()) for sock in sockets)

    def close(self) -> None:
        """End `serve`, and free the port at once."""
        self._scope.cancel()
        self._udp.close()
        self._tcp.close()
        for sock in self.sockets:
            sock.close()

    async def serve(self) -> None:
        """Until `close`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_forever, self._tcp, self._stream, _STREAMS)
                await self._datagrams(nursery)

    async def _datagrams(self, nursery: trio.Nursery) -> None:
        slots = trio.Semaphore(_FORWARDED)

        async def forward(data: bytes, client: tuple[object, ...]) -> None:
            try:
                servers = self._names.servers(self._zone, str(client[0]))
                answer = await self._upstream.ask(data, stream=False, servers=servers) or answers.servfail(data)
                if answer is not None:
                    await self._send(answer, client)
            finally:
                slots.release()

        while True:
            try:
                data, client = await self._udp.recvfrom(_MAX_QUESTION)
            except trio.ClosedResourceError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer
            from orchestrator.network import answers

            match answers.answer(self._names, self._zone, data, client[0]):
                case bytes() as answer:
                    await self._send(answer, client)
                case answers.Elsewhere.FORWARD:
                    try:
                        slots.acquire_nowait()
                    except trio.WouldBlock:
                        continue  # the client asks again
                    nursery.start_soon(forward, data, client)

    async def _send(self, answer: bytes, client: tuple[object, ...]) -> None:
        with suppress(OSError, trio.ClosedResourceError):  # the client is gone, or this network is
            await self._udp.sendto(answer, client)

    async def _stream(self, connection: trio.socket.SocketType) -> None:
        while True:
            with trio.move_on_after(_STREAM_IDLE_S) as idle:
                try:
                    data = await receive_framed(connection)
                except EOFError:
                    return
            if idle.cancelled_caught:
                return
            from orchestrator.network import answers

            client = connection.getpeername()[0]
            found = answers.answer(self._names, self._zone, data, client, stream=True)
            if found is answers.Elsewhere.FORWARD:
                asked = await self._upstream.ask(data, stream=True, servers=self._names.servers(self._zone, client))
                found = asked or answers.servfail(data) or answers.Elsewhere.IGNORE
            if not isinstance(found, bytes):
                return
            with trio.move_on_after(_STREAM_IDLE_S) as slow:
                await send_framed(connection, found)
            if slow.cancelled_caught:
                return
