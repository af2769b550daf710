"""Networks in memory, with the checks of a careful host: no address without a network, no port twice.

Who gets which address and who answers to a name is decided by the real address book and the real zones, which are pure;
what the kernel does is invented here. Several projects can share one `FakeHost`, as they share the ports of a machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

import trio

from orchestrator.contracts.network import Endpoint, Impairment, Loss, NoNames, Published
from orchestrator.errors import HostError, OperationError
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.model.subnets import AddressRange, IPAddress
from orchestrator.network.addressing import AddressBooks, Occupied, choose_range, choose_server, written_range
from orchestrator.network.endpoints import take_endpoints
from orchestrator.network.zones import Zone
from orchestrator.values import replace

_EPHEMERAL = (32768, 60999)
_ANY = "0.0.0.0"
_SHARED = AddressRange(IPv4Network("10.7.0.0/24"), IPv4Address("10.7.0.1"))
"""Of all networks that projects share: there is one at a time."""


class FakeHost:
    """`taken`: host ports that other programs have."""

    def __init__(self, taken: Collection[int] = ()) -> None:
        self.taken = set(taken)
        self.projects: list[FakeNetworking] = []
        self.shared: dict[str, dict[FakeNetworking, set[IPAddress]]] = {}
        """Networks that projects share, with who has which addresses."""

    def share(self, name: str) -> None:
        """As ``network create`` does."""
        self.shared[name] = {}

    def holder(self, host_ip: str, port: int, protocol: str, but: ContainerId, of: FakeNetworking) -> ContainerId | None:
        """Whose the port is; "" for a program that is no container of the project `of`."""
        for project in self.projects:
            for container, published in project.attached.items():
                same = any(
                    (one.host_port, one.protocol) == (port, protocol) and _meet(one.host_ip, host_ip)
                    for one in published
                )
                if same and (project is not of or container != but):
                    return container if project is of else ContainerId("")
        return ContainerId("") if port in self.taken else None


def _meet(one: str, other: str) -> bool:
    """Whether the same port cannot be published on both. Published on all of IPv4 means all of IPv6 too."""
    return one == other or _ANY in (one, other) or ("::" in (one, other) and ":" in one and ":" in other)


class _FakeShare:
    """`network.addressing.Share`: one address at a time."""

    def __init__(self, shares: dict[FakeNetworking, set[IPAddress]], project: FakeNetworking) -> None:
        self._shares = shares
        self._mine = shares.setdefault(project, set())

    def addresses(self, version: int) -> list[IPAddress]:
        return sorted((item for item in self._mine if item.version == version), key=int)

    def claim(self, address: IPAddress) -> None:
        if any(address in theirs for theirs in self._shares.values()):
            raise OperationError(f"address {address} is another project's")
        self._mine.add(address)

    def more(self, version: int) -> None:
        assert version == _SHARED.version
        taken = set[IPAddress]().union(*self._shares.values())
        self._mine.add(next(address for address in _SHARED.network.hosts() if address not in (_SHARED.gateway, *taken)))


def _ranges(network: Network) -> tuple[object, ...]:
    return network.subnets, network.ipv4, network.ipv6


def _fails(effect: object, name: str) -> bool:
    return isinstance(effect, NoNames) and (effect.name in ("", name) or name.endswith(f".{effect.name}"))


class FakeNetworking:
    """`contracts.network.Networking`. `taken`: host ports that another program has, unless a shared `host` says so.
    `cannot`: effects of impairments that the kernel is too old for; `impairments`: those in force."""

    def __init__(self, taken: Collection[int] = (), host: FakeHost | None = None, key: str = "0123abcd") -> None:
        self.host = host or FakeHost(taken)
        self.host.projects.append(self)
        self.networks: dict[NetworkName, Network] = {}
        self.reserved: dict[ContainerId, tuple[Endpoint, ...]] = {}
        self.attached: dict[ContainerId, tuple[Published, ...]] = {}
        self.detached: list[ContainerId] = []
        self.rewired: list[ContainerId] = []
        self.handed_over: list[tuple[ContainerId, ContainerId]] = []
        self.connections: dict[ContainerId, int] = {}
        """How many others have open to it, as a test says."""
        self.ensured: list[tuple[NetworkName, ...]] = []
        self.unready: set[ContainerId] = set()
        self.unguarded: set[ContainerId] = set()
        self._ensured: set[NetworkName] = set()
        self._on: dict[ContainerId, frozenset[NetworkName]] = {}
        self.cannot: set[type] = set()
        self.impairments: tuple[Impairment, ...] = ()
        self.observing = False
        self._dropped: set[tuple[str, str]] = set()
        self._failing: tuple[Impairment, ...] = ()
        self._key = ProjectKey(key)
        self._books: dict[NetworkName, AddressBooks] = {}
        self._zones: dict[NetworkName, Zone] = {}
        self._written: dict[NetworkName, frozenset[str]] = {}
        self._published: dict[ContainerId, tuple[Published, ...]] = {}
        self._servers: dict[str, str] = {}
        self.told: dict[str, Zone] = {}
        """What others know of the names on shared networks: also while there is no supervisor."""

    async def ensure(self, networks: Sequence[Network]) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        self.ensured.append(tuple(network.key for network in networks))
        for network in networks:
            before = self.networks.get(network.key)
            changed = before is not None and _ranges(before) != _ranges(network)
            if changed and (network.key in self._ensured or self._users(network.key)):
                raise OperationError(f"networks.{network.key}: the network has another subnet than the stack now wants")
            if before is None or changed:
                self._make(network)
            if before is None or not network.external:
                self.networks[network.key] = network
            self._ensured.add(network.key)
        return ()

    def _users(self, key: NetworkName) -> list[ContainerId]:
        return sorted(container for container in self.attached if key in self._on[container])

    def _join(self, network: Network) -> None:
        if network.full_name not in self.host.shared:
            raise OperationError(
                f"network {network.full_name} declared as external, but could not be found",
                hint=f"make it: pystack network create {network.full_name}",
                place=f"networks.{network.key}",
            )
        share = _FakeShare(self.host.shared[network.full_name], self)
        server = self._servers.setdefault(network.full_name, "")
        if not server:
            share.more(_SHARED.version)
            server = self._servers[network.full_name] = str(share.addresses(_SHARED.version)[-1])
        written = self._written.get(network.key, frozenset())
        self._books[network.key] = AddressBooks.of(network.key, [_SHARED], written, server, share)
        self._zones[network.key] = Zone((_SHARED.network,), False, self.unready)
        self.told[network.full_name] = Zone((_SHARED.network,), False, self.unready)

    def _make(self, network: Network) -> None:
        if network.external:
            return self._join(network)
        every = [book for project in self.host.projects for book in project._books.values()]
        used = [Occupied(item.network, "") for book in every for item in book.ranges]
        written = [written_range(network.key, number, item) for number, item in enumerate(network.subnets)]
        ranges = [
            next((item for item in written if item.version == version), None)
            or choose_range(self._key, network.key, version, used)[0]
            for version, wanted in ((4, network.ipv4), (6, network.ipv6))
            if wanted
        ]
        known = self._written.get(network.key, frozenset())
        self._books[network.key] = AddressBooks.of(network.key, ranges, known, choose_server(ranges[0], known))
        self._zones[network.key] = Zone(tuple(item.network for item in ranges), network.internal, self.unready)

    def reserve_written(self, written: Mapping[NetworkName, Collection[str]]) -> None:
        self._written = {key: frozenset(addresses) for key, addresses in written.items()}
        for key, book in self._books.items():
            book.set_written(self._written.get(key, frozenset()))

    def reserve(
        self,
        container: ContainerId,
        service: ServiceName,
        attachments: Sequence[Attachment],
        service_name: bool = True,
    ) -> tuple[Endpoint, ...]:
        for attachment in attachments:
            assert attachment.network in self.networks, (
                f"{container} wants an address on {attachment.network}: no such network"
            )
        held = self.reserved.get(container, ())
        self.reserved[container] = take_endpoints(
            container, service, attachments, lambda key: (self.networks[key], self._books[key]), service_name, held
        )
        return self.reserved[container]

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint], published: Sequence[Published] = ()) -> None:
        books = self._books
        held = [e for e in endpoints if e.network not in books or books[e.network].hold(container, e.addresses)]
        self.reserved[container] = tuple(held)
        self._settle(container)
        if published:
            self._published[container] = tuple(published)

    async def attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        await trio.lowlevel.checkpoint()
        assert netns_fd >= 0
        assert self.reserved.get(container, ()) == tuple(endpoints), (
            f"{container} is attached with addresses that are not its own"
        )
        assert all(endpoint.network in self.networks for endpoint in endpoints), f"{container}: its network is gone"
        before = [*keep, *self.attached.get(container, ()), *self._published.get(container, ())]
        published = self._publish_all(container, ports, before)
        self.attached[container] = self._published[container] = published
        self.unguarded.discard(container)
        if not guarded:
            self.unguarded.add(container)
        self._on[container] = frozenset(endpoint.network for endpoint in endpoints)
        self._settle(container)
        self._name(container, endpoints)
        return published

    def _publish_all(
        self, container: ContainerId, ports: Sequence[PortMapping], before: Sequence[Published]
    ) -> tuple[Published, ...]:
        found: dict[int, Published] = {}
        # Those that leave a choice come last.
        order = sorted(range(len(ports)), key=lambda n: (one := ports[n].published) is None or one[0] != one[1])
        for number in order:
            found[number] = self._publish(container, ports[number], before, tuple(found.values()))
        return tuple(found[number] for number in range(len(ports)))

    def _name(self, container: ContainerId, endpoints: Sequence[Endpoint]) -> None:
        for zone in (*self._zones.values(), *self.told.values()):
            zone.discard(container)
        for endpoint in endpoints:
            for zone in (self._zones[endpoint.network], *self._told_on(endpoint.network)):
                zone.add(container, [a.ip for a in endpoint.addresses], endpoint.names)

    async def rewire(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        published = await self.attach(container, netns_fd, endpoints, ports, keep, guarded)
        self.rewired.append(container)
        return published

    async def hand_over(
        self,
        predecessor: ContainerId,
        container: ContainerId,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        await trio.lowlevel.checkpoint()
        assert container in self.attached, f"{container} is on no network"
        before = self.attached.get(predecessor)
        if before is not None:
            self.attached[predecessor] = ()
        try:
            # What it had is free for a moment that nobody can see.
            published = self._publish_all(container, ports, [self._as_its_own(one, ports) for one in before or ()])
        except BaseException:
            if before is not None:
                self.attached[predecessor] = before
            raise
        self._published.pop(predecessor, None)
        self.attached[container] = self._published[container] = published
        self._name(container, endpoints)
        if before is not None:
            self._name(predecessor, [replace(end, names=()) for end in self.reserved[predecessor]])
        self.handed_over.append((predecessor, container))
        return published

    @staticmethod
    def _as_its_own(one: Published, ports: Sequence[PortMapping]) -> Published:
        """A port that was published, as `ports` may have it with another target."""
        for port in ports:
            low, high = port.published or (0, 0)
            if low <= one.host_port <= high and port.protocol == one.protocol:
                return replace(one, target=port.target)
        return one

    async def open_connections(self, container: ContainerId, netns_fd: int) -> int:
        await trio.lowlevel.checkpoint()
        return self.connections.get(container, 0)

    def _settle(self, container: ContainerId) -> None:
        kept = {endpoint.network for endpoint in self.reserved.get(container, ())}
        for key, books in self._books.items():
            if key in kept:
                books.settle(container)
            else:
                books.give_back(container)

    def _told_on(self, network: NetworkName) -> list[Zone]:
        return [self.told[self.networks[network].full_name]] if self.networks[network].external else []

    def _publish(
        self, container: ContainerId, port: PortMapping, before: Sequence[Published], own: Sequence[Published]
    ) -> Published:
        host_ip = port.host_ip or _ANY
        low, high = port.published or _EPHEMERAL
        holders: dict[ContainerId, None] = {}
        for number in self._candidates(container, port, before):
            wanted = Published(host_ip, number, port.target, port.protocol)
            holder = self.host.holder(host_ip, number, port.protocol, container, self)
            if holder is None and (number, port.protocol) not in [(one.host_port, one.protocol) for one in own]:
                return wanted
            if holder:
                holders[holder] = None
        ports = f"ports {low}-{high}" if low != high else f"port {low}"
        by = f" by {', '.join(holders)}" if holders else ""
        message = f"host {ports}/{port.protocol} is in use{by}"
        raise OperationError(message, hint="stop what listens there", place=port.place)

    def _candidates(self, container: ContainerId, port: PortMapping, before: Sequence[Published]) -> Iterator[int]:
        low, high = port.published or _EPHEMERAL
        same = (port.host_ip or _ANY, port.target, port.protocol)
        for one in before:
            if (one.host_ip, one.target, one.protocol) == same and low <= one.host_port <= high:
                yield one.host_port
        kept = {
            one.host_port
            for other, published in self._published.items()
            for one in published
            if other not in (container, *self.attached) and one.protocol == port.protocol
        }
        yield from (number for number in range(low, high + 1) if number not in kept)
        yield from (number for number in range(low, high + 1) if number in kept)

    def set_ready(self, container: ContainerId, ready: bool) -> None:
        if ready:
            self.unready.discard(container)
        elif any(zone.has(container) for zone in self._zones.values()):
            self.unready.add(container)

    def resolve(self, asking: ContainerId, name: str) -> tuple[str, ...]:
        """What DNS tells the container `asking` about `name`."""
        if any(asking in item.containers and _fails(item.effect, name.lower()) for item in self._failing):
            return ()
        for endpoint in self.reserved.get(asking, ()):
            links = {alias.lower(): target for alias, target in endpoint.links}
            meant = links.get(name.lower(), name).lower()
            if found := self._zones[endpoint.network].addresses(meant):
                return tuple(map(str, found))
            shared = self.networks[endpoint.network].full_name
            others = [project.told.get(shared) for project in self.host.projects if project is not self]
            theirs = [zone.addresses(meant) for zone in others if zone is not None]
            if self.networks[endpoint.network].external and any(theirs):
                return tuple(str(address) for found in theirs for address in found)
        return ()

    async def impair(self, impairments: Sequence[Impairment]) -> None:
        await trio.lowlevel.checkpoint()
        for item in impairments:
            if type(item.effect) in self.cannot:
                raise HostError(f"this kernel cannot do {item.id}")
        self.impairments = tuple(impairments)
        self._failing = tuple(item for item in impairments if isinstance(item.effect, NoNames))
        self._dropped = set()
        for item in impairments:
            if isinstance(item.effect, Loss) and item.effect.share >= 1.0:
                pairs = [(a, b) for a in self._addresses(item.containers) for b in self._addresses(item.peers)]
                self._dropped.update(pairs, () if item.one_way else [(b, a) for a, b in pairs])

    def _addresses(self, containers: Sequence[ContainerId]) -> list[str]:
        ends = [end for container in containers for end in self.reserved.get(container, ())]
        return [address.ip for end in ends for address in end.addresses]

    def reaches(self, one: str, other: str) -> bool:
        """Whether a packet from the address `one` arrives at `other`, both of containers that are attached."""
        return (one, other) not in self._dropped

    async def observe(self) -> None:
        await trio.lowlevel.checkpoint()
        self.observing = bool(self.networks)

    async def detach(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        self.unready.discard(container)
        self.unguarded.discard(container)
        for zone in (*self._zones.values(), *self.told.values()):
            zone.discard(container)
        if self.attached.pop(container, None) is not None:
            self.detached.append(container)

    def release(self, container: ContainerId) -> None:
        assert container not in self.attached, f"{container} gives back addresses it still uses"
        self.reserved.pop(container, None)
        self._published.pop(container, None)
        self._give_back(container)

    def _give_back(self, container: ContainerId) -> None:
        for book in self._books.values():
            book.give_back(container)

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        await trio.lowlevel.checkpoint()
        for key in networks:
            if users := self._users(key):
                raise OperationError(f"network {key} has containers attached: {', '.join(users)}")
        for key in networks:
            if key in self.networks and self.networks[key].external:
                name = self.networks[key].full_name
                for shared in (self.told, self._servers):
                    shared.pop(name, None)
                self.host.shared[name].pop(self, None)
            for state in (self.networks, self._books, self._zones):
                state.pop(key, None)
        self.observing = self.observing and bool(self.networks)

    def reboot(self) -> None:
        for state in (self.networks, self._books, self._zones, self.attached):
            state.clear()
        self._dropped.clear()
        self.impairments = ()
        self.observing = False
        self.forget()

    def forget(self) -> None:
        """The supervisor was killed: what it held in its memory is gone, what the kernel holds is not."""
        self._ensured.clear()
        self.reserved.clear()
        self._published.clear()
        self._written.clear()
        self.unready.clear()
        self._failing = ()
        for book in self._books.values():
            book.set_written(frozenset())
            for container in book.containers:
                book.give_back(container)
        for zone in self._zones.values():
            for container in list(self.attached):
                zone.discard(container)
