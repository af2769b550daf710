"""The networks of a project: subnet, bridge, rules and DNS server of each (docs/networking.md).

Where the kernel has something already, it is adopted: a bridge by its name and address, the maps by reading them, DNS
sockets from the store. A network's name server stays where its record says, as long as the record is there: containers that
run were told.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_address, ip_network

import trio

from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import ContainerId, NetworkName, bridge_mark, bridge_name
from orchestrator.model.network import Network
from orchestrator.model.network_options import NetworkOptions, parse_options
from orchestrator.model.subnets import AddressRange, parse_range
from orchestrator.network import resolver
from orchestrator.network.addressing import (
    AddressBooks,
    Occupied,
    check_free,
    choose_range,
    choose_server,
    family_of,
    in_the_way,
    written_range,
)
from orchestrator.network.bridge import SubnetLock, has_ipv6, refused
from orchestrator.network.fdstore import FdStore
from orchestrator.network.firewall import Bridge, Translation
from orchestrator.network.name_servers import NameServers
from orchestrator.network.names import ProjectNames
from orchestrator.network.record import Recorded, SubnetRecord
from orchestrator.network.resolver import Resolver
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.upstream import Upstream
from orchestrator.network.veths import VethOwner, is_of_a_container
from orchestrator.network.wiring import Wiring
from orchestrator.network.zones import Zone
from orchestrator.values import entity

_LOCK_S = 2.0
_LOCK_RETRY_S = 0.02
_UNDO_S = 30.0
_FAMILIES: dict[int, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_SPARE_NAMES = 16
"""More tries than there are other networks, because tries may hash alike too."""


@entity
class LiveNetwork:
    """A network that exists."""

    network: Network
    books: AddressBooks
    link: Link
    resolver: Resolver | None
    dns: tuple[Translation, ...]

    @property
    def bridge(self) -> str:
        """"": it has none, and `link` is the host's interface that it is on."""
        return self.link.name if _is_bridged(self.network) else ""

    @property
    def recorded(self) -> Recorded:
        return _recorded(self.books.ranges, self.network, self.bridge, self.books.resolver)


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
        self._thread = thread
        self._wiring = wiring
        self._nursery = nursery
        self._names = names
        self._endpoints = endpoints
        self._record = SubnetRecord(site.data_dir)
        self._upstream = upstream
        self._servers = NameServers(site, store, thread, wiring)
        self._lock = trio.Lock()
        self._warnings: list[str] = []
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
            if live.resolver is not None:
                live.resolver.close()
        self._servers.close()

    def reserve_written(self, written: Mapping[NetworkName, Collection[str]]) -> None:
        """See `Networking.reserve_written`."""
        self._written = {key: frozenset(addresses) for key, addresses in written.items()}
        for key, live in self.live.items():
            live.books.set_written(self._written.get(key, frozenset()))

    async def ensure(self, networks: Sequence[Network]) -> tuple[str, ...]:
        """See `Networking.ensure`."""
        async with self._lock:
            self._warnings = []
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
            return tuple(self._warnings)

    async def _undo(self, begun: Sequence[NetworkName]) -> None:
        # Shielded, so that a cancelled `up` leaves nothing; bounded, since the kernel's part is.
        with trio.move_on_after(_UNDO_S, shield=True):
            for key in begun:
                await self._unmake(key)

    async def _make(self, network: Network, begun: list[NetworkName]) -> None:
        """`begun`: gets the network if it did not exist before, so that a failure can undo it."""
        key, bridged = network.key, _is_bridged(network)
        parent = await self._parent_of(network) if not bridged else None
        name = self._name_for(network) if parent is None else parent.name
        if network.ipv6 and not has_ipv6():
            raise HostError(
                f"network {key}: this kernel has no IPv6",
                hint="boot it without ipv6.disable=1, or leave out enable_ipv6",
                place=f"networks.{key}.enable_ipv6",
            )
        if name == _options(network).bridge != "" and key not in self._record.networks:
            await self._check_unused(key, name)
        lock = await self._thread.run(SubnetLock)
        try:
            await self._take(lock)
            existing = await self._thread.run(self._wiring.links.find, name) if bridged else None
            ranges = await self._ranges_for(network, existing, name)
            if existing is None and (bridged or key not in self._record.networks):
                begun.append(key)
            server = self._server_for(network, ranges, existing is not None)
            self._record.set(key, _recorded(ranges, network, name if bridged else "", server))
            link = parent or await self._make_bridge(network, name, ranges)
        finally:
            lock.close()
        books = AddressBooks.of(key, ranges, self._written.get(key, frozenset()), server)
        for book in books.books:
            book.routed = bridged or any(item.gateway and parse_range(item) == book.subnet for item in network.subnets)
        for container, endpoint in self._held(key):
            books.hold(container, endpoint.addresses)
        zone = self._open_zone(network, ranges)
        if not bridged and not server:
            self.live[key] = LiveNetwork(network, books, link, None, ())
            return
        sockets = await self._servers.open(network, link, ranges[0], server)
        answering = Resolver(self._names, zone, self._upstream, sockets)
        translations = () if server else _dns_translations(ranges, answering)
        self.live[key] = LiveNetwork(network, books, link, answering, translations)
        self._nursery.start_soon(answering.serve)

    async def _make_bridge(self, network: Network, name: str, ranges: Sequence[AddressRange]) -> Link:
        make, mark = self._wiring.links.make_bridge, bridge_mark(self._site.key) if _options(network).bridge else ""
        return await self._thread.run(make, name, ranges, _options(network), mark)

    async def _parent_of(self, network: Network) -> Link:
        name = _options(network).parent
        found = await self._thread.run(self._wiring.links.find, name)
        if found is None:
            raise OperationError(
                f'this machine has no interface "{name}"',
                hint="`ip link` shows those that there are",
                place=f"networks.{network.key}.driver_opts.parent",
            )
        return found

    def _server_for(self, network: Network, ranges: Sequence[AddressRange], exists: bool) -> str:
        """The name server's address; "": the gateway's, or nobody's where it would not be reached."""
        key, outer = network.key, not _is_bridged(network)
        if _options(network).is_private:
            return ""
        recorded, held = self._record.networks.get(key), self._held(key)
        written = self._written.get(key, frozenset())
        if recorded is not None and recorded.ranges == tuple(ranges) and (exists or recorded.resolver not in written):
            return recorded.resolver
        if exists and recorded is None and held:
            return held[0][1].resolver
        return choose_server(ranges[0], {a.ip for _, end in held for a in end.addresses} | written, outer)

    async def _refresh(self, live: LiveNetwork, network: Network) -> None:
        before = live.network
        ranges = live.books.ranges
        if _shape(before) != _shape(network):
            raise _changed(network.key, ranges, network)
        live.network = network
        self._record.set(network.key, live.recorded)
        self._open_zone(network, ranges)
        if live.bridge:
            live.link = await self._make_bridge(network, live.bridge, ranges)

    def _name_for(self, network: Network) -> str:
        recorded = self._record.networks.get(network.key)
        return _options(network).bridge or (recorded.bridge if recorded else "") or self._bridge_name(network.key)

    async def _check_unused(self, key: NetworkName, name: str) -> None:
        """That the name which the stack gives to a bridge is nobody's."""
        found = await self._thread.run(self._wiring.links.find, name)
        if found is not None and found.alias != bridge_mark(self._site.key):
            raise OperationError(
                f'this machine has an interface "{name}" already',
                hint="choose another name, or leave it out",
                place=f"networks.{key}.driver_opts.com.docker.network.bridge.name",
            )

    def _open_zone(self, network: Network, ranges: Sequence[AddressRange]) -> Zone:
        return self._names.open_zone(network.key, [item.network for item in ranges], network.internal, network.full_name)

    async def _take(self, lock: SubnetLock) -> None:
        """For a moment at most: any local user can hold this lock, and then it goes without. Two supervisors would have to
        choose the same of 800 subnets within milliseconds for it to matter. flock(2) has no deadline, hence the retries."""
        with trio.move_on_after(_LOCK_S):
            while not lock.try_lock():  # noqa: ASYNC110
                await trio.sleep(_LOCK_RETRY_S)

    def _held(self, key: NetworkName) -> list[tuple[ContainerId, Endpoint]]:
        return [(c, e) for c, endpoints in self._endpoints.items() for e in endpoints if e.network == key]

    async def _ranges_for(self, network: Network, existing: Link | None, bridge: str) -> tuple[AddressRange, ...]:
        """IPv4 first."""
        occupied = await self._thread.run(self._wiring.links.occupied, [bridge])
        busy = existing is not None and any(map(is_of_a_container, await self._ports_of(existing)))
        found = await self._thread.run(self._wiring.links.addresses, existing) if existing is not None else []
        every = [written_range(network.key, number, item) for number, item in enumerate(network.subnets)]
        written = {item.version: item for item in every}
        return tuple(
            self._range_for(network, version, occupied, written.get(version), found, busy)
            for version, wanted in ((4, network.ipv4), (6, network.ipv6))
            if wanted
        )

    def _range_for(
        self,
        network: Network,
        version: int,
        occupied: Sequence[Occupied],
        written: AddressRange | None,
        found: Sequence[tuple[str, int]],
        busy: bool,
    ) -> AddressRange:
        """`found`: addresses that the bridge has, () when there is no bridge. `busy`: something is attached to it."""
        key = network.key
        known = self._record.networks[key].ranges if key in self._record.networks else ()
        recorded = next((item for item in known if item.version == version), None)
        if written is not None:
            if recorded is not None and recorded != written and busy:
                raise _changed(key, known, network)
            if not found:
                check_free(key, written, occupied)
            return written
        family = _FAMILIES[version]
        on_bridge = [(ip, prefix) for ip, prefix in found if family_of(ip) == family]
        held = [a for _, end in self._held(key) for a in end.addresses if a.gateway and family_of(a.ip) == family]
        if recorded is not None and not recorded.chosen:
            # After a reboot something may be in the way. Then it is no use to insist, and to refuse would block `down` too.
            if on_bridge or in_the_way(recorded.network, occupied) is None:
                return recorded
        elif held:
            subnet = ip_network((held[0].ip, held[0].prefix), strict=False)
            return AddressRange(subnet, ip_address(held[0].gateway))
        elif recorded is not None and busy:
            raise _changed(key, known, network)
        elif on_bridge:
            gateway, prefix = on_bridge[0]
            return AddressRange(ip_network((gateway, prefix), strict=False), ip_address(gateway))
        chosen, cover = choose_range(self._site.key, key, version, occupied)
        if cover is not None:
            self._warnings.append(
                f"network {key} is {chosen.network}, a part of the route to {cover}: all ranges that networks are chosen "
                f"from are behind such routes, so hosts there with these addresses cannot be reached from this machine"
            )
        return chosen

    async def _apply_rules(self) -> None:
        """Rules for all networks of the project: also for those that are recorded, but not asked for this time."""
        networks = dict(self._record.networks) | {key: live.recorded for key, live in self.live.items()}
        bridged = {key: item for key, item in networks.items() if _is_bridged(item)}
        bridges = [rule for key, item in bridged.items() for rule in _bridges(self._bridge_name(key), item)]
        await self._thread.run(self._wiring.set_bridges, bridges)
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
        item = live.network if live is not None else self._record.networks.get(key)
        if live is not None and live.resolver is not None:
            live.resolver.close()
            await self._thread.run(self._wiring.firewall.discard, live.dns)
        await self._servers.forget(key, item is None or _is_bridged(item))
        self._names.close_zone(key)
        bridge = await self._thread.run(self._wiring.links.find, self._bridge_name(key))
        if bridge is not None:
            left = [link.name for link in await self._ports_of(bridge)]
            await self._thread.run(self._wiring.links.delete, [*left, bridge.name])
        self._record.forget(key)
        if not self._record.networks and not self.live:
            await self._servers.remove()

    async def _ports_of(self, bridge: Link) -> list[Link]:
        """The links in the bridge, as the kernel has them."""
        return await self._thread.run(self._wiring.links.ports, bridge)

    async def _attached_to(self, key: NetworkName) -> list[ContainerId]:
        """Containers we know of whose veth is in the network's bridge, counted from the kernel."""
        item = self._record.networks.get(key)
        if item is not None and not _is_bridged(item):
            return sorted(container for container, _ in self._held(key))
        bridge = await self._thread.run(self._wiring.links.find, self._bridge_name(key))
        if bridge is None:
            return []
        present = {link.name: link for link in await self._ports_of(bridge)}
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


def _dns_translations(ranges: Sequence[AddressRange], server: Resolver) -> tuple[Translation, ...]:
    """Containers may publish port 53 on all addresses: questions to the bridge go to the server all the same."""
    gateway = str(ranges[0].gateway)
    return tuple(
        Translation(protocol, gateway, resolver.DNS_PORT, gateway, int(sock.getsockname()[1]))
        for protocol, sock in zip(("udp", "tcp"), server.sockets, strict=True)
    )


def _recorded(ranges: Sequence[AddressRange], network: Network, bridge: str, server: str) -> Recorded:
    return Recorded(tuple(ranges), network.internal, bridge, network.driver, network.options, server)


def _options(item: Network | Recorded) -> NetworkOptions:
    return parse_options(item.driver, item.options)


def _is_bridged(item: Network | Recorded) -> bool:
    return item.driver == "bridge"


def _bridges(name: str, item: Recorded) -> list[Bridge]:
    """What the rules of each family need to know of a network."""
    options, found = _options(item), []
    for version, family in _FAMILIES.items():
        subnet = next((each.network for each in item.ranges if each.version == version), None)
        if subnet is None:
            found.append(Bridge(name, "", 0, item.internal, family))
            continue
        masquerade = options.masquerade if version == 4 else options.masquerade6
        start = str(subnet.network_address)
        server = item.resolver if item.resolver and family_of(item.resolver) == family else ""
        found.append(Bridge(name, start, subnet.prefixlen, item.internal, family, masquerade, options.icc, server))
    return found


def _shape(network: Network) -> tuple[object, ...]:
    """What a network that exists cannot have changed."""
    return network.subnets, network.ipv4, network.ipv6, network.driver, network.options


def _changed(key: NetworkName, now: Sequence[AddressRange], network: Network) -> OperationError:
    wanted = " and ".join(
        item.subnet + (f", gateway {item.gateway}" if item.gateway else "") for item in network.subnets
    )
    is_now = " and ".join(f"{item.network}, gateway {item.gateway}" for item in now)
    return OperationError(
        f"networks.{key}: the network is {is_now}, and the stack now wants {wanted or 'one from the pool'}",
        hint="take the project down first; running containers cannot change their network",
    )
