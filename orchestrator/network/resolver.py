"""The DNS server of one network: two sockets at its address in the network (`name_servers`), and two in each container
that has its resolv.conf from it (`loopback_servers`).

Where that is the bridge's own address, in the host's namespace, it is not on port 53: then neither a name server of the
host nor a container could have that port on all addresses. The firewall leads port 53 of the bridge's address to it.

By UDP a thread (`datagrams`) answers what it knows: names of the stack, and what others have answered before. Questions
for the outside wait for one of `_OUTSIDE` places on the event loop, and no container has more than `_OUTSIDE_OF_ONE`, so
that none can use up the supervisor's file descriptors or keep others waiting. By TCP the event loop serves.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence

import trio

from orchestrator.network import answers
from orchestrator.network.datagrams import MOST_QUESTION_BYTES, Datagrams
from orchestrator.network.names import ProjectNames
from orchestrator.network.ports import SO_BINDTOIFINDEX, bind
from orchestrator.network.serving import accept_forever
from orchestrator.network.turns import Turns, Waiting
from orchestrator.network.upstream import Upstream, receive_framed, send_framed
from orchestrator.network.zones import Zone

DNS_PORT = 53
"""What clients ask."""
HOST_PORTS = range(61053, 61153)
"""Above the kernel's range for ports of its own choice, and always tried in the same order: after a crash the server is
where the flows that the kernel tracks expect it."""
_OUTSIDE, _OUTSIDE_OF_ONE = 256, 128
_GIVEN_UP_S = 5.0
"""Clients ask again, or have given up, by then."""
_GIVEN, _GIVEN_BYTES = 1024, 300
"""Answers of ours that are given again until a name changes, and how long a question for one is."""
_ONE_RECORD = b"\0\1"
STREAMS = 256
_STREAMS_OF_ONE = 32
_STREAM_IDLE_S = 10.0
_LATER_S = 0.02


def open_sockets(address: str, ports: Sequence[int], interface: int = 0) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on `address`, on the first of `ports` that is free for both. `interface`: nothing else reaches them than
    what comes by the one with that index; 0: any. Raises OSError."""
    for port in ports:
        try:
            udp = bind("udp", address, port, interface)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                continue
            raise
        try:
            return udp, bind("tcp", address, port, interface)
        except OSError as exc:
            udp.close()
            if exc.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), f"DNS server on {address}")


def usable(
    sockets: Sequence[socket.socket], address: str, interface: int = 0
) -> tuple[socket.socket, socket.socket] | None:
    """The pair among `sockets` (from a supervisor that died), if it is one for `address` and `interface`. Others are
    closed."""
    by_type = {sock.type: sock for sock in sockets if _is_at(sock, address, interface)}
    if len(by_type) == len(sockets) == 2:
        return by_type[socket.SOCK_DGRAM], by_type[socket.SOCK_STREAM]
    for sock in sockets:
        sock.close()
    return None


def _is_at(sock: socket.socket, address: str, interface: int) -> bool:
    where: str = sock.getsockname()[0]
    return where == address and sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == interface


class Resolver:
    """Serves `zone`; owns the sockets. Without `sockets` it is reached in the containers alone."""

    def __init__(
        self, names: ProjectNames, zone: Zone, upstream: Upstream, sockets: tuple[socket.socket, socket.socket] | None
    ) -> None:
        self._names = names
        self._zone = zone
        self._upstream = upstream
        self.sockets = sockets
        self._scope = trio.CancelScope()
        self._datagrams = Datagrams(sockets[0].dup() if sockets else None, self._respond)
        self._tcp = trio.socket.from_stdlib_socket(sockets[1].dup()) if sockets else None
        self._streams: Counter[str] = Counter()
        self._outside = Turns()
        self._asking: Counter[str] = Counter()
        self._asking_all = 0
        self._asked = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._given: dict[tuple[str, bytes], bytes] = {}
        self._given_at = -1

    def close(self) -> None:
        """End `serve`, and free the port at once."""
        self._scope.cancel()
        self._datagrams.close()
        if self._tcp is not None:
            self._tcp.close()
        for sock in self.sockets or ():
            sock.close()

    def admit(self, udp: socket.socket, client: str) -> None:
        """Answer by `udp`, too, which is its own from now on, as if `client` had asked by its address in the network."""
        self._datagrams.admit(udp, client)

    def dismiss(self, udp: socket.socket) -> None:
        """It closes `udp`, in a moment."""
        self._datagrams.dismiss(udp)

    async def serve(self) -> None:
        """Until `close`."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    if self._tcp is not None:
                        nursery.start_soon(accept_forever, self._tcp, self._stream, STREAMS)
                    self._datagrams.start()
                    await self._ask_outside(nursery)
        finally:
            self._datagrams.close()

    # -- UDP, on the thread -----------------------------------------------------------------------------------------

    def _respond(self, waiting: Waiting) -> bytes | bool:
        data = waiting.data
        generation, key = self._names.current(), (waiting.client, data[2:])
        if self._given_at != generation or len(self._given) >= _GIVEN:
            self._given.clear()
            self._given_at = generation
        elif (given := self._given.get(key)) is not None:
            return data[:2] + given
        found = self._answer(data, waiting.client)
        if isinstance(found, bytes):
            if found[6:8] <= _ONE_RECORD and len(data) <= _GIVEN_BYTES:  # more of them take turns
                self._given[key] = found[2:]
            return found
        if found is answers.Elsewhere.LATER:
            return time.monotonic() - waiting.since_s > _GIVEN_UP_S
        if found is answers.Elsewhere.FORWARD:
            known = self._upstream.known(data, self._names.servers(self._zone, waiting.client))
            if known is not None:
                return known
            if self._outside.put(waiting) and self._token is not None:
                self._token.run_sync_soon(self._wake, idempotent=True)
        return True

    def _answer(self, data: bytes, client: str, stream: bool = False) -> bytes | answers.Elsewhere:
        try:
            return answers.answer(self._names, self._zone, data, client, stream)
        except Exception:
            # The boundary to bytes from containers: none of them may end the thread, or the supervisor. Tests call
            # `answers.answer` itself.
            return answers.Elsewhere.IGNORE

    # -- names of others, on the event loop -------------------------------------------------------------------------

    def _wake(self) -> None:
        self._asked.set()

    async def _ask_outside(self, nursery: trio.Nursery) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            while self._asking_all < _OUTSIDE and (waiting := self._outside.take(self._may_ask)) is not None:
                self._asking[waiting.client] += 1
                self._asking_all += 1
                nursery.start_soon(self._forward, waiting)

    def _may_ask(self, client: str) -> bool:
        return self._asking[client] < _OUTSIDE_OF_ONE

    async def _forward(self, waiting: Waiting) -> None:
        try:
            if time.monotonic() - waiting.since_s < _GIVEN_UP_S:
                answer = await self._found_outside(waiting.data, waiting.client)
                if answer is not None:
                    self._datagrams.send(answer, waiting)
        finally:
            self._asking_all -= 1
            self._asking[waiting.client] -= 1
            if not self._asking[waiting.client]:
                del self._asking[waiting.client]
            self._asked.set()

    async def _found_outside(self, data: bytes, client: str, stream: bool = False) -> bytes | None:
        servers = self._names.servers(self._zone, client)
        return await self._upstream.ask(data, stream, servers) or answers.servfail(data)

    # -- TCP --------------------------------------------------------------------------------------------------------

    async def _stream(self, connection: trio.socket.SocketType) -> None:
        await self.stream(connection, str(connection.getpeername()[0]))

    async def stream(self, connection: trio.socket.SocketType, client: str) -> None:
        """Answer what `client` asks by `connection`, until it has nothing to ask any more. Raises OSError."""
        if self._streams[client] >= _STREAMS_OF_ONE:
            return
        self._streams[client] += 1
        try:
            while await self._message(connection, client):
                pass
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]

    async def _message(self, connection: trio.socket.SocketType, client: str) -> bool:
        """Receive one and answer it. False: it was the last one, or too long for one."""
        with trio.move_on_after(_STREAM_IDLE_S) as idle:
            try:
                data = await receive_framed(connection, MOST_QUESTION_BYTES)
            except EOFError:
                return False
        if idle.cancelled_caught:
            return False
        self._names.current()
        found = self._answer(data, client, stream=True)
        since_s = trio.current_time()
        while found is answers.Elsewhere.LATER and trio.current_time() - since_s < _GIVEN_UP_S:
            await trio.sleep(_LATER_S)
            found = self._answer(data, client, stream=True)
        if found is answers.Elsewhere.FORWARD:
            found = await self._found_outside(data, client, stream=True) or answers.Elsewhere.IGNORE
        if not isinstance(found, bytes):
            return False
        with trio.move_on_after(_STREAM_IDLE_S) as slow:
            await send_framed(connection, found)
        return not slow.cancelled_caught
