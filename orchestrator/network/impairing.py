"""Which faults on purpose are in force, and keeping the kernel and the name servers to that (`Networking.impair`).

What is wanted is stated as a whole. From it and from who has which addresses at that moment follow the rules that drop
packets (`losses`), the trees of queues at each interface (`queues`), and which questions fail (`names`). Only what differs
from what is there is changed: queues that are made anew lose what waits in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio

from orchestrator.contracts.network import Delay, Endpoint, Impairment, Loss, NoNames, Rate
from orchestrator.errors import PystackError
from orchestrator.model.names import ContainerId
from orchestrator.network.connections import Connections
from orchestrator.network.losses import LossRule, Surroundings
from orchestrator.network.names import ProjectNames
from orchestrator.network.networks import ProjectNetworks
from orchestrator.network.queues import Slowed, Slowing, Tree, plan_of
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.wiring import Interface, Wiring

_Trees = tuple[Tree, Tree]
"""For what a container sends, and for what it receives."""


class Impairing:
    """`endpoints`: who has which addresses, kept by the caller."""

    def __init__(
        self,
        thread: NetlinkThread,
        wiring: Wiring,
        names: ProjectNames,
        networks: ProjectNetworks,
        connections: Connections,
        endpoints: Mapping[ContainerId, tuple[Endpoint, ...]],
    ) -> None:
        self._thread = thread
        self._wiring = wiring
        self._names = names
        self._networks = networks
        self._connections = connections
        self._endpoints = endpoints
        self._lock = trio.Lock()
        self._wanted: tuple[Impairment, ...] = ()
        self._laid: dict[ContainerId, dict[Interface, _Trees]] = {}

    async def state(self, impairments: Sequence[Impairment]) -> None:
        """See `Networking.impair`."""
        async with self._lock:
            before, self._wanted = self._wanted, tuple(impairments)
            try:
                await self._apply()
            except BaseException:
                self._wanted = before
                # Shielded, so that a cancelled request leaves nothing half-done; every job of the thread ends by itself.
                with trio.CancelScope(shield=True), suppress(OSError, PystackError):
                    await self._apply()
                raise

    async def attached(self, container: ContainerId) -> None:
        """Lay the queues of a container that has just been attached or rewired."""
        async with self._lock:
            if self._wanted:
                await self._slow([container])

    def detached(self, container: ContainerId) -> None:
        """Its interfaces are gone, and the queues with them."""
        self._laid.pop(container, None)

    async def _apply(self) -> None:
        failing = [(item.containers, item.effect) for item in self._wanted if isinstance(item.effect, NoNames)]
        self._names.set_failing(
            {
                container: tuple(effect for containers, effect in failing if container in containers)
                for containers, _ in failing
                for container in containers
            }
        )
        rules = [
            LossRule(item.effect.share, self._of(item.containers), self._of(item.peers), item.outside, item.one_way)
            for item in self._wanted
            if isinstance(item.effect, Loss)
        ]
        await self._thread.run(self._wiring.losses.state, rules, self._surroundings())
        await self._slow(self._connections.attached)

    async def _slow(self, containers: Sequence[ContainerId]) -> None:
        around = self._surroundings()
        for container in containers:
            wanted = self._trees_of(container, around)
            known = self._laid.get(container, {})
            self._laid[container] = laid = {i: known[i] for i in self._connections.interfaces(container) if i in known}
            for interface in self._connections.interfaces(container):
                # It may have gone meanwhile, and its namespace with it. From here on it cannot: what takes it away waits
                # for the thread behind us.
                if interface not in self._connections.interfaces(container):
                    break
                before = laid.pop(interface, (None, None))
                changed = [tree if tree != old else None for tree, old in zip(wanted, before, strict=True)]
                if changed != [None, None]:
                    await self._thread.run(self._wiring.slow, interface, *changed)
                laid[interface] = wanted

    def _surroundings(self) -> Surroundings:
        """Of the networks that exist."""
        networks = self._networks.live.values()
        ranges = [item for live in networks for item in live.books.ranges]
        return Surroundings(
            tuple((live.link.name, live.link.mac) for live in networks),
            tuple((str(item.network.network_address), int(item.network.prefixlen)) for item in ranges),
            tuple(translation for live in networks for translation in live.dns),
            tuple(str(item.gateway) for item in ranges),
        )

    def _trees_of(self, container: ContainerId, around: Surroundings) -> _Trees:
        sent: list[Slowed] = []
        received: list[Slowed] = []
        for item in self._wanted:
            match item.effect:
                case Delay(delay_s, jitter_s):
                    slowing = Slowing(0, delay_s, jitter_s)
                case Rate(bits_per_s):
                    slowing = Slowing(bits_per_s)
                case _:
                    continue
            if container in item.containers:
                sent.append(Slowed(item.id, slowing, self._of(item.peers), item.outside))
                if not item.one_way and not item.peers:
                    received.append(Slowed(item.id, slowing, (), item.outside))
            elif container in item.peers and not item.one_way:
                sent.append(Slowed(item.id, slowing, self._of(item.containers)))
        return plan_of(sent, around, sends=True), plan_of(received, around, sends=False)

    def _of(self, containers: Sequence[ContainerId]) -> tuple[str, ...]:
        """Their addresses: those of before too, of one that is about to be rewired."""
        found = (
            address.ip
            for container in containers
            for endpoint in (*self._endpoints.get(container, ()), *self._connections.endpoints(container))
            for address in endpoint.addresses
        )
        return tuple(dict.fromkeys(found))
