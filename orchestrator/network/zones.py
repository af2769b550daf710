"""The names on one network, and which containers answer to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address

from orchestrator.model.names import ContainerId
from orchestrator.model.subnets import IPAddress, IPNetwork
from orchestrator.values import entity, field


@entity
class Zone:
    """Name -> container -> address. `internal`: nothing is asked outside for it. `unready`: containers that do not answer
    to names they share while another one does; shared with the project's other zones."""

    subnets: tuple[IPNetwork, ...]
    internal: bool = False
    unready: Collection[ContainerId] = frozenset()
    _addresses: dict[str, dict[ContainerId, IPAddress]] = field(default_factory=dict)
    _holders: dict[IPAddress, ContainerId] = field(default_factory=dict)
    _entries: dict[ContainerId, tuple[IPAddress, frozenset[str]]] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)

    def add(self, container: ContainerId, ip: str, names: Iterable[str]) -> None:
        """`container` answers for `names` from now on, and for no others."""
        self.discard(container)
        address, folded = ip_address(ip), frozenset(name.lower() for name in names)
        self._entries[container] = (address, folded)
        self._holders[address] = container
        for name in folded:
            self._addresses.setdefault(name, {})[container] = address

    def discard(self, container: ContainerId) -> None:
        address, names = self._entries.pop(container, (None, frozenset()))
        if address is not None:
            self._holders.pop(address, None)
        for name in names:
            del self._addresses[name][container]
            if not self._addresses[name]:
                del self._addresses[name]
                self._turns.pop(name, None)

    def addresses(self, name: str) -> list[IPAddress]:
        """Who answers to `name` (in lower case): those that are ready, or all when none is. A container always answers to
        its own name. One further in turn each time, so that clients that take the first share the load."""
        holders = self._addresses.get(name, {})
        ready = [a for container, a in holders.items() if container not in self.unready or container.lower() == name]
        found = sorted(ready or holders.values())
        if len(found) > 1:
            # A turn of its own for each name: with one for all, two names asked for alternately would each begin with
            # the same container every time.
            turn = self._turns[name] = (self._turns.get(name, 0) + 1) % len(found)
            found = found[turn:] + found[:turn]
        return found

    def knows(self, name: str) -> bool:
        return name in self._addresses

    def holder(self, address: IPAddress) -> ContainerId | None:
        return self._holders.get(address)

    def has(self, container: ContainerId) -> bool:
        return container in self._entries
