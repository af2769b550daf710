"""The networks of a project: subnet, bridge, rules and DNS server of each (docs/networking.md).

Where the kernel has something already, it is adopted: a bridge by its name and address, the maps by reading them, DNS
sockets from the store. A network's name server stays where its record says, as long as the record is there: containers that
run were told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network

import trio

from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import ContainerId, NetworkName, bridge_mark, bridge_name
from orchestrator.model.network import Network
from orchestrator.model.subnets import AddressRange, parse_range
from orchestrator.network.addressing import (
    AddressBooks,
    Occupied,
    choose_range,
    choose_server,
    family_of,
    in_the_way,
    written_range,
)
from orchestrator.network.bridge import SubnetLock, has_ipv6, refused
from orchestrator.network.fdstore import FdStore
from orchestrator.network.firewall import Translation
from orchestrator.network.name_servers import NameServers
from orchestrator.network.names import ProjectNames
from orchestrator.network.observing import stop_observing
from orchestrator.network.record import Recorded, SubnetRecord
from orchestrator.network.resolver import Resolver
from orchestrator.network.rules import (
    FAMILIES,
    bridges_of,
    changed_range,
    check_free,
    dns_translations,
    is_bridged,
    options_of,
    record_of,
    shape,
)
from orchestrator.network.shared import SharedNetworks
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.upstream import Upstream
from orchestrator.network.veths import VethOwner, is_of_a_container
from orchestrator.network.wiring import Wiring
from orchestrator.network.zones import Zone
from orchestrator.values import entity

_LOCK_S = 2.0
_LOCK_RETRY_S = 0.02
_UNDO_S = 30.0
_TELL_AGAIN_S = 1.0
_SPARE_NAMES = 16
"""More tries than there are other networks, because tries may hash alike too."""


@entity
class LiveNetwork:
    """A network that exists. `resolver`: reached in the containers alone where the network has no address for it."""

    network: Network
    books: AddressBooks
    link: Link
    resolver: Resolver
    dns: tuple[Translation, ...]

    @property
    def bridge(self) -> str:
        """"": it has none, and `link` is the host's interface that it is on."""
        return self.link.name if is_bridged(self.network) else ""

    @property
    def recorded(self) -> Recorded:
        return record_of(self.books.ranges, self.network, self.bridge, self.books.resolver)


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
        self._shared = SharedNetworks(site, wiring)
        self._names_changed = trio.Event()
        names.on_shared_change = lambda: self._names_changed.set()

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
        with suppress(HostError):
            self._shared.tell(self._names.to_tell())
        for live in self.live.values():
            live.resolver.close()
        self._servers.close()

    async def tell_neighbours(self) -> None:
        """Until cancelled: tell other projects what changes of our names on shared networks."""
        while True:
            await self._names_changed.wait()
            self._names_changed = trio.Event()
            try:
                self._shared.tell(self._names.to_tell())
            except HostError:
                self._names.tell_again()
                await trio.sleep(_TELL_AGAIN_S)

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
                alike = True
                for network in networks:
                    live = self.live.get(network.key)
                    alike = alike and live is not None and network.external
                    if live is None:
                        await self._make(network, begun)
                    else:
                        await self._refresh(live, network)
                if not alike:  # A shared network has rules of its own.
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
        if network.external:
            begun.append(network.key)
            await self._join(network)
            return
        key, bridged = network.key, is_bridged(network)
        if key not in self._record.networks:
            await self._thread.run(self._shared.check_own, network)
        parent = await self._parent_of(network) if not bridged else None
        name = self._name_for(network) if parent is None else parent.name
        if network.ipv6 and not has_ipv6():
            raise HostError(
                f"network {key}: this kernel has no IPv6",
                hint="boot it without ipv6.disable=1, or leave out enable_ipv6",
                place=f"networks.{key}.enable_ipv6",
            )
        if name == options_of(network).bridge != "" and key not in self._record.networks:
            await self._check_unused(key, name)
        lock = await self._thread.run(SubnetLock)
        try:
            await self._take(lock)
            existing = await self._thread.run(self._wiring.links.find, name) if bridged else None
            ranges = await self._ranges_for(network, existing, name)
            if existing is None and (bridged or key not in self._record.networks):
                begun.append(key)
            server = self._server_for(network, ranges, existing is not None)
            self._record.set(key, record_of(ranges, network, name if bridged else "", server))
            link = parent or await self._make_bridge(network, name, ranges)
        finally:
            lock.close()
        books = AddressBooks.of(key, ranges, self._written.get(key, frozenset()), server)
        for book in books.books:
            book.routed = bridged or any(item.gateway and parse_range(item) == book.subnet for item in network.subnets)
        for container, endpoint in self._held(key):
            books.hold(container, endpoint.addresses)
        await self._serve(network, books, link, server)

    async def _serve(self, network: Network, books: AddressBooks, link: Link, server: str) -> None:
        """The network lives, as soon as its name server answers."""
        key, ranges, mark = network.key, books.ranges, bridge_mark(self._site.key) if network.external else ""
        zone = self._open_zone(network, ranges)
        reached = bool(server) or is_bridged(network)
        sockets = await self._servers.open(network, link, ranges[0], server, mark) if reached else None
        answering = Resolver(self._names, zone, self._upstream, sockets)
        translations = dns_translations(ranges, sockets) if sockets and not server else ()
        self.live[key] = LiveNetwork(network, books, link, answering, translations)
        self._nursery.start_soon(answering.serve)

    async def _join(self, network: Network) -> None:
        """Be on a shared network; again, if we are: what is missing in the kernel is made, and addresses are had ahead."""
        key, live, written = network.key, self.live.get(network.key), self._written.get(network.key, frozenset())
        held = self._held(key)
        used = [address.ip for _, endpoint in held for address in endpoint.addresses if address.gateway]
        joined = await self._thread.run(self._shared.join, network, used, written)
        if live is not None:
            live.network, live.link = joined.network, joined.link
            return
        books = AddressBooks.of(key, joined.shared.ranges, written, str(joined.share.server), joined.share)
        for container, endpoint in held:
            books.hold(container, endpoint.addresses)
        await self._serve(joined.network, books, joined.link, books.resolver)
        self._names.share(key, *await self._thread.run(self._shared.neighbours, key))

    async def _make_bridge(self, network: Network, name: str, ranges: Sequence[AddressRange]) -> Link:
        options = options_of(network)
        mark = bridge_mark(self._site.key) if options.bridge else ""
        return await self._thread.run(self._wiring.links.make_bridge, name, ranges, options, mark)

    async def _parent_of(self, network: Network) -> Link:
        place = f"networks.{network.key}.driver_opts.parent"
        return await self._thread.run(self._wiring.links.require, options_of(network).parent, place)

    def _server_for(self, network: Network, ranges: Sequence[AddressRange], exists: bool) -> str:
        """The name server's address; "": the gateway's, or nobody's where it would not be reached."""
        key, outer = network.key, not is_bridged(network)
        if options_of(network).is_private:
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
        if network.external or before.external:
            if (before.external, before.full_name) != (network.external, network.full_name):
                raise changed_range(network.key, live.books.ranges, network)
            await self._join(network)
            return
        ranges = live.books.ranges
        if shape(before) != shape(network):
            raise changed_range(network.key, ranges, network)
        live.network = network
        self._record.set(network.key, live.recorded)
        self._open_zone(network, ranges)
        if live.bridge:
            live.link = await self._make_bridge(network, live.bridge, ranges)

    def _name_for(self, network: Network) -> str:
        recorded = self._record.networks.get(network.key)
        return options_of(network).bridge or (recorded.bridge if recorded else "") or self._bridge_name(network.key)

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
        occupied += await self._thread.run(self._shared.occupied)
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
                raise changed_range(key, known, network)
            if not found:
                check_free(key, written, occupied)
            return written
        family = FAMILIES[version]
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
            raise changed_range(key, known, network)
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
        networks = dict(self._record.networks)
        networks |= {key: live.recorded for key, live in self.live.items() if not live.network.external}
        bridged = {key: item for key, item in networks.items() if is_bridged(item)}
        bridges = [rule for key, item in bridged.items() for rule in bridges_of(self._bridge_name(key), item)]
        bridges += [rule for joined in self._shared.joined.values() for rule in joined.rules]
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
                    await self._thread.run(stop_observing, self._site.key)
                elif self.live:
                    await self._apply_rules()
            except OSError as exc:
                raise refused(exc, "cannot remove the project's networks") from exc

    async def _unmake(self, key: NetworkName) -> None:
        live = self.live.pop(key, None)
        item = live.network if live is not None else self._record.networks.get(key)
        if live is not None:
            live.resolver.close()
            await self._thread.run(self._wiring.firewall.discard, live.dns)
        await self._servers.forget(key, item is None or is_bridged(item))
        self._names.close_zone(key)
        if self._shared.has(key):
            await self._thread.run(self._shared.leave, key)
        elif (bridge := await self._thread.run(self._wiring.links.find, self._bridge_name(key))) is not None:
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
        if item is not None and not is_bridged(item):
            return sorted(container for container, _ in self._held(key))
        name = self.live[key].link.name if key in self.live else self._bridge_name(key)
        bridge = await self._thread.run(self._wiring.links.find, name)
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
