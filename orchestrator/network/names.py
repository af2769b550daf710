"""Which names a container sees.

A zone is one network. A container sees the names on the networks it is on: those of the network whose socket it asked, then
those of its others, told by the address it asks from. Names of the project never leave the machine, whether they can be
seen or not, and on internal networks no other name does: DNS would be a way out.

The event loop changes what is here, and threads of the name servers read it, each with `lock` held.

After a restart of the supervisor the containers of before come back one by one. A question that waited in a socket
meanwhile must not be told that a name does not exist because its turn has not come yet: see `expects`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock

from orchestrator.contracts.network import Endpoint, NoNames
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.subnets import IPAddress, IPNetwork
from orchestrator.network.shared_names import Named, Neighbours
from orchestrator.network.zones import Zone
from orchestrator.values import entity, field

HOST_NAMES = frozenset({"host.docker.internal", "gateway.docker.internal"})
"""This machine, as Docker Desktop calls it: for all containers, whether they have written it down or not."""
_EXPECTED_S = 3.0
"""How long containers of before are waited for. All of a large project take less; resolvers of clients wait for longer."""


@entity
class _Shared:
    """A network that other projects are on too. `before`: see `ProjectNames.share`. `veths`: of our containers on it.
    `changed`: since it was told."""

    neighbours: Neighbours
    before: dict[ContainerId, Named]
    veths: dict[ContainerId, str] = field(default_factory=dict)
    changed: bool = False


class ProjectNames:
    """All zones of a project, and every name that any container of it has or will have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = RLock()
        self.generation = 0
        """Another one after each change of what is answered."""
        self._clock = clock
        self._zones: dict[NetworkName, Zone] = {}
        self._own: dict[ContainerId, frozenset[str]] = {}
        self._claims: Counter[str] = Counter()
        self._unready: set[ContainerId] = set()
        self._dns: dict[ContainerId, tuple[str, ...]] = {}
        self._links: dict[ContainerId, dict[str, str]] = {}
        self._failing: Mapping[ContainerId, tuple[NoNames, ...]] = {}
        self._expected: dict[ContainerId, frozenset[str]] = {}
        self._expected_until_s = clock() + _EXPECTED_S
        self._shared: dict[NetworkName, _Shared] = {}
        self.on_shared_change: Callable[[], None] = lambda: None
        """Called when there is something new in `to_tell`."""

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self.lock:
            yield
            self.generation += 1

    def open_zone(
        self, network: NetworkName, subnets: Iterable[IPNetwork], internal: bool = False, full_name: str = ""
    ) -> Zone:
        """`full_name`: what the network is called outside of the stack."""
        with self._changing():
            zone, subnets = self._zones.get(network), tuple(subnets)
            if zone is None or zone.subnets != subnets:
                zone = self._zones[network] = Zone(subnets, unready=self._unready)
            zone.internal = internal
            zone.labels = tuple(dict.fromkeys(name.lower() for name in (network, full_name) if name))
            if zone.neighbours is not None:
                zone.neighbours.labels = zone.labels
            return zone

    def close_zone(self, network: NetworkName) -> None:
        with self._changing():
            self._zones.pop(network, None)
            self._shared.pop(network, None)

    def share(self, network: NetworkName, neighbours: Neighbours, before: Iterable[Named] = ()) -> None:
        """The network, whose zone is open, is shared with other projects. `before`: what a supervisor from before has told
        them: it goes on to be told of containers that may be published in a moment."""
        with self._changing():
            known = {item.container: item for item in before}
            self._shared[network] = self._shared.get(network) or _Shared(neighbours, known)
            zone, theirs = self._zones[network], self._shared[network].neighbours.zone
            zone.neighbours, theirs.labels = theirs, zone.labels

    def to_tell(self) -> dict[NetworkName, tuple[Named, ...]]:
        """What is to be told to other projects: of each shared network of which that has changed since the last time."""
        with self.lock:
            found = {}
            for network, shared in self._shared.items():
                if shared.changed:
                    shared.changed = False
                    found[network] = tuple(self._told_of(network, shared))
            return found

    def tell_again(self) -> None:
        """What `to_tell` gave has not arrived."""
        with self.lock:
            for shared in self._shared.values():
                shared.changed = True
        self.on_shared_change()

    def _told_of(self, network: NetworkName, shared: _Shared) -> Iterator[Named]:
        yield from shared.before.values()
        zone = self._zones[network]
        for container in zone.containers:
            if (entry := zone.entry(container)) is not None:
                yield Named(container, shared.veths.get(container, ""), *entry, container not in self._unready)

    def current(self) -> int:
        """The generation, after a look at what other projects have told."""
        if self._shared:
            with self.lock:
                for shared in self._shared.values():
                    self.generation += shared.neighbours.look()
        return self.generation

    def _forget_before(self, container: ContainerId) -> None:
        for network, shared in self._shared.items():
            if shared.before.pop(container, None) is not None or self._zones[network].has(container):
                shared.changed = True
                self.on_shared_change()

    def claim(self, container: ContainerId, endpoints: Collection[Endpoint]) -> None:
        """The names of `endpoints` are ours, also while the container does not run."""
        with self._changing():
            self.disclaim(container)
            own = self._own[container] = frozenset(name.lower() for endpoint in endpoints for name in endpoint.names)
            self._claims.update(own)
            if servers := next((endpoint.dns for endpoint in endpoints if endpoint.dns), ()):
                self._dns[container] = servers
            if links := {alias.lower(): name.lower() for endpoint in endpoints for alias, name in endpoint.links}:
                self._links[container] = links

    def disclaim(self, container: ContainerId) -> None:
        with self._changing():
            self._expected.pop(container, None)
            self._dns.pop(container, None)
            self._links.pop(container, None)
            for name in self._own.pop(container, frozenset()):
                self._claims[name] -= 1
                if not self._claims[name]:
                    del self._claims[name]

    def expect(self, container: ContainerId) -> None:
        """`container`, whose names are claimed, was there before this supervisor, and may be published in a moment, unless
        it is already."""
        if any(zone.has(container) for zone in self._zones.values()):
            return
        with self._changing():
            self._expected[container] = self._own.get(container, frozenset())
            self._expected_until_s = self._clock() + _EXPECTED_S

    def expects(self, zone: Zone, client: str, name: str) -> bool:
        """Whether it is too early to say that there is no `name`: it may be that of a container from before, or `client`,
        that asks for it by the socket of `zone`, may be such a one, and see more than is known by now. Who is published
        by this supervisor is never unknown."""
        if self._clock() > self._expected_until_s:
            self._expected.clear()
            return False
        return (client != "" and zone.holder(client) is None) or any(name in own for own in self._expected.values())

    def servers(self, zone: Zone, client: str) -> tuple[str, ...]:
        """Whom to ask for `client`, an address in `zone`; () for the host's resolvers."""
        with self.lock:
            container = zone.holder(client)
            return self._dns.get(container, ()) if container is not None else ()

    def set_failing(self, failing: Mapping[ContainerId, tuple[NoNames, ...]]) -> None:
        """Which questions of whom are not answered, on purpose."""
        if failing != self._failing:
            with self._changing():
                self._failing = dict(failing)

    def failing(self, zone: Zone, client: str, name: str) -> NoNames | None:
        """Whether the question of `client`, an address in `zone`, for `name` is not to be answered, and how. `name` may say
        its network."""
        if not self._failing or (container := zone.holder(client)) is None:
            return None
        asked = (name, *(head for known in self._zones.values() for head in _within(known, name)))
        return next(
            (
                one
                for one in self._failing.get(container, ())
                if not one.name or any(each == one.name or each.endswith(f".{one.name}") for each in asked)
            ),
            None,
        )

    def meant(self, zone: Zone, client: str, name: str) -> str:
        """What `client`, an address in `zone`, means by `name` (in lower case): a name of its own for another one."""
        container = zone.holder(client) if self._links else None
        return self._links.get(container, {}).get(name, name) if container is not None else name

    def publish(self, container: ContainerId, endpoints: Sequence[Endpoint], veths: Sequence[str] = ()) -> None:
        """It is on these networks from now on, and on no others. `veths`: for each endpoint the host's end of its pair."""
        with self._changing():
            self._expected.pop(container, None)
            networks = {endpoint.network for endpoint in endpoints}
            for key, zone in self._zones.items():
                if key not in networks:
                    zone.discard(container)
            for key, shared in self._shared.items():
                if key not in networks:
                    shared.veths.pop(container, None)
            for endpoint in endpoints:
                addresses = [address.ip for address in endpoint.addresses]
                gateways = dict.fromkeys(address.gateway for address in endpoint.addresses if not endpoint.outer)
                self._zones[endpoint.network].add(container, addresses, endpoint.names, gateways)
            for endpoint, veth in zip(endpoints, veths, strict=False):
                if endpoint.network in self._shared:
                    self._shared[endpoint.network].veths[container] = veth
            self._forget_before(container)

    def set_ready(self, container: ContainerId, ready: bool) -> None:
        """Whether a published `container` answers to shared names."""
        with self._changing():
            if ready:
                self._unready.discard(container)
            elif any(zone.has(container) for zone in self._zones.values()):
                self._unready.add(container)
            self._forget_before(container)

    def withdraw(self, container: ContainerId) -> None:
        with self._changing():
            self._expected.pop(container, None)
            self._unready.discard(container)
            self._forget_before(container)
            for zone in self._zones.values():
                zone.discard(container)
            for shared in self._shared.values():
                shared.veths.pop(container, None)

    def visible(self, zone: Zone, client: str) -> list[Zone]:
        """The zones that `client`, an address, may ask by the socket of `zone`, that one first."""
        container = zone.holder(client)
        if container is None or len(self._zones) == 1:
            return [zone]
        return [zone, *(other for other in self._zones.values() if other is not zone and other.has(container))]

    def find(self, zones: Sequence[Zone], name: str) -> tuple[Zone, str] | None:
        """In which of `zones` there is `name`, and as what: it may say its network, as in ``web.front``."""
        found = self._find(zones, name)
        if found is None and self._shared:
            # Of other projects, on networks that are shared. What is ours comes first.
            theirs = [zone.neighbours for zone in zones if zone.neighbours is not None]
            found = self._find(theirs, name)
        return found

    @staticmethod
    def _find(zones: Sequence[Zone], name: str) -> tuple[Zone, str] | None:
        for zone in zones:
            if zone.knows(name):
                return zone, name
        if "." in name:
            for zone in zones:
                for head in _within(zone, name):
                    if zone.knows(head):
                        return zone, head
        return None

    def claimed(self, name: str) -> bool:
        """A name of the project, whether it can be seen or not. `name`: in lower case."""
        if name in self._claims:
            return True
        return "." in name and any(head in self._claims for zone in self._zones.values() for head in _within(zone, name))

    def covers(self, address: IPAddress) -> bool:
        """An address of the project's networks."""
        return any(zone.covers(address) for zone in self._zones.values())


def _within(zone: Zone, name: str) -> Iterable[str]:
    """What `name` is called in `zone`, if it says so."""
    return (name[: -len(label) - 1] for label in zone.labels if name.endswith("." + label))
