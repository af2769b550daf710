"""Containers on their networks: attached, published, answered for, and taken off again.

This object decides, on the event loop; the netlink thread does (`wiring`). What `detach` undoes is in `_connected` and, of
the host's ports, in `host_ports`; what a supervisor that died has left is looked up in the kernel.

A container is *rewired* while it runs. The unit is the pair, or the child that has no end on the host: one whose addresses,
MAC and name inside are still right is not touched at all; any other is deleted and made anew, so that there is no state in
between that nobody would recognise. Ports that stay keep their sockets and proxies. Attaching and detaching wait meanwhile:
they may come from another task.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count

import trio

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ContainerId, NetworkName, bridge_mark
from orchestrator.model.network import PortMapping
from orchestrator.model.network_options import parse_options
from orchestrator.network.attach import Plug, pairs_of, plug
from orchestrator.network.bridge import refused
from orchestrator.network.connected import Connected, ends_of
from orchestrator.network.endpoints import ways_out
from orchestrator.network.fdstore import FdStore
from orchestrator.network.host_ports import HostPorts
from orchestrator.network.names import ProjectNames
from orchestrator.network.networks import ProjectNetworks
from orchestrator.network.open_connections import open_connections
from orchestrator.network.port_owner import Publisher
from orchestrator.network.ports import Reservation
from orchestrator.network.publishing import Serving, translations_to, ways_in
from orchestrator.network.succession import Party, Succession
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.veths import VethOwner
from orchestrator.network.wiring import Interface, Wiring, Withdrawal, interfaces_of_children
from orchestrator.values import replace

_UNDO_S = 30.0


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
        self._site = site
        self._thread = thread
        self._wiring = wiring
        self._nursery = nursery
        self._names = names
        self._networks = networks
        self._endpoints = endpoints
        self._connected: dict[ContainerId, Connected] = {}
        self._ports = HostPorts(store, thread, wiring, publisher)
        self._succession = Succession(thread, wiring, self._ports, names)
        self._rewiring: dict[ContainerId, trio.Event] = {}
        self._made = count(1)
        self._leaving: list[Withdrawal] = []
        self._leaving_lock = trio.Lock()

    def close(self) -> None:
        """The supervisor ends, the containers go on: sockets are closed here, and live on in the store."""
        for connected in self._connected.values():
            connected.stop()
            connected.let_go()
        self._ports.close()

    def remember(self, container: ContainerId, published: Sequence[Published]) -> None:
        """See `HostPorts.remember`."""
        self._ports.remember(container, published)

    def forget(self, container: ContainerId) -> None:
        self._ports.forget(container)

    async def attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        guarded: bool,
    ) -> tuple[Published, ...]:
        """See `Networking.attach`."""
        await self._rewired(container)
        return await self._attach(container, netns_fd, endpoints, mappings, keep, guarded)

    async def _attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        guarded: bool,
    ) -> tuple[Published, ...]:
        wanted = (tuple(endpoints), self._bound(endpoints, mappings))
        current = self._connected.get(container)
        if current is not None and (current.endpoints, current.mappings) != wanted:
            await self._detach(container)
            current = None
        plugs = [self._plug(container, endpoint, bool(mappings), guarded) for endpoint in endpoints]
        if current is not None:
            await self._connect(container, netns_fd, plugs, current)
            return current.published
        _require_network(*wanted)
        reservations = await self._ports.reserve(container, _own_addresses(endpoints), wanted[1], keep)
        withdrawal = Withdrawal((), translations_to(endpoints, reservations))
        connected = Connected(netns_fd, *wanted, reservations, withdrawal, [], {})
        self._number(connected, [endpoint.network for endpoint in endpoints])
        await self._connect(container, netns_fd, plugs, connected)
        self._connected[container] = connected
        self.remember(container, connected.published)
        for serving in connected.servings:
            self._nursery.start_soon(serving.serve)
        return connected.published

    async def rewire(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        guarded: bool,
        follow: Callable[[], Awaitable[None]],
    ) -> tuple[Published, ...]:
        """See `Networking.rewire`. `follow`: what else is brought to its interfaces, and may be refused."""
        await self._rewired(container)
        done = self._rewiring[container] = trio.Event()
        try:
            current = self._connected.get(container)
            if current is None:
                return await self._take_over(container, netns_fd, endpoints, mappings, keep, guarded, follow)
            await self._change(container, netns_fd, current, endpoints, mappings, keep, guarded, follow)
            return current.published
        except OSError as exc:
            raise refused(exc, f'cannot reconnect container "{container}"') from exc
        finally:
            del self._rewiring[container]
            done.set()

    async def _rewired(self, container: ContainerId) -> None:
        """Until nobody rewires it."""
        while (done := self._rewiring.get(container)) is not None:
            await done.wait()

    async def _take_over(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        guarded: bool,
        follow: Callable[[], Awaitable[None]],
    ) -> tuple[Published, ...]:
        """A supervisor that died may have been in the middle: what the kernel has of the container and is not as it should
        be goes, the rest is taken over."""
        left = await self._left_by(container)
        plugs = [self._plug(container, endpoint, bool(mappings), guarded) for endpoint in endpoints]
        right = await self._thread.run(self._wiring.standing, netns_fd, plugs)
        await self._withdraw(Withdrawal(tuple(name for name in left.veths if name not in right.veths), ()))
        await self._thread.run(self._wiring.unplug, netns_fd, right.strays)
        published = await self._attach(container, netns_fd, endpoints, mappings, keep, guarded)
        now = self._connected[container].withdrawal.translations
        await self._thread.run(self._wiring.publish, now, left.translations, _own_addresses(endpoints))
        try:
            await follow()
        except BaseException:
            with trio.move_on_after(_UNDO_S, shield=True):
                await self._detach(container)
            raise
        return published

    async def _change(
        self,
        container: ContainerId,
        netns_fd: int,
        current: Connected,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        guarded: bool,
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        before = current.endpoints, current.mappings, current.published
        try:
            bound = self._bound(endpoints, mappings)
            await self._bring(container, netns_fd, current, tuple(endpoints), bound, keep, guarded)
            await follow()
        except BaseException as exc:
            # Shielded: half of each is of no use to anybody. The kernel's part of it is bounded; the store has this long.
            with trio.move_on_after(_UNDO_S, shield=True):
                try:
                    await self._bring(container, netns_fd, current, *before, guarded)
                    await follow()
                except (OSError, PystackError) as left:
                    raise OperationError(
                        f'{exc}; and container "{container}" cannot be put back on its networks as it was: {left}',
                        hint="`pystack up --force-recreate` makes it anew",
                    ) from exc
            raise

    async def _bring(
        self,
        container: ContainerId,
        netns_fd: int,
        current: Connected,
        endpoints: tuple[Endpoint, ...],
        mappings: tuple[PortMapping, ...],
        keep: Sequence[Published],
        guarded: bool,
    ) -> None:
        """Make `current` so. When it raises, `current` says what may be there by now, and can be brought back."""

        def withdraw(reservation: Reservation) -> None:
            for serving in current.servings:
                serving.withdraw(reservation)

        _require_network(endpoints, mappings)
        own = _own_addresses(endpoints)
        reservations = await self._ports.exchange(container, own, mappings, keep, withdraw)
        changed = {content[0] for content in {*map(_content_of, current.endpoints)} ^ {*map(_content_of, endpoints)}}
        children = interfaces_of_children(e for e in (*current.endpoints, *endpoints) if e.network in changed)
        stale, translations = current.withdrawal, translations_to(endpoints, reservations)
        plugs = [self._plug(container, endpoint, bool(mappings), guarded) for endpoint in endpoints]
        leaving = [self._owner(container, network) for network in sorted(changed)]
        current.endpoints, current.reservations = endpoints, reservations
        self._number(current, changed)
        current.withdrawal = Withdrawal(stale.veths, tuple({*stale.translations, *translations}))
        current.hold(netns_fd)
        veths = await self._thread.run(self._wiring.rewire, netns_fd, plugs, leaving, children)
        await self._thread.run(self._wiring.publish, translations, stale.translations, own)
        current.mappings, current.withdrawal = mappings, Withdrawal(veths, translations)
        if not interfaces_of_children(endpoints):
            current.let_go()
        self._serve_anew(current)
        self.remember(container, current.published)
        self._names.publish(container, endpoints, ends_of(endpoints, veths))

    async def hand_over(
        self,
        predecessor: ContainerId,
        container: ContainerId,
        endpoints: Sequence[Endpoint],
        mappings: Sequence[PortMapping],
        guarded: bool,
    ) -> tuple[Published, ...]:
        """See `Networking.hand_over`."""
        await self._rewired(predecessor)
        await self._rewired(container)
        before = Party(predecessor, self._connected.get(predecessor))
        after = Party(container, self._connected.get(container))
        bound = self._bound(endpoints, mappings)
        _require_network(endpoints, bound)
        plugs = [self._plug(container, endpoint, bool(mappings), guarded) for endpoint in endpoints]
        serving = await self._succession.hand_over(before, after, tuple(endpoints), bound, plugs)
        self._nursery.start_soon(serving.serve)
        return self._connected[container].published

    async def open_connections(self, netns_fd: int) -> int:
        """See `Networking.open_connections`."""
        return await self._thread.run(open_connections, self._thread, netns_fd)

    def _listen(self, connected: Connected, reservations: Sequence[Reservation]) -> None:
        serving = Serving.of(reservations, connected.endpoints)
        if serving.listeners or serving.unread:
            connected.servings.append(serving)

    def _serve_anew(self, connected: Connected) -> None:
        """Proxies for what has none; all of them anew when they lead elsewhere now."""
        ways = ways_in(connected.endpoints)
        if any(serving.ways != ways for serving in connected.servings):
            connected.stop()
        served = {sock for serving in connected.servings for sock in (*serving.listeners, *serving.unread)}
        before = len(connected.servings)
        self._listen(connected, [item for item in connected.reservations if served.isdisjoint(item.sockets)])
        for serving in connected.servings[before:]:
            self._nursery.start_soon(serving.serve)

    @property
    def attached(self) -> tuple[ContainerId, ...]:
        return tuple(self._connected)

    def endpoints(self, container: ContainerId) -> tuple[Endpoint, ...]:
        """Those of one that is attached, else none."""
        connected = self._connected.get(container)
        return connected.endpoints if connected is not None else ()

    def interfaces(self, container: ContainerId) -> tuple[Interface, ...]:
        """Those of one that is attached which have an end on the host, else none."""
        connected = self._connected.get(container)
        if connected is None:
            return ()
        fd, numbers = connected.netns_fd, connected.numbers
        # One that was begun has no veths yet.
        pairs = zip(connected.endpoints, ends_of(connected.endpoints, connected.withdrawal.veths), strict=True)
        return tuple(Interface(fd, end.interface, veth, numbers[end.network]) for end, veth in pairs if veth)

    def _number(self, connected: Connected, networks: Iterable[NetworkName]) -> None:
        """The interfaces on these are others from now on."""
        connected.numbers |= {network: next(self._made) for network in networks}

    async def _connect(
        self, container: ContainerId, netns_fd: int, plugs: Sequence[Plug], connected: Connected
    ) -> None:
        """Make the interfaces, the mappings and the names; what fails or is cancelled leaves nothing behind."""
        translations = connected.withdrawal.translations
        try:
            connected.hold(netns_fd)
            if not connected.servings:
                self._listen(connected, connected.reservations)
            veths = await self._thread.run(self._wiring.connect, netns_fd, plugs, translations)
        except BaseException as exc:
            await self._abandon(container, connected, plugs)
            if isinstance(exc, OSError):
                raise refused(exc, f'cannot connect container "{container}"') from exc
            raise
        connected.withdrawal = Withdrawal(veths, translations)
        self._names.publish(container, connected.endpoints, ends_of(connected.endpoints, veths))

    def _plug(self, container: ContainerId, endpoint: Endpoint, hairpin: bool, guarded: bool) -> Plug:
        live = self._networks.live.get(endpoint.network)
        assert live is not None, f"network {endpoint.network} was not ensured"
        owner = self._owner(container, endpoint.network)
        mark = bridge_mark(self._site.key) if live.network.external else ""
        return plug(
            live.network, live.link, owner, endpoint, hairpin=hairpin, isolated=True, guarded=guarded, mark=mark
        )

    def _bound(self, endpoints: Sequence[Endpoint], mappings: Sequence[PortMapping]) -> tuple[PortMapping, ...]:
        """With the host's address that the network of the default route says, where the port names none. None on networks
        only that this machine does not make: it has addresses of its own there; the stack was warned when it was read."""
        if endpoints and all(endpoint.outer for endpoint in endpoints):
            return ()
        way = ways_out(endpoints, socket.AF_INET) if any(mapping.host_ip is None for mapping in mappings) else None
        live = self._networks.live.get(way[0].network) if way is not None else None
        binding = parse_options(live.network.driver, live.network.options).binding if live is not None else ""
        if not binding:
            return tuple(mappings)
        return tuple(replace(item, host_ip=binding) if item.host_ip is None else item for item in mappings)

    def _owner(self, container: ContainerId, network: NetworkName) -> VethOwner:
        return VethOwner(self._site.key, container, network)

    async def _abandon(self, container: ContainerId, connected: Connected, plugs: Sequence[Plug]) -> None:
        self._connected.pop(container, None)
        connected.stop()
        connected.let_go()
        self._ports.free(container)
        self._names.withdraw(container)
        # Shielded: the kernel's part of this is bounded, and the deadline is for the store's.
        with trio.move_on_after(_UNDO_S, shield=True):
            veths = await self._thread.run(self._wiring.veths_of, [pair.owner for pair in pairs_of(plugs)])
            await self._thread.run(self._wiring.disconnect, [Withdrawal(veths, connected.withdrawal.translations)])
            await self._ports.drop(container)

    async def detach(self, container: ContainerId) -> None:
        """See `Networking.detach`."""
        await self._rewired(container)
        await self._detach(container)

    async def _detach(self, container: ContainerId) -> None:
        connected = self._connected.pop(container, None)
        self._names.withdraw(container)
        if connected is not None:
            withdrawal = connected.withdrawal
            connected.stop()
            self._ports.free(container)
        else:
            withdrawal = await self._left_by(container)
        try:
            try:
                if connected is not None and connected.kept_fd >= 0:
                    children = interfaces_of_children(connected.endpoints)
                    await self._thread.run(self._wiring.unplug, connected.kept_fd, children)
            finally:
                await self._withdraw(withdrawal)
        except OSError as exc:
            raise refused(exc, f'cannot disconnect container "{container}"') from exc
        finally:
            if connected is not None:
                connected.let_go()
            if connected is None or connected.reservations:
                await self._ports.drop(container)

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


def _content_of(endpoint: Endpoint) -> tuple[NetworkName, object]:
    """What a pair or child is made from: with anything else of it, the endpoint's network has another one."""
    return endpoint.network, (endpoint.addresses, endpoint.mac, endpoint.interface)


def _own_addresses(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    return frozenset(address.ip for endpoint in endpoints for address in endpoint.addresses)


def _require_network(endpoints: Sequence[Endpoint], mappings: Sequence[PortMapping]) -> None:
    if mappings and not endpoints:
        raise OperationError("a container without a network cannot publish ports", place=mappings[0].place)
