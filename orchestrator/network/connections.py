"""Containers on their networks: attached, published, answered for, and taken off again.

This object decides, on the event loop; the netlink thread does (`wiring`). What it knows of a container:

    _published   host ports it has or had, from `restore` or its last attach until `release`
    _taken       host ports that are bound for it now, from the moment of binding
    _connected   everything else that is undone by `detach`

What a supervisor that died has left is looked up in the kernel.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence

import trio

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.network import PortMapping
from orchestrator.model.network_options import parse_options
from orchestrator.network import ports
from orchestrator.network.addressing import family_of
from orchestrator.network.attach import Plug, VethPair, plug
from orchestrator.network.bridge import refused
from orchestrator.network.endpoints import ways_out
from orchestrator.network.fdstore import FdStore, fetch_sockets
from orchestrator.network.firewall import Translation
from orchestrator.network.names import ProjectNames
from orchestrator.network.networks import ProjectNetworks
from orchestrator.network.port_owner import Publisher
from orchestrator.network.proxy import serve_port
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.udp_proxy import serve_datagrams
from orchestrator.network.veths import VethOwner
from orchestrator.network.wiring import Wiring, Withdrawal
from orchestrator.values import entity, replace

_UNDO_S = 30.0
_TRANSLATED = (socket.AF_INET, socket.AF_INET6)
_LOOPBACK_6 = "::1"
"""What is sent to it is proxied: the kernel routes nothing from there anywhere else."""


@entity
class _Connected:
    """A container that is attached. `listeners`: duplicates of the reservations' TCP sockets for the proxies, each with the
    container's port; `unread`: the UDP sockets that are served, themselves; `serving`: the proxies' scope."""

    endpoints: tuple[Endpoint, ...]
    mappings: tuple[PortMapping, ...]
    reservations: list[ports.Reservation]
    withdrawal: Withdrawal
    listeners: list[tuple[trio.socket.SocketType, int]]
    unread: list[tuple[socket.socket, int]]
    serving: trio.CancelScope
    netns_fd: int = -1

    @property
    def published(self) -> tuple[Published, ...]:
        return tuple(reservation.published for reservation in self.reservations)

    def stop(self) -> None:
        """Close the listeners at once; the proxies end a moment later. To be called before the reservations are closed."""
        self.serving.cancel()
        for sock, _ in self.unread:
            trio.lowlevel.notify_closing(sock)
        for listener, _ in self.listeners:
            listener.close()

    def hold(self, netns_fd: int) -> None:
        """Keep the namespace, where there are interfaces in it that have no end on the host."""
        if self.netns_fd < 0 and any(endpoint.outer for endpoint in self.endpoints):
            self.netns_fd = os.dup(netns_fd)

    def let_go(self) -> None:
        if self.netns_fd >= 0:
            os.close(self.netns_fd)
            self.netns_fd = -1


class Connections:
    """`endpoints`: who has which addresses, kept by the caller. `publisher`: what other projects have."""

    def __init__(
        self,
        site: Site,
        store: FdStore,
        thread: NetlinkThread,
        wiring: Wiring,
        nursery: trio.Nursery,
        names: ProjectNames,
        networks: ProjectNetworks,
        endpoints: Mapping[ContainerId, tuple[Endpoint, ...]],
        publisher: Publisher | None = None,
    ) -> None:
        self._publisher = publisher
        self._site = site
        self._store = store
        self._thread = thread
        self._wiring = wiring
        self._nursery = nursery
        self._names = names
        self._networks = networks
        self._endpoints = endpoints
        self._connected: dict[ContainerId, _Connected] = {}
        self._taken: dict[ContainerId, list[ports.Reservation]] = {}
        self._published: dict[ContainerId, tuple[Published, ...]] = {}
        self._leaving: list[Withdrawal] = []
        self._leaving_lock = trio.Lock()

    def close(self) -> None:
        """The supervisor ends, the containers go on: sockets are closed here, and live on in the store."""
        for connected in self._connected.values():
            connected.stop()
            connected.let_go()
        for container in list(self._taken):
            self._free_ports(container)

    def remember(self, container: ContainerId, published: Sequence[Published]) -> None:
        """Host ports that `container` gets again if it can, and others only if nothing else is free."""
        if published:
            self._published[container] = tuple(published)

    def forget(self, container: ContainerId) -> None:
        self._published.pop(container, None)

    async def attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
    ) -> tuple[Published, ...]:
        """See `Networking.attach`."""
        if endpoints and all(endpoint.outer for endpoint in endpoints):
            mappings = ()  # They have addresses of their own outside; the stack was warned when it was read.
        wanted = (tuple(endpoints), self._bound(endpoints, mappings))
        current = self._connected.get(container)
        if current is not None and (current.endpoints, current.mappings) != wanted:
            await self.detach(container)
            current = None
        pairs = [self._pair(container, endpoint, hairpin=bool(mappings)) for endpoint in endpoints]
        if current is not None:
            await self._connect(container, netns_fd, pairs, current)
            return current.published
        reservations = await self._reserve_ports(container, *wanted, keep)
        connected = _Connected(
            *wanted, reservations, Withdrawal((), _translations(endpoints, reservations)), [], [], trio.CancelScope()
        )
        connected.unread += _unread(connected)
        await self._connect(container, netns_fd, pairs, connected)
        self._connected[container] = connected
        self.remember(container, connected.published)
        if connected.listeners or connected.unread:
            self._nursery.start_soon(_serve, connected)
        return connected.published

    async def _connect(
        self, container: ContainerId, netns_fd: int, pairs: Sequence[Plug], connected: _Connected
    ) -> None:
        """Make the interfaces, the mappings and the names; what fails or is cancelled leaves nothing behind."""
        translations = connected.withdrawal.translations
        try:
            if not connected.listeners:
                _listen(connected.reservations, connected.listeners)
            veths = await self._thread.run(self._wiring.connect, netns_fd, pairs, translations)
        except BaseException as exc:
            await self._abandon(container, connected, pairs)
            if isinstance(exc, OSError):
                raise refused(exc, f'cannot connect container "{container}"') from exc
            raise
        connected.hold(netns_fd)
        children = tuple(endpoint.interface for endpoint in connected.endpoints if endpoint.outer)
        connected.withdrawal = Withdrawal(veths, translations, connected.netns_fd, children)
        self._names.publish(container, connected.endpoints)

    def _pair(self, container: ContainerId, endpoint: Endpoint, hairpin: bool) -> Plug:
        live = self._networks.live.get(endpoint.network)
        assert live is not None, f"network {endpoint.network} was not ensured"
        return plug(live.network, live.link, self._owner(container, endpoint.network), endpoint, hairpin, isolated=True)

    def _bound(self, endpoints: Sequence[Endpoint], mappings: Sequence[PortMapping]) -> tuple[PortMapping, ...]:
        """With the host's address that the network of the default route says, where the port names none."""
        way = ways_out(endpoints, socket.AF_INET) if any(mapping.host_ip is None for mapping in mappings) else None
        live = self._networks.live.get(way[0].network) if way is not None else None
        binding = parse_options(live.network.driver, live.network.options).binding if live is not None else ""
        if not binding:
            return tuple(mappings)
        return tuple(replace(item, host_ip=binding) if item.host_ip is None else item for item in mappings)

    def _owner(self, container: ContainerId, network: NetworkName) -> VethOwner:
        return VethOwner(self._site.key, container, network)

    async def _reserve_ports(
        self,
        container: ContainerId,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
    ) -> list[ports.Reservation]:
        if not mappings:
            return []
        if not endpoints:
            raise OperationError("a container without a network cannot publish ports", place=mappings[0].place)
        preferred = [*keep, *self._published.get(container, ())]
        if any(map(ports.leaves_a_choice, mappings)):
            addresses = [address.ip for endpoint in endpoints for address in endpoint.addresses]
            known = await self._thread.run(self._wiring.published_to, addresses)
            preferred += [Published(t.host_ip, t.host_port, t.target, t.protocol) for t in known]
        kept = await fetch_sockets(self._store, _ports_key(container))
        reservations = ports.reserve(mappings, kept, preferred, self._others(container))
        # At once, so that others who want the same ports meanwhile are told of this container.
        self._taken[container] = reservations
        try:
            fds = [sock.fileno() for reservation in reservations for sock in reservation.sockets]
            await self._store.keep(_ports_key(container), fds)
        except BaseException:
            self._free_ports(container)
            # Shielded: what the store took over must not stay there; the deadline is for the store's process.
            with trio.move_on_after(_UNDO_S, shield=True):
                await self._store.drop(_ports_key(container))
            raise
        return reservations

    def _others(self, container: ContainerId) -> ports.Others:
        held: dict[tuple[str, int], list[ports.Holder]] = {}
        for other, reservations in self._taken.items():
            for taken in reservations if other != container else ():
                holder = ports.Holder(other, taken.addresses, taken.mapping.place)
                held.setdefault((taken.mapping.protocol, taken.host_port), []).append(holder)
        kept = frozenset(
            (item.protocol, item.host_port)
            for other, published in self._published.items()
            if other != container and other not in self._taken
            for item in published
        )
        return ports.Others(held, kept, self._publisher)

    def _free_ports(self, container: ContainerId) -> None:
        for reservation in self._taken.pop(container, ()):
            reservation.close()

    async def _abandon(self, container: ContainerId, connected: _Connected, pairs: Sequence[Plug]) -> None:
        self._connected.pop(container, None)
        connected.stop()
        connected.let_go()
        self._free_ports(container)
        self._names.withdraw(container)
        # Shielded: the kernel's part of this is bounded, and the deadline is for the store's.
        with trio.move_on_after(_UNDO_S, shield=True):
            owners = [pair.owner for pair in pairs if isinstance(pair, VethPair)]
            veths = await self._thread.run(self._wiring.veths_of, owners)
            await self._thread.run(self._wiring.disconnect, [Withdrawal(veths, connected.withdrawal.translations)])
            await self._store.drop(_ports_key(container))

    async def detach(self, container: ContainerId) -> None:
        """See `Networking.detach`."""
        connected = self._connected.pop(container, None)
        self._names.withdraw(container)
        if connected is not None:
            withdrawal = connected.withdrawal
            connected.stop()
            self._free_ports(container)
        else:
            withdrawal = await self._left_by(container)
        try:
            await self._withdraw(withdrawal)
        except OSError as exc:
            raise refused(exc, f'cannot disconnect container "{container}"') from exc
        finally:
            if connected is not None:
                connected.let_go()
            if connected is None or connected.reservations:
                await self._store.drop(_ports_key(container))

    async def _left_by(self, container: ContainerId) -> Withdrawal:
        """What a killed supervisor may have made for `container`, of which there may be no record: so what leads to nobody
        whom we know is taken for it."""
        networks = {e.network for e in self._endpoints.get(container, ())} | self._networks.keys
        owners = [self._owner(container, network) for network in sorted(networks)]
        veths = await self._thread.run(self._wiring.veths_of, owners)
        others = {
            address.ip
            for holder, held in self._endpoints.items()
            if holder != container
            for endpoint in held
            for address in endpoint.addresses
        }
        return Withdrawal(veths, await self._thread.run(self._wiring.published_to_none_of, others))

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


def _ports_key(container: ContainerId) -> str:
    """In the store, which is the project's own."""
    return f"ports/{container}"


def _listen(reservations: Iterable[ports.Reservation], into: list[tuple[trio.socket.SocketType, int]]) -> None:
    for reservation in reservations:
        if reservation.mapping.protocol == "tcp":
            for sock in reservation.sockets:
                into.append((trio.socket.from_stdlib_socket(sock.dup()), reservation.mapping.target))


def _unread(connected: _Connected) -> list[tuple[socket.socket, int]]:
    """The UDP sockets that something may arrive at: those of IPv6 (what is sent to ::1 is never translated), and those of
    ports that the firewall leads nowhere from."""
    translated = {(t.protocol, t.host_ip, t.host_port) for t in connected.withdrawal.translations}
    return [
        (sock, reservation.mapping.target)
        for reservation in connected.reservations
        for sock in reservation.sockets
        if reservation.mapping.protocol == "udp"
        if sock.family == socket.AF_INET6 or ("udp", *sock.getsockname()[:2]) not in translated
    ]


async def _serve(connected: _Connected) -> None:
    """Proxy whatever reaches the sockets of a container's ports."""
    # Who is on internal networks only is reached from this machine alone, as the firewall has it.
    endpoints = _made_here(connected.endpoints)
    local_only = all(endpoint.internal for endpoint in endpoints)
    with connected.serving:
        async with trio.open_nursery() as nursery:
            for listener, target in connected.listeners:
                way_in = _way_in(endpoints, listener.family)
                nursery.start_soon(serve_port, listener, way_in, target, local_only)
            for sock, target in connected.unread:
                way_in = _way_in(endpoints, sock.family)
                nursery.start_soon(serve_datagrams, sock, way_in, target, local_only)


def _made_here(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Those by which ports are published."""
    return tuple(endpoint for endpoint in endpoints if not endpoint.outer)


def _way_in(endpoints: Sequence[Endpoint], family: int) -> str:
    """Where published ports lead: by the network of the default route, or answers would take another way back; to an
    address of `family`, if there is one."""
    for wanted in (family, socket.AF_INET, socket.AF_INET6):
        if (way := ways_out(endpoints, wanted)) is not None:
            return way[1].ip
    found = (a.ip for a in endpoints[0].addresses if not a.is_link_local and family_of(a.ip) == family)
    return next(found, endpoints[0].addresses[0].ip)


def _translations(endpoints: Sequence[Endpoint], reservations: Iterable[ports.Reservation]) -> tuple[Translation, ...]:
    """What the firewall does: where host and container have an address of a family that it translates."""
    endpoints = _made_here(endpoints)
    ways: dict[int, str] = {family: _way_in(endpoints, family) for family in _TRANSLATED} if endpoints else {}
    return tuple(
        Translation(r.mapping.protocol, address, r.host_port, ways[family], r.mapping.target)
        for r in reservations
        for address in r.addresses
        if (family := family_of(address)) in ways and family_of(ways[family]) == family and address != _LOOPBACK_6
    )
