"""A container that is on its networks, as `connections` keeps it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.model.names import NetworkName
from orchestrator.model.network import PortMapping
from orchestrator.network.ports import Reservation
from orchestrator.network.publishing import Serving
from orchestrator.network.wiring import Withdrawal, interfaces_of_children
from orchestrator.values import entity


@entity
class Connected:
    """A container that is attached. `netns_fd`: as it was given. `servings`: the proxies of its reservations, each of some
    of them. `numbers`: see `Interface.number`. `kept_fd`: our own descriptor of the namespace, while there are interfaces
    in it that have no end on the host and have to be taken away in there; -1: there are none."""

    netns_fd: int
    endpoints: tuple[Endpoint, ...]
    mappings: tuple[PortMapping, ...]
    reservations: list[Reservation]
    withdrawal: Withdrawal
    servings: list[Serving]
    numbers: dict[NetworkName, int]
    kept_fd: int = -1

    @property
    def published(self) -> tuple[Published, ...]:
        return tuple(reservation.published for reservation in self.reservations)

    def stop(self) -> None:
        """Close the listeners at once; the proxies end a moment later. To be called before the reservations are closed."""
        for serving in self.servings:
            serving.stop()
        self.servings.clear()

    def hold(self, netns_fd: int) -> None:
        """It is attached in this namespace. Raises OSError."""
        self.netns_fd = netns_fd
        if self.kept_fd >= 0 and not os.path.sameopenfile(self.kept_fd, netns_fd):
            self.let_go()
        if self.kept_fd < 0 and interfaces_of_children(self.endpoints):
            self.kept_fd = os.dup(netns_fd)

    def let_go(self) -> None:
        if self.kept_fd >= 0:
            os.close(self.kept_fd)
            self.kept_fd = -1


def ends_of(endpoints: Iterable[Endpoint], veths: Iterable[str]) -> tuple[str, ...]:
    """For each endpoint the host's end; "": it has none, or none yet."""
    found = iter(veths)
    return tuple("" if endpoint.outer else next(found, "") for endpoint in endpoints)
