"""The names on one network, and which containers answer to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address

from orchestrator.model.names import ContainerId
from orchestrator.model.subnets import IPAddress, IPNetwork
from orchestrator.values import entity, field


@entity
class _Entry:
    """A container in a zone. `addresses`: all that it has there; the first of each family is told. `gateways`: theirs."""

    addresses: tuple[IPAddress, ...]
    names: frozenset[str]
    gateways: tuple[IPAddress, ...]


@entity
class Zone:
    """Name -> containers -> addresses. `internal`: nothing is asked outside for it. `unready`: containers that do not
    answer to names they share while another one does; shared with the project's other zones. `labels`: names of the network
    itself, that may follow a name with a dot between them. `neighbours`: what other projects have on the same network;
    their containers' ids are not their names, these are `called`."""

    subnets: tuple[IPNetwork, ...]
    internal: bool = False
    unready: Collection[ContainerId] = frozenset()
    labels: tuple[str, ...] = ()
    neighbours: Zone | None = None
    called: dict[ContainerId, str] = field(default_factory=dict)
    _told: dict[tuple[str, int], dict[ContainerId, IPAddress]] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _holders: dict[str, ContainerId] = field(default_factory=dict)
    _entries: dict[ContainerId, _Entry] = field(default_factory=dict)
    _turns: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(
        self, container: ContainerId, addresses: Sequence[str], names: Iterable[str], gateways: Iterable[str] = ()
    ) -> None:
        """`container` answers for `names` from now on, and for no others."""
        self.discard(container)
        entry = _Entry(
            tuple(map(ip_address, addresses)),
            frozenset(name.lower() for name in names),
            tuple(ip_address(gateway) for gateway in gateways if gateway),
        )
        self._entries[container] = entry
        for address in reversed(entry.addresses):
            self._holders[str(address)] = container
            for name in entry.names:
                self._told.setdefault((name, address.version), {})[container] = address
        for name in entry.names:
            self._names[name] = self._names.get(name, 0) + 1

    def clear(self) -> None:
        for container in list(self._entries):
            self.discard(container)
        self.called.clear()

    def name_of(self, container: ContainerId) -> str:
        return self.called.get(container, container)

    def entry(self, container: ContainerId) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Its addresses and its names."""
        entry = self._entries.get(container)
        return (tuple(map(str, entry.addresses)), tuple(sorted(entry.names))) if entry is not None else None

    @property
    def containers(self) -> tuple[ContainerId, ...]:
        return tuple(self._entries)

    def discard(self, container: ContainerId) -> None:
        entry = self._entries.pop(container, None)
        if entry is None:
            return
        for address in entry.addresses:
            self._holders.pop(str(address), None)
        for name in entry.names:
            self._names[name] -= 1
            if not self._names[name]:
                del self._names[name]
            for family in {address.version for address in entry.addresses}:
                told = self._told[name, family]
                del told[container]
                if not told:
                    del self._told[name, family]
                    self._turns.pop((name, family), None)

    def addresses(self, name: str, family: int = 4) -> list[IPAddress]:
        """Who answers to `name` (in lower case): those that are ready, or all when none is. A container always answers to
        its own name. One further in turn each time, so that clients that take the first share the load."""
        holders = self._told.get((name, family))
        if holders is None:
            return []
        if len(holders) == 1:
            return list(holders.values())
        ready = [a for container, a in holders.items() if container not in self.unready or container.lower() == name]
        found = sorted(ready or holders.values(), key=lambda address: address.packed)
        if len(found) > 1:
            # A turn of its own for each name: with one for all, two names asked for alternately would each begin with
            # the same container every time.
            turn = self._turns[name, family] = (self._turns.get((name, family), 0) + 1) % len(found)
            found = found[turn:] + found[:turn]
        return found

    def knows(self, name: str) -> bool:
        return name in self._names

    def covers(self, address: IPAddress) -> bool:
        return any(address in subnet for subnet in self.subnets)

    def holder(self, address: str) -> ContainerId | None:
        """Whose the address is, as `str` of an address writes it."""
        return self._holders.get(address)

    def gateways(self, address: str) -> tuple[IPAddress, ...]:
        """This machine, as who has `address` sees it."""
        container = self._holders.get(address)
        return self._entries[container].gateways if container is not None else ()

    def has(self, container: ContainerId) -> bool:
        return container in self._entries
