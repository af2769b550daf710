"""`ProjectNetworking`: all networks of one project (docs/networking.md), behind `contracts.network.Networking`.

This object decides, on the event loop; the netlink thread does (`wiring`). What it knows is in three places: the record of
subnets on disk, the address books, and `_connected`, the containers that are attached by this supervisor. The kernel
is asked wherever a supervisor that died may have left something.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, nft_table, veth_name
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.network import ports
from orchestrator.network.addressing import mac_for
from orchestrator.network.attach import Cable
from orchestrator.network.bridge import refused
from orchestrator.network.fdstore import FdStore, NoStore, fetch_sockets
from orchestrator.network.firewall import Translation
from orchestrator.network.names import ProjectNames
from orchestrator.network.networks import ProjectNetworks
from orchestrator.network.proxy import serve_port
from orchestrator.network.thread import NetlinkThread, open_thread
from orchestrator.network.upstream import Upstream
from orchestrator.network.watch import watch_table
from orchestrator.network.wiring import Wiring, Withdrawal
from orchestrator.values import entity

_UNDO_S = 30.0


@entity
class _Connected:
    """A container that is attached. `listeners`: duplicates of the reservations' TCP sockets for the proxies, each with the
    container's port; `serving`: the proxies' scope."""

    endpoints: tuple[Endpoint, ...]
    mappings: tuple[PortMapping, ...]
    reservations: list[ports.Reservation]
    withdrawal: Withdrawal
    listeners: list[tuple[trio.socket.SocketType, int]]
    serving: trio.CancelScope

    @property
    def way_in(self) -> str:
        return _way_in(self.endpoints).address

    def stop(self) -> None:
        """Free the ports at once; the proxies end a moment later."""
        self.serving.cancel()
        for listener, _ in self.listeners:
            listener.close()
        for reservation in self.reservations:
            reservation.close()


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
    ) -> None:
        self._site = site
        self._store = store
        self._thread = thread
        self._wiring = wiring
        self._nursery = nursery
        self._names = ProjectNames()
        self._endpoints: dict[ContainerId, tuple[Endpoint, ...]] = {}
        self._connected: dict[ContainerId, _Connected] = {}
        self._leaving: list[Withdrawal] = []
        self._networks = ProjectNetworks(site, store, thread, wiring, nursery, upstream, self._names, self._endpoints)
        self._leaving_lock = trio.Lock()

    async def ensure(self, networks: Sequence[Network]) -> None:
        await self._networks.ensure(networks)

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        await self._networks.remove(networks)

    # -- addresses --------------------------------------------------------------------------------------------------

    def reserve(
        self, container: ContainerId, service: ServiceName, attachments: Sequence[Attachment]
    ) -> tuple[Endpoint, ...]:
        before = {endpoint.network for endpoint in self._endpoints.get(container, ())}
        taken: list[NetworkName] = []
        endpoints: list[Endpoint] = []
        try:
            for number, attachment in enumerate(attachments):
                live = self._networks.live.get(attachment.network)
                assert live is not None, f"network {attachment.network} was not ensured"
                address = live.book.take(container, attachment.ipv4_address)
                if attachment.network not in before:
                    taken.append(attachment.network)
                subnet = live.book.subnet
                endpoints.append(
                    Endpoint(
                        network=attachment.network,
                        address=str(address),
                        prefix=subnet.network.prefixlen,
                        gateway=str(subnet.gateway),
                        mac=mac_for(str(address)),
                        interface=f"eth{number}",
                        names=tuple(dict.fromkeys((service, container, *attachment.aliases))),
                        internal=live.network.internal,
                    )
                )
        except PystackError:
            for key in taken:
                self._networks.live[key].book.give_back(container)
            raise
        self._hold(container, tuple(endpoints))
        return tuple(endpoints)

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint]) -> None:
        live = self._networks.live
        held = [e for e in endpoints if e.network not in live or live[e.network].book.hold(container, e.address)]
        self._hold(container, tuple(held))

    def _hold(self, container: ContainerId, endpoints: tuple[Endpoint, ...]) -> None:
        kept = {endpoint.network for endpoint in endpoints}
        for old in self._endpoints.get(container, ()):
            if old.network not in kept and old.network in self._networks.live:
                self._networks.live[old.network].book.give_back(container)
        self._endpoints[container] = endpoints
        self._names.claim(container, endpoints)

    def release(self, container: ContainerId) -> None:
        self._endpoints.pop(container, None)
        self._names.disclaim(container)
        for live in self._networks.live.values():
            live.book.give_back(container)

    # -- containers -------------------------------------------------------------------------------------------------

    async def attach(
        self, container: ContainerId, netns_fd: int, endpoints: Sequence[Endpoint], ports: Sequence[PortMapping]
    ) -> tuple[Published, ...]:
        wanted = (tuple(endpoints), tuple(ports))
        current = self._connected.get(container)
        if current is not None and (current.endpoints, current.mappings) != wanted:
            await self.detach(container)
            current = None
        cables = [self._cable(container, endpoint, hairpin=bool(ports)) for endpoint in endpoints]
        if current is None:
            reservations = await self._reserve_ports(container, *wanted)
        else:
            reservations = current.reservations
        translations = _translations(endpoints, reservations)
        withdrawal = Withdrawal(tuple(cable.veth for cable in cables), translations)
        listeners: list[tuple[trio.socket.SocketType, int]] = []
        try:
            if current is None:
                _listen(reservations, listeners)
            await self._thread.run(self._wiring.connect, netns_fd, cables, translations)
        except BaseException as exc:
            for listener, _ in listeners:
                listener.close()
            await self._abandon(container, reservations, withdrawal)
            if isinstance(exc, OSError):
                raise refused(exc, f'cannot connect container "{container}"') from exc
            raise
        self._names.publish(container, endpoints)
        if current is None:
            connected = _Connected(*wanted, reservations, withdrawal, listeners, trio.CancelScope())
            self._connected[container] = connected
            if listeners:
                self._nursery.start_soon(_serve, connected)
        return tuple(reservation.published for reservation in reservations)

    def _cable(self, container: ContainerId, endpoint: Endpoint, hairpin: bool) -> Cable:
        live = self._networks.live.get(endpoint.network)
        assert live is not None, f"network {endpoint.network} was not ensured"
        return Cable(veth_name(self._site.key, container, endpoint.network), live.link.index, endpoint, hairpin)

    async def _reserve_ports(
        self, container: ContainerId, endpoints: Sequence[Endpoint], mappings: Sequence[PortMapping]
    ) -> list[ports.Reservation]:
        if not mappings:
            return []
        if not endpoints:
            raise OperationError(f"{mappings[0].place}: a container without a network cannot publish ports")
        kept = await fetch_sockets(self._store, self._ports_key(container))
        known = [
            Published(t.host_ip, t.host_port, t.target, t.protocol)
            for t in await self._thread.run(self._wiring.published_to, [e.address for e in endpoints])
        ]
        self._refuse_our_own(container, mappings)
        reservations = ports.reserve(mappings, kept, known)
        try:
            fds = [sock.fileno() for reservation in reservations for sock in reservation.sockets]
            await self._store.keep(self._ports_key(container), fds)
        except BaseException:
            await self._abandon(container, reservations, Withdrawal((), ()))
            raise
        return reservations

    def _refuse_our_own(self, container: ContainerId, mappings: Sequence[PortMapping]) -> None:
        """Ports of our own containers get a better explanation than our own process's name."""
        for mapping in mappings:
            if mapping.published is None or mapping.published[0] != mapping.published[1]:
                continue
            address, port = ports.host_ip(mapping), mapping.published[0]
            for other, connected in self._connected.items():
                for taken in connected.reservations:
                    same = (taken.host_port, taken.mapping.protocol) == (port, mapping.protocol)
                    if other != container and same and (taken.host_ip == address or "0.0.0.0" in (taken.host_ip, address)):
                        raise OperationError(
                            f"{mapping.place}: port {port}/{mapping.protocol} on {address} is published by {other} already",
                            hint=f"see {taken.mapping.place}" if taken.mapping.place else None,
                        )

    async def _abandon(
        self, container: ContainerId, reservations: Iterable[ports.Reservation], withdrawal: Withdrawal
    ) -> None:
        """A failed attach leaves nothing behind, also when it is cancelled."""
        connected = self._connected.pop(container, None)
        if connected is not None:
            connected.stop()
        self._names.withdraw(container)
        for reservation in reservations:
            reservation.close()
        # Shielded: the kernel's part of this is bounded, and the deadline is for the store's.
        with trio.move_on_after(_UNDO_S, shield=True):
            await self._thread.run(self._wiring.disconnect, [withdrawal])
            await self._store.drop(self._ports_key(container))

    async def detach(self, container: ContainerId) -> None:
        connected = self._connected.pop(container, None)
        self._names.withdraw(container)
        if connected is not None:
            withdrawal = connected.withdrawal
            connected.stop()
        else:
            withdrawal = await self._left_by(container)
        try:
            await self._withdraw(withdrawal)
        except OSError as exc:
            raise refused(exc, f'cannot disconnect container "{container}"') from exc
        finally:
            if connected is None or connected.reservations:
                await self._store.drop(self._ports_key(container))

    async def _left_by(self, container: ContainerId) -> Withdrawal:
        """What a killed supervisor may have made for `container`, of which there may be no record: so what leads to nobody
        whom we know is taken for it."""
        endpoints = self._endpoints.get(container, ())
        networks = {e.network for e in endpoints} | self._networks.keys
        names = [veth_name(self._site.key, container, key) for key in sorted(networks)]
        present = {link.name for link in await self._thread.run(self._wiring.links.all)}
        others = {e.address for holder, held in self._endpoints.items() if holder != container for e in held}
        published = await self._thread.run(self._wiring.published_to_none_of, others)
        return Withdrawal(tuple(name for name in names if name in present), published)

    async def _withdraw(self, withdrawal: Withdrawal) -> None:
        """Together with those of others that wait: deleting a link costs a grace period, deleting a hundred one too."""
        self._leaving.append(withdrawal)
        async with self._leaving_lock:
            if withdrawal not in self._leaving:
                return
            batch, self._leaving = self._leaving, []
            try:
                await self._thread.run(self._wiring.disconnect, batch)
            except BaseException:
                # Those that wait try again by themselves and get an error of their own.
                self._leaving += [other for other in batch if other is not withdrawal]
                raise

    def _ports_key(self, container: ContainerId) -> str:
        return f"ports/{container}"

    def _close(self) -> None:
        """The supervisor ends, the containers go on: sockets are closed here, and live on in the store."""
        self._networks.close()
        for connected in self._connected.values():
            connected.stop()


def _listen(reservations: Iterable[ports.Reservation], into: list[tuple[trio.socket.SocketType, int]]) -> None:
    for reservation in reservations:
        if reservation.mapping.protocol == "tcp":
            for sock in reservation.sockets:
                into.append((trio.socket.from_stdlib_socket(sock.dup()), reservation.mapping.target))


async def _serve(connected: _Connected) -> None:
    """Proxy whatever reaches the listening sockets of a container's ports."""
    with connected.serving:
        async with trio.open_nursery() as nursery:
            for listener, target in connected.listeners:
                nursery.start_soon(serve_port, listener, connected.way_in, target)


def _way_in(endpoints: Sequence[Endpoint]) -> Endpoint:
    """Where published ports lead: by the network of the default route, or answers would take another way back."""
    return next((endpoint for endpoint in endpoints if not endpoint.internal), endpoints[0])


def _translations(endpoints: Sequence[Endpoint], reservations: Iterable[ports.Reservation]) -> tuple[Translation, ...]:
    return tuple(
        Translation(r.mapping.protocol, r.host_ip, r.host_port, _way_in(endpoints).address, r.mapping.target)
        for r in reservations
        if r.translated
    )


@asynccontextmanager
async def open_networking(
    site: Site, fd_store: FdStore | None = None, upstream: Upstream | None = None
) -> AsyncIterator[ProjectNetworking]:
    """The networking of one project, in the network namespace of the calling thread, while the block runs. Leaving it
    changes nothing in the kernel. `upstream`: who answers for outside names; None: the host's resolvers.

    Raises HostError when the kernel refuses netlink sockets."""
    failure: BaseException | None = None
    async with open_thread() as thread:
        try:
            wiring = await thread.run(Wiring, thread, nft_table(site.key))
        except OSError as exc:
            raise refused(exc, "cannot talk to the kernel about networks") from exc
        try:
            async with trio.open_nursery() as nursery:
                networking = ProjectNetworking(site, fd_store or NoStore(), thread, wiring, nursery, upstream or Upstream())
                nursery.start_soon(watch_table, thread, wiring.firewall, nft_table(site.key), wiring.changes)
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
