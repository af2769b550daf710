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
from orchestrator.network.wiring import Port, Wiring

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
        self._laid: dict[ContainerId, dict[Port, _Trees]] = {}

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
        """Lay the queues of a container that has just been attached."""
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
        await self._thread.run(self._wiring.losses.state, rules, self._networks.surroundings())
        await self._slow(self._connections.attached)

    async def _slow(self, containers: Sequence[ContainerId]) -> None:
        around = self._networks.surroundings()
        for container in containers:
            wanted = self._trees_of(container, around)
            for port in self._connections.interfaces(container):
                # It may have gone meanwhile, and its namespace with it. From here on it cannot: what takes it away waits
                # for the thread behind us.
                if port not in self._connections.interfaces(container):
                    break
                laid = self._laid.setdefault(container, {})
                known = laid.pop(port, (None, None))
                changed = [tree if tree != old else None for tree, old in zip(wanted, known, strict=True)]
                if changed != [None, None]:
                    await self._thread.run(self._wiring.slow, port, *changed)
                laid[port] = wanted

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
        """Their addresses."""
        return tuple(
            address.ip
            for container in containers
            for endpoint in self._endpoints.get(container, ())
            for address in endpoint.addresses
        )
