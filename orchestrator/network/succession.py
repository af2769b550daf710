"""One container in another's place: its names, and the host's ports that lead to it (docs/rolling-updates.md).

Both are attached. Nothing is closed before the other leads on: the sockets are the same ones, the firewall changes in one
transaction, and what was connected is translated by what the kernel tracks, to whom it was connected to.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from orchestrator.contracts.network import Endpoint
from orchestrator.model.names import ContainerId
from orchestrator.model.network import PortMapping
from orchestrator.network.attach import Plug
from orchestrator.network.connected import Connected, ends_of
from orchestrator.network.host_ports import HostPorts
from orchestrator.network.names import ProjectNames
from orchestrator.network.ports import Reservation
from orchestrator.network.publishing import Serving, translations_to
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.wiring import Wiring, Withdrawal
from orchestrator.values import frozen, replace


@frozen
class Party:
    """One of the two. `connected` None: it is on no network."""

    container: ContainerId
    connected: Connected | None


class Succession:
    """Of the containers of one project."""

    def __init__(self, thread: NetlinkThread, wiring: Wiring, ports: HostPorts, names: ProjectNames) -> None:
        self._thread = thread
        self._wiring = wiring
        self._ports = ports
        self._names = names

    async def hand_over(
        self,
        before: Party,
        after: Party,
        endpoints: tuple[Endpoint, ...],
        mappings: tuple[PortMapping, ...],
        plugs: Sequence[Plug],
    ) -> Serving:
        """See `Networking.hand_over`. `plugs`: as the new one's interfaces are to be. Returns its proxies, to be run."""
        new = after.connected
        assert new is not None, f"{after.container} is on no network"
        old = before.connected
        own = {a.ip for item in (new, old) if item is not None for e in item.endpoints for a in e.addresses}
        reservations = await self._ports.inherit(after.container, before.container, mappings)
        stale = old.withdrawal.translations if old is not None else ()
        translations = translations_to(endpoints, reservations)
        # Shielded: both would have half of it. The kernel's part is bounded.
        with trio.CancelScope(shield=True):
            begun: Serving | None = None
            try:
                serving = begun = Serving.of(reservations, endpoints)
                await self._thread.run(self._wiring.rewire, new.netns_fd, plugs, (), ())
                await self._thread.run(self._wiring.publish, translations, stale, own)
            except BaseException:
                if begun is not None:
                    begun.stop()
                await self._thread.run(self._wiring.publish, stale, translations, own)
                self._ports.free(after.container)
                await self._ports.drop(after.container)
                raise
        new.endpoints, new.mappings, new.reservations = endpoints, mappings, reservations
        new.withdrawal = Withdrawal(new.withdrawal.veths, translations)
        new.servings.append(serving)
        if old is not None:
            self._retire(old)
        self._ports.free(before.container)
        self._ports.forget(before.container)
        with self._names.lock:
            self._names.publish(after.container, endpoints, ends_of(endpoints, new.withdrawal.veths))
            if old is not None:
                nameless = [replace(endpoint, names=()) for endpoint in old.endpoints]
                self._names.publish(before.container, nameless, ends_of(nameless, old.withdrawal.veths))
        self._ports.remember(after.container, new.published)
        return serving

    @staticmethod
    def _retire(old: Connected) -> None:
        """It accepts nothing any more; what is open goes on. (`reservations` stay known until it is detached, which is when
        the store lets go of them: a supervisor that dies before the scheduler has recorded this gives them back to it.)"""
        gone: list[Reservation] = old.reservations
        for serving in old.servings:
            for reservation in gone:
                serving.withdraw(reservation)
        old.withdrawal = Withdrawal(old.withdrawal.veths, ())
