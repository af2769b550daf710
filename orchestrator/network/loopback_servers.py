"""The name server of each container at 127.0.0.11, which belongs to that of one of its networks (decision 0022).

Who asks is known by the socket, so what is answered is what the container would have been answered by its address in
that network: the one whose server /etc/resolv.conf names. By UDP that network's thread answers (`datagrams`), by TCP one
task accepts for all containers, in turn: the kernel puts what is ready at the end of an epoll's list each time.

A container that has none, for whatever reason, is none the worse: its resolv.conf names the network's own server.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence

import trio

from orchestrator.contracts.network import Endpoint
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.network import loopback
from orchestrator.network.fdstore import FdStore, fetch_sockets
from orchestrator.network.resolver import STREAMS, Resolver
from orchestrator.network.serving import OUT_OF, PAUSE_S
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.wiring import Wiring
from orchestrator.values import entity, frozen

_UNDO_S = 30.0


Namespace = tuple[int, int]
"""Device and inode."""


@frozen
class _Asker:
    """Whose answers a container gets: those of `resolver` for `client`, its address in that network."""

    resolver: Resolver
    client: str


@entity
class _Server:
    """Of one container. `udp` is closed by the asker's resolver."""

    namespace: Namespace
    asker: _Asker
    udp: socket.socket
    tcp: socket.socket


class LoopbackServers:
    """`resolver_of`: the name server of a network that exists.

    `_expected`   namespaces that are about to be connected, on the event loop
    `_opened`     what was opened in them on the same visit of the netlink thread, until `open`; None: it could not be
    """

    def __init__(
        self,
        store: FdStore,
        thread: NetlinkThread,
        wiring: Wiring,
        resolver_of: Callable[[NetworkName], Resolver | None],
    ) -> None:
        self._store = store
        self._thread = thread
        self._resolver_of = resolver_of
        self._servers: dict[ContainerId, _Server] = {}
        self._listening: dict[int, _Server] = {}
        self._ready = select.epoll()
        self._expected: dict[Namespace, ContainerId] = {}
        self._opened: dict[ContainerId, loopback.Sockets | None] = {}
        wiring.on_connected = self._on_connected

    async def expect(self, container: ContainerId, netns_fd: int) -> None:
        """It will be connected, and then `open` is called, or `close`. A way to the netlink thread and back would cost as
        much as what there is to do."""
        if container not in self._servers and not await self._is_kept(container):
            self._expected[_namespace(netns_fd)] = container

    def _on_connected(self, netns_fd: int) -> None:
        """On the netlink thread."""
        if (container := self._expected.pop(_namespace(netns_fd), None)) is not None:
            self._opened[container] = loopback.open_inside(self._thread, netns_fd, ())

    async def open(self, container: ContainerId, netns_fd: int, endpoints: Sequence[Endpoint]) -> None:
        """`container` has one in this namespace, which answers as its `endpoints` say; without any it has none. Raises
        OSError, HostError of the store alone."""
        asker = self._asker_of(endpoints)
        if asker is None:
            await self.close(container)
            return
        namespace, held = _namespace(netns_fd), self._servers.get(container)
        if held is not None and (held.namespace, held.asker) == (namespace, asker):
            return
        self._retire(container)
        kept: list[socket.socket] = []
        if container in self._opened:
            sockets = self._opened.pop(container)
        else:
            kept = await fetch_sockets(self._store, _key(container))
            sockets = await self._thread.run(loopback.open_inside, self._thread, netns_fd, kept)
        if sockets is None:
            await self.close(container)
            return
        if sockets[0] not in kept:
            try:
                await self._store.keep(_key(container), [sock.fileno() for sock in sockets])
            except BaseException:
                for sock in sockets:
                    sock.close()
                # Shielded: what the store took over must not stay there; the deadline is for the store's process.
                with trio.move_on_after(_UNDO_S, shield=True):
                    await self._store.drop(_key(container))
                raise
        udp, tcp = sockets
        server = self._servers[container] = self._listening[tcp.fileno()] = _Server(namespace, asker, udp, tcp)
        asker.resolver.admit(server.udp, asker.client)
        self._ready.register(tcp.fileno(), select.EPOLLIN)

    def _asker_of(self, endpoints: Sequence[Endpoint]) -> _Asker | None:
        """As `oci.files` chooses for resolv.conf; where no network has an address for a server, the first."""
        outward = [end for end in endpoints if not end.internal] or list(endpoints)
        for endpoint in [*(end for end in outward if end.name_server), *outward][:1]:
            if (resolver := self._resolver_of(endpoint.network)) is not None:
                return _Asker(resolver, endpoint.addresses[0].ip)
        return None

    async def close(self, container: ContainerId) -> None:
        """It has none any more, also of a supervisor that died."""
        for sock in self._opened.pop(container, None) or ():
            sock.close()
        if self._retire(container) or await self._is_kept(container):
            await self._store.drop(_key(container))

    async def _is_kept(self, container: ContainerId) -> bool:
        kept = await fetch_sockets(self._store, _key(container))
        for sock in kept:
            sock.close()
        return bool(kept)

    def _retire(self, container: ContainerId) -> bool:
        """Ours are closed; the store has them until it is told."""
        server = self._servers.pop(container, None)
        if server is None:
            return False
        server.asker.resolver.dismiss(server.udp)
        del self._listening[server.tcp.fileno()]
        self._ready.unregister(server.tcp.fileno())  # The kernel would only when nobody else has it open.
        server.tcp.close()
        return True

    def stop(self) -> None:
        """The supervisor ends, the containers go on: ours are closed, and live on in the store."""
        for container in list(self._servers):
            self._retire(container)
        for sockets in self._opened.values():
            for sock in sockets or ():
                sock.close()

    async def serve(self) -> None:
        """Accept streams, until cancelled."""
        slots = trio.Semaphore(STREAMS)
        async with trio.open_nursery() as nursery:
            while True:
                await slots.acquire()
                connection, asker = await self._accept()
                nursery.start_soon(self._stream, connection, asker, slots)

    async def _accept(self) -> tuple[trio.socket.SocketType, _Asker]:
        while True:
            await trio.lowlevel.wait_readable(self._ready.fileno())
            for fd, _ in self._ready.poll(0, 1):
                try:
                    server = self._listening[fd]
                    connection, _ = server.tcp.accept()
                    return trio.socket.from_stdlib_socket(connection), server.asker
                except OSError as exc:
                    if exc.errno in OUT_OF:
                        await trio.sleep(PAUSE_S)

    @staticmethod
    async def _stream(connection: trio.socket.SocketType, asker: _Asker, slots: trio.Semaphore) -> None:
        try:
            with connection:
                await asker.resolver.stream(connection, asker.client)
        except OSError:
            pass  # the other side's business: reset, timed out
        finally:
            slots.release()


def _namespace(netns_fd: int) -> Namespace:
    info = os.fstat(netns_fd)
    return info.st_dev, info.st_ino


def _key(container: ContainerId) -> str:
    """In the store, which is the project's own. Of this form the runtime drops with the container."""
    return f"loopback:{container}"
