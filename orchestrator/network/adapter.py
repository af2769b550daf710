"""`ProjectNetworking`: all networks of one project (docs/networking.md), behind `contracts.network.Networking`.

What it knows is in four places: the record of subnets on disk (`record`), the address books (`addressing`), the containers'
endpoints, which are here, and what is attached (`connections`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from orchestrator.contracts.network import Endpoint, Impairment, Published
from orchestrator.contracts.refusals import refusing
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, chaos_table, nft_table
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.network.addressing import AddressBooks
from orchestrator.network.bridge import refused
from orchestrator.network.connections import Connections
from orchestrator.network.endpoints import take_endpoints
from orchestrator.network.fdstore import FdStore, NoStore
from orchestrator.network.impairing import Impairing
from orchestrator.network.loopback_servers import LoopbackServers
from orchestrator.network.names import ProjectNames
from orchestrator.network.networks import ProjectNetworks
from orchestrator.network.observing import observe
from orchestrator.network.port_owner import Publisher
from orchestrator.network.resolver import Resolver
from orchestrator.network.thread import NetlinkThread, open_thread
from orchestrator.network.upstream import Upstream
from orchestrator.network.watch import watch_tables
from orchestrator.network.wiring import Wiring

_UNDO_S = 30.0


@refusing(
    ensure="make the networks",
    remove="remove the networks",
    attach="attach",
    rewire="reconnect",
    hand_over="hand over",
    open_connections="count the connections of",
    detach="detach",
    observe="count who talks to whom in the project's networks",
    impair="make or undo faults on purpose",
)
class ProjectNetworking:
    """Implements `Networking`. Made by `open_networking`."""

    def __init__(
        self,
        site: Site,
        store: FdStore,
        thread: NetlinkThread,
        wiring: Wiring,
        nursery: trio.Nursery,
        upstream: Upstream,
        publisher: Publisher | None,
    ) -> None:
        self._names = ProjectNames()
        self._endpoints: dict[ContainerId, tuple[Endpoint, ...]] = {}
        self._networks = ProjectNetworks(site, store, thread, wiring, nursery, upstream, self._names, self._endpoints)
        self._connections = Connections(
            site, store, thread, wiring, nursery, self._names, self._networks, self._endpoints, publisher
        )
        self._loopback_servers = LoopbackServers(store, thread, wiring, self._resolver_of)
        self._observe = partial(thread.run, observe, site.key)
        self._impairing = Impairing(
            thread, wiring, self._names, self._networks, self._connections, self._endpoints
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What of the record of subnets was found damaged."""
        return self._networks.findings

    async def ensure(self, networks: Sequence[Network]) -> tuple[str, ...]:
        return await self._networks.ensure(networks)

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        await self._networks.remove(networks)
        if not self._networks.keys:
            await self._impairing.state(())

    # -- addresses and names ----------------------------------------------------------------------------------------

    def reserve_written(self, written: Mapping[NetworkName, Collection[str]]) -> None:
        self._networks.reserve_written(written)

    def reserve(
        self,
        container: ContainerId,
        service: ServiceName,
        attachments: Sequence[Attachment],
        service_name: bool = True,
    ) -> tuple[Endpoint, ...]:
        held = self._endpoints.get(container, ())
        endpoints = take_endpoints(container, service, attachments, self._network, service_name, held)
        self._hold(container, endpoints)
        return endpoints

    def _network(self, key: NetworkName) -> tuple[Network, AddressBooks]:
        live = self._networks.live.get(key)
        assert live is not None, f"network {key} was not ensured"
        return live.network, live.books

    def _resolver_of(self, key: NetworkName) -> Resolver | None:
        live = self._networks.live.get(key)
        return live.resolver if live is not None else None

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint], published: Sequence[Published] = ()) -> None:
        live = self._networks.live
        held = [e for e in endpoints if e.network not in live or live[e.network].books.hold(container, e.addresses)]
        self._hold(container, tuple(held))
        self._settle(container)
        self._names.expect(container)
        self._connections.remember(container, published)

    def _hold(self, container: ContainerId, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints[container] = endpoints
        self._names.claim(container, endpoints)

    def _settle(self, container: ContainerId) -> None:
        """It is where it should be: what it had before is for others."""
        kept = {endpoint.network for endpoint in self._endpoints.get(container, ())}
        for key, live in self._networks.live.items():
            if key in kept:
                live.books.settle(container)
            else:
                live.books.give_back(container)

    def release(self, container: ContainerId) -> None:
        self._endpoints.pop(container, None)
        self._names.disclaim(container)
        self._connections.forget(container)
        for live in self._networks.live.values():
            live.books.give_back(container)

    def set_ready(self, container: ContainerId, ready: bool) -> None:
        self._names.set_ready(container, ready)

    # -- containers -------------------------------------------------------------------------------------------------

    async def attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        undo = partial(self._loopback_servers.close, container)
        try:
            if endpoints:
                await self._loopback_servers.expect(container, netns_fd)
            published = await self._connections.attach(container, netns_fd, endpoints, ports, keep, guarded)
            undo = partial(self.detach, container)
            await self._follow(container, netns_fd)
        except BaseException:
            # Shielded: what is refused or cancelled leaves nothing; every job of the thread ends by itself.
            with trio.move_on_after(_UNDO_S, shield=True):
                await undo()
            raise
        self._settle(container)
        return published

    async def rewire(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        follow = partial(self._follow, container, netns_fd)
        published = await self._connections.rewire(container, netns_fd, endpoints, ports, keep, guarded, follow)
        self._settle(container)
        return published

    async def _follow(self, container: ContainerId, netns_fd: int) -> None:
        """What else is brought to its interfaces."""
        await self._impairing.attached(container)
        await self._loopback_servers.open(container, netns_fd, self._connections.endpoints(container))

    async def hand_over(
        self,
        predecessor: ContainerId,
        container: ContainerId,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        return await self._connections.hand_over(predecessor, container, endpoints, ports, guarded)

    async def open_connections(self, container: ContainerId, netns_fd: int) -> int:
        return await self._connections.open_connections(netns_fd)

    async def detach(self, container: ContainerId) -> None:
        self._impairing.detached(container)
        await self._loopback_servers.close(container)
        await self._connections.detach(container)

    async def impair(self, impairments: Sequence[Impairment]) -> None:
        try:
            await self._impairing.state(impairments)
        except OSError as exc:
            raise refused(exc, "cannot make or undo faults on purpose") from exc

    async def observe(self) -> None:
        if self._networks.keys:
            await self._observe()

    def _close(self) -> None:
        """The supervisor ends, the containers go on: sockets are closed here, and live on in the store."""
        self._loopback_servers.stop()
        self._networks.close()
        self._connections.close()


@asynccontextmanager
async def open_networking(
    site: Site, fd_store: FdStore | None = None, upstream: Upstream | None = None, publisher: Publisher | None = None
) -> AsyncIterator[ProjectNetworking]:
    """The networking of one project, in the network namespace of the calling thread, while the block runs. Leaving it
    changes nothing in the kernel. `upstream`: who answers for outside names; None: the host's resolvers.

    Raises HostError when the kernel refuses netlink sockets."""
    failure: BaseException | None = None
    async with open_thread() as thread:
        try:
            wiring = await thread.run(Wiring, thread, nft_table(site.key), chaos_table(site.key))
        except OSError as exc:
            raise refused(exc, "cannot talk to the kernel about networks") from exc
        try:
            async with trio.open_nursery() as nursery:
                networking = ProjectNetworking(
                    site, fd_store or NoStore(), thread, wiring, nursery, upstream or Upstream(), publisher
                )
                nursery.start_soon(networking._networks.tell_neighbours)
                nursery.start_soon(networking._loopback_servers.serve)
                nursery.start_soon(watch_tables, thread, lambda: wiring.tables, wiring.changes)
                try:
                    yield networking
                except BaseException as exc:
                    # The caller's own error leaves as it is, and not in an exception group of this nursery's.
                    failure = exc
                finally:
                    networking._close()
                    nursery.cancel_scope.cancel()
        finally:
            # Shielded: without it a cancelled supervisor would not close these sockets. Takes microseconds.
            with trio.move_on_after(_UNDO_S, shield=True):
                await thread.run(wiring.close)
    if failure is not None:
        raise failure
