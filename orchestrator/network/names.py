"""Which names a container sees.

A zone is one network. A container sees the names on the networks it is on: those of the network whose socket it asked, then
those of its others, told by the address it asks from. Names of the project never leave the machine, whether they can be
seen or not, and on internal networks no other name does: DNS would be a way out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, ip_address

from orchestrator.contracts.network import Endpoint
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.subnets import IPNetwork
from orchestrator.network.zones import Zone


class ProjectNames:
    """All zones of a project, and every name that any container of it has or will have."""

    def __init__(self) -> None:
        self._zones: dict[NetworkName, Zone] = {}
        self._own: dict[ContainerId, frozenset[str]] = {}
        self._claims: Counter[str] = Counter()
        self._unready: set[ContainerId] = set()
        self._dns: dict[ContainerId, tuple[str, ...]] = {}
        self._links: dict[ContainerId, dict[str, str]] = {}

    def open_zone(
        self, network: NetworkName, subnets: Iterable[IPNetwork], internal: bool = False, full_name: str = ""
    ) -> Zone:
        zone, subnets = self._zones.get(network), tuple(subnets)
        if zone is None or zone.subnets != subnets:
            zone = self._zones[network] = Zone(subnets, unready=self._unready)
        zone.internal = internal
        return zone

    def close_zone(self, network: NetworkName) -> None:
        self._zones.pop(network, None)

    def claim(self, container: ContainerId, endpoints: Collection[Endpoint]) -> None:
        """The names of `endpoints` are ours, also while the container does not run."""
        self.disclaim(container)
        own = self._own[container] = frozenset(name.lower() for endpoint in endpoints for name in endpoint.names)
        self._claims.update(own)
        if servers := next((endpoint.dns for endpoint in endpoints if endpoint.dns), ()):
            self._dns[container] = servers
        if links := {alias.lower(): name.lower() for endpoint in endpoints for alias, name in endpoint.links}:
            self._links[container] = links

    def servers(self, zone: Zone, client: str) -> tuple[str, ...]:
        """Whom to ask for `client`, an address in `zone`; () for the host's resolvers."""
        container = zone.holder(ip_address(client)) if client else None
        return self._dns.get(container, ()) if container is not None else ()

    def meant(self, zone: Zone, client: str, name: str) -> str:
        """What `client`, an address in `zone`, means by `name` (in lower case): a name of its own for another one."""
        container = zone.holder(ip_address(client)) if client and self._links else None
        return self._links.get(container, {}).get(name, name) if container is not None else name

    def disclaim(self, container: ContainerId) -> None:
        self._dns.pop(container, None)
        self._links.pop(container, None)
        for name in self._own.pop(container, frozenset()):
            self._claims[name] -= 1
            if not self._claims[name]:
                del self._claims[name]

    def publish(self, container: ContainerId, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            self._zones[endpoint.network].add(container, endpoint.addresses[0].ip, endpoint.names)

    def set_ready(self, container: ContainerId, ready: bool) -> None:
        """Whether a published `container` answers to shared names."""
        if ready:
            self._unready.discard(container)
        elif any(zone.has(container) for zone in self._zones.values()):
            self._unready.add(container)

    def withdraw(self, container: ContainerId) -> None:
        self._unready.discard(container)
        for zone in self._zones.values():
            zone.discard(container)

    def visible(self, zone: Zone, client: str) -> list[Zone]:
        """The zones that `client`, an address, may ask by the socket of `zone`, that one first."""
        container = zone.holder(ip_address(client)) if client else None
        if container is None:
            return [zone]
        return [zone, *(other for other in self._zones.values() if other is not zone and other.has(container))]

    def claimed(self, name: str) -> bool:
        """A name of the project, whether it can be seen or not. `name`: in lower case."""
        return name in self._claims

    def covers(self, address: IPv4Address) -> bool:
        """An address of the project's networks."""
        return any(address in subnet for zone in self._zones.values() for subnet in zone.subnets)
