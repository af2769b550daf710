"""Networks in memory, with the checks of a careful host: no address without a network, no port twice.

Who gets which address and who answers to a name is decided by the real address book and the real zones, which are pure;
what the kernel does is invented here. Several projects can share one `FakeHost`, as they share the ports of a machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import trio

from orchestrator.contracts.network import Endpoint, Impairment, Loss, NoNames, Published
from orchestrator.errors import HostError, OperationError
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.network.addressing import AddressBooks, Occupied, choose_range, written_range
from orchestrator.network.endpoints import take_endpoints
from orchestrator.network.zones import Zone

_EPHEMERAL = (32768, 60999)
_ANY = "0.0.0.0"


class FakeHost:
    """`taken`: host ports that other programs have."""

    def __init__(self, taken: Collection[int] = ()) -> None:
        self.taken = set(taken)
        self.projects: list[FakeNetworking] = []

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
        self.ensured: list[tuple[NetworkName, ...]] = []
        self.unready: set[ContainerId] = set()
        self.cannot: set[type] = set()
        self.impairments: tuple[Impairment, ...] = ()
        self._dropped: set[tuple[str, str]] = set()
        self._failing: tuple[Impairment, ...] = ()
        self._key = ProjectKey(key)
        self._books: dict[NetworkName, AddressBooks] = {}
        self._zones: dict[NetworkName, Zone] = {}
        self._written: dict[NetworkName, frozenset[str]] = {}
        self._published: dict[ContainerId, tuple[Published, ...]] = {}

    async def ensure(self, networks: Sequence[Network]) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        self.ensured.append(tuple(network.key for network in networks))
        for network in networks:
            before = self.networks.get(network.key)
            if before is None:
                self._make(network)
            elif (before.subnets, before.ipv4, before.ipv6) != (network.subnets, network.ipv4, network.ipv6):
                raise OperationError(f"networks.{network.key}: the network has another subnet than the stack now wants")
            self.networks[network.key] = network
        return ()

    def _make(self, network: Network) -> None:
        every = [book for project in self.host.projects for book in project._books.values()]
        used = [Occupied(item.network, "") for book in every for item in book.ranges]
        written = [written_range(network.key, number, item) for number, item in enumerate(network.subnets)]
        ranges = [
            next((item for item in written if item.version == version), None)
            or choose_range(self._key, network.key, version, used)[0]
            for version, wanted in ((4, network.ipv4), (6, network.ipv6))
            if wanted
        ]
        self._books[network.key] = AddressBooks.of(network.key, ranges, self._written.get(network.key, frozenset()))
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
        self.reserved[container] = take_endpoints(
            container, service, attachments, lambda key: (self.networks[key], self._books[key]), service_name
        )
        return self.reserved[container]

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint], published: Sequence[Published] = ()) -> None:
        books = self._books
        held = [e for e in endpoints if e.network not in books or books[e.network].hold(container, e.addresses)]
        self.reserved[container] = tuple(held)
        if published:
            self._published[container] = tuple(published)

    async def attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
    ) -> tuple[Published, ...]:
        await trio.lowlevel.checkpoint()
        assert netns_fd >= 0
        assert self.reserved.get(container, ()) == tuple(endpoints), (
            f"{container} is attached with addresses that are not its own"
        )
        assert all(endpoint.network in self.networks for endpoint in endpoints), f"{container}: its network is gone"
        before = [*keep, *self.attached.get(container, ()), *self._published.get(container, ())]
        published: list[Published] = []
        for port in sorted(ports, key=lambda port: port.published is None or port.published[0] != port.published[1]):
            published.append(self._publish(container, port, before, published))
        published.sort(key=lambda item: [port.target for port in ports].index(item.target))
        self.attached[container] = self._published[container] = tuple(published)
        for endpoint in endpoints:
            self._zones[endpoint.network].add(container, [a.ip for a in endpoint.addresses], endpoint.names)
        return tuple(published)

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

    async def detach(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        self.unready.discard(container)
        for zone in self._zones.values():
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
            ends = {item: self.reserved.get(item, ()) for item in self.attached}
            users = [container for container, held in ends.items() if any(end.network == key for end in held)]
            if users:
                raise OperationError(f"network {key} has containers attached: {', '.join(sorted(users))}")
        for key in networks:
            for state in (self.networks, self._books, self._zones):
                state.pop(key, None)

    def reboot(self) -> None:
        for state in (self.networks, self._books, self._zones, self.attached):
            state.clear()
        self._dropped.clear()
        self.impairments = ()
        self.forget()

    def forget(self) -> None:
        """The supervisor was killed: what it held in its memory is gone, what the kernel holds is not."""
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
