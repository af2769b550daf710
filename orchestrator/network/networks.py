"""The networks of a project: subnet, bridge, rules and DNS server of each (docs/networking.md).

Where the kernel has something already, it is adopted: a bridge by its name and address, the maps by reading them, DNS
sockets from the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

import trio

from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.errors import OperationError
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import ContainerId, NetworkName, bridge_name
from orchestrator.model.network import Network
from orchestrator.network import resolver
from orchestrator.network.addressing import AddressBook, Ipv4Subnet, choose_subnet, explicit_subnet
from orchestrator.network.bridge import HostNetwork, SubnetLock, refused
from orchestrator.network.fdstore import FdStore, fetch_sockets
from orchestrator.network.firewall import Bridge, Translation
from orchestrator.network.names import ProjectNames
from orchestrator.network.record import Recorded, SubnetRecord
from orchestrator.network.resolver import Resolver
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.upstream import Upstream
from orchestrator.network.veths import VethOwner
from orchestrator.network.wiring import Wiring
from orchestrator.values import entity

_LOCK_S = 2.0
_LOCK_RETRY_S = 0.02
_UNDO_S = 30.0
_SPARE_NAMES = 16
"""More tries than there are other networks, because tries may hash alike too."""


@entity
class LiveNetwork:
    """A network that exists."""

    network: Network
    book: AddressBook
    link: Link
    resolver: Resolver
    dns: tuple[Translation, ...]


class ProjectNetworks:
    """`endpoints`: who has which addresses, kept by the caller; read for adoption, and to refuse removal."""

    def __init__(
        self,
        site: Site,
        store: FdStore,
        thread: NetlinkThread,
        wiring: Wiring,
        nursery: trio.Nursery,
        upstream: Upstream,
        names: ProjectNames,
        endpoints: Mapping[ContainerId, tuple[Endpoint, ...]],
    ) -> None:
        self._site = site
        self._store = store
        self._thread = thread
        self._wiring = wiring
        self._nursery = nursery
        self._names = names
        self._endpoints = endpoints
        self._record = SubnetRecord(site.data_dir)
        self._upstream = upstream
        self._lock = trio.Lock()
        self._written: dict[NetworkName, frozenset[str]] = {}
        self.live: dict[NetworkName, LiveNetwork] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What of the record was found damaged."""
        return self._record.findings

    @property
    def keys(self) -> set[NetworkName]:
        """All networks that exist or may exist."""
        return set(self.live) | set(self._record.networks)

    def close(self) -> None:
        """Close our ends of the DNS sockets; what the store keeps, waits for the next supervisor."""
        for live in self.live.values():
            live.resolver.close()

    def reserve_written(self, written: Mapping[NetworkName, Collection[str]]) -> None:
        """See `Networking.reserve_written`."""
        self._written = {key: frozenset(addresses) for key, addresses in written.items()}
        for key, live in self.live.items():
            live.book.written = self._written.get(key, frozenset())

    async def ensure(self, networks: Sequence[Network]) -> None:
        """See `Networking.ensure`."""
        async with self._lock:
            begun: list[NetworkName] = []
            try:
                for network in networks:
                    live = self.live.get(network.key)
                    if live is None:
                        await self._make(network, begun)
                    else:
                        await self._refresh(live, network)
                await self._apply_rules()
            except OSError as exc:
                await self._undo(begun)
                raise refused(exc, "cannot make the project's networks") from exc
            except BaseException:
                await self._undo(begun)
                raise

    async def _undo(self, begun: Sequence[NetworkName]) -> None:
        # Shielded, so that a cancelled `up` leaves nothing; bounded, since the kernel's part is.
        with trio.move_on_after(_UNDO_S, shield=True):
            for key in begun:
                await self._unmake(key)

    async def _make(self, network: Network, begun: list[NetworkName]) -> None:
        """`begun`: gets the network if it did not exist before, so that a failure can undo it."""
        key, name = network.key, self._bridge_name(network.key)
        lock = await self._thread.run(SubnetLock)
        try:
            await self._take(lock)
            existing = await self._thread.run(self._wiring.links.find, name)
            subnet = await self._subnet_for(network, existing, name)
            if existing is None:
                begun.append(key)
            self._record.set(key, Recorded(subnet, network.internal, name))
            link = await self._thread.run(self._wiring.links.make_bridge, name, subnet)
        finally:
            lock.close()
        book = AddressBook(key, subnet, self._written.get(key, frozenset()))
        for container, endpoint in self._held(key):
            book.hold(container, endpoint.addresses[0].ip)
        server = await self._open_resolver(network, subnet)
        self.live[key] = LiveNetwork(network, book, link, server, _dns_translations(subnet, server))
        self._nursery.start_soon(server.serve)

    async def _open_resolver(self, network: Network, subnet: Ipv4Subnet) -> Resolver:
        gateway, store_key = str(subnet.gateway), f"dns/{network.key}"
        sockets = resolver.usable(await fetch_sockets(self._store, store_key), gateway)
        if sockets is None:
            sockets = resolver.open_sockets(gateway)
            try:
                await self._store.keep(store_key, [sock.fileno() for sock in sockets])
            except BaseException:
                for sock in sockets:
                    sock.close()
                raise
        zone = self._names.open_zone(network.key, [subnet.network], network.internal, network.full_name)
        return Resolver(self._names, zone, self._upstream, sockets)

    async def _refresh(self, live: LiveNetwork, network: Network) -> None:
        before = live.network
        if before.subnets != network.subnets:
            raise _changed(network.key, live.book.subnet, network)
        self._record.set(network.key, Recorded(live.book.subnet, network.internal, live.link.name))
        live.network = network
        self._names.open_zone(network.key, [live.book.subnet.network], network.internal, network.full_name)
        live.link = await self._thread.run(self._wiring.links.make_bridge, live.link.name, live.book.subnet)

    async def _take(self, lock: SubnetLock) -> None:
        """For a moment at most: any local user can hold this lock, and then it goes without. Two supervisors would have to
        choose the same of 800 subnets within milliseconds for it to matter. flock(2) has no deadline, hence the retries."""
        with trio.move_on_after(_LOCK_S):
            while not lock.try_lock():  # noqa: ASYNC110
                await trio.sleep(_LOCK_RETRY_S)

    def _held(self, key: NetworkName) -> list[tuple[ContainerId, Endpoint]]:
        return [(c, e) for c, endpoints in self._endpoints.items() for e in endpoints if e.network == key]

    async def _subnet_for(self, network: Network, existing: Link | None, bridge: str) -> Ipv4Subnet:
        key = network.key
        occupied = await self._thread.run(self._wiring.links.networks, [bridge])
        recorded = self._record.networks.get(key)
        held = [endpoint for _, endpoint in self._held(key)]
        if network.subnets:
            wanted = explicit_subnet(key, network.subnets[0].subnet, network.subnets[0].gateway)
            if existing is None:
                _check_free(key, wanted, occupied)
            elif recorded is not None and recorded.subnet != wanted and await self._ports_of(existing):
                raise _changed(key, recorded.subnet, network)
            return wanted
        if recorded is not None and not recorded.subnet.chosen:
            # After a reboot a VPN may be in the way. Then it is no use to insist, and to refuse would block `down` too.
            if existing is not None or _overlap(recorded.subnet.network, occupied) is None:
                return recorded.subnet
        elif held:
            address = held[0].addresses[0]
            subnet = IPv4Network((address.ip, address.prefix), strict=False)
            return Ipv4Subnet(subnet, IPv4Address(address.gateway))
        elif recorded is not None and existing is not None and await self._ports_of(existing):
            raise _changed(key, recorded.subnet, network)
        elif existing is not None:
            found = await self._thread.run(self._wiring.links.addresses, existing)
            if found:
                gateway, prefix = found[0]
                return Ipv4Subnet(IPv4Network((gateway, prefix), strict=False), IPv4Address(gateway))
        return choose_subnet(self._site.key, key, [item.network for item in occupied])

    async def _apply_rules(self) -> None:
        """Rules for all networks of the project: also for those that are recorded, but not asked for this time."""
        bridges = {
            key: _bridge(self._bridge_name(key), item.subnet, item.internal)
            for key, item in self._record.networks.items()
        }
        for key, live in self.live.items():
            bridges[key] = _bridge(live.link.name, live.book.subnet, live.network.internal)
        await self._thread.run(self._wiring.set_bridges, list(bridges.values()))
        await self._thread.run(self._wiring.firewall.add, [t for live in self.live.values() for t in live.dns])

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        """See `Networking.remove`."""
        async with self._lock:
            for key in networks:
                attached = await self._attached_to(key)
                if attached:
                    raise OperationError(
                        f'network "{key}" has containers attached: {", ".join(attached)}',
                        hint="remove the containers first",
                    )
            try:
                for key in networks:
                    await self._unmake(key)
                if not self._record.networks and not self.live:
                    await self._thread.run(self._wiring.firewall.remove)
                elif self.live:
                    await self._apply_rules()
            except OSError as exc:
                raise refused(exc, "cannot remove the project's networks") from exc

    async def _unmake(self, key: NetworkName) -> None:
        live = self.live.pop(key, None)
        if live is not None:
            live.resolver.close()
            await self._thread.run(self._wiring.firewall.discard, live.dns)
        await self._store.drop(f"dns/{key}")
        self._names.close_zone(key)
        bridge = await self._thread.run(self._wiring.links.find, self._bridge_name(key))
        if bridge is not None:
            left = await self._ports_of(bridge)
            await self._thread.run(self._wiring.links.delete, [*left, bridge.name])
        self._record.forget(key)

    async def _ports_of(self, bridge: Link) -> list[str]:
        """The names of the links in the bridge, as the kernel has them."""
        found: list[Link] = await self._thread.run(self._wiring.links.ports, bridge)
        return [link.name for link in found]

    async def _attached_to(self, key: NetworkName) -> list[ContainerId]:
        """Containers we know of whose veth is in the network's bridge, counted from the kernel."""
        bridge = await self._thread.run(self._wiring.links.find, self._bridge_name(key))
        if bridge is None:
            return []
        found: list[Link] = await self._thread.run(self._wiring.links.ports, bridge)
        present = {link.name: link for link in found}
        return sorted(c for c in self._endpoints if _has_veth(VethOwner(self._site.key, c, key), present))

    def _bridge_name(self, key: NetworkName) -> str:
        """As recorded, or else the first that no other network of the project has: 16 bits of hash can meet."""
        recorded = self._record.networks
        if key in recorded and recorded[key].bridge:
            return recorded[key].bridge
        others = {item.bridge or bridge_name(self._site.key, name) for name, item in recorded.items() if name != key}
        names = (bridge_name(self._site.key, key, attempt) for attempt in range(len(others) + 1 + _SPARE_NAMES))
        return next(name for name in names if name not in others)


def _has_veth(owner: VethOwner, present: Mapping[str, Link]) -> bool:
    return any(name in present and owner.owns(present[name]) for name in owner.names())


def _dns_translations(subnet: Ipv4Subnet, server: Resolver) -> tuple[Translation, ...]:
    """Containers may publish port 53 on all addresses: questions to the bridge go to the server all the same."""
    gateway = str(subnet.gateway)
    return tuple(
        Translation(protocol, gateway, resolver.DNS_PORT, gateway, int(sock.getsockname()[1]))
        for protocol, sock in zip(("udp", "tcp"), server.sockets, strict=True)
    )


def _bridge(name: str, subnet: Ipv4Subnet, internal: bool) -> Bridge:
    return Bridge(name, str(subnet.network.network_address), subnet.network.prefixlen, internal)


def _overlap(subnet: IPv4Network, occupied: Iterable[HostNetwork]) -> str | None:
    for item in occupied:
        if subnet.overlaps(item.network):
            return f"{item.network}" + (f" by {item.interface}" if item.interface else "")
    return None


def _check_free(key: NetworkName, wanted: Ipv4Subnet, occupied: Iterable[HostNetwork]) -> None:
    """A subnet from the stack may lie inside a wider route (10.0.0.0/8 by a VPN): its author knows. It may not cover what
    the host reaches by a route as narrow or narrower."""
    narrower = [item for item in occupied if item.network.prefixlen >= wanted.network.prefixlen]
    clash = _overlap(wanted.network, narrower)
    if clash is not None:
        raise OperationError(
            f"networks.{key}.ipam.config[0].subnet: {wanted.network} overlaps {clash} on this host",
            hint="choose another subnet, or leave it out",
        )


def _changed(key: NetworkName, now: Ipv4Subnet, network: Network) -> OperationError:
    wanted = "one from the pool"
    if network.subnets:
        asked = network.subnets[0]
        wanted = asked.subnet + (f", gateway {asked.gateway}" if asked.gateway else "")
    return OperationError(
        f"networks.{key}: the network is {now.network}, gateway {now.gateway}, and the stack now wants {wanted}",
        hint="take the project down first; running containers cannot change their network",
    )
