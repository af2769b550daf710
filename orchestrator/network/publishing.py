"""Where published ports lead: what the firewall translates, and the proxies for all that it does not (docs/networking.md,
"Published ports")."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence

import trio

from orchestrator.contracts.network import Endpoint
from orchestrator.network.addressing import family_of
from orchestrator.network.endpoints import ways_out
from orchestrator.network.firewall import Translation
from orchestrator.network.ports import Reservation
from orchestrator.network.proxy import serve_port
from orchestrator.network.udp_proxy import serve_datagrams
from orchestrator.values import entity, field, frozen

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LOOPBACK_6 = "::1"
"""What is sent to it is proxied: the kernel routes nothing from there anywhere else."""


@frozen
class Ways:
    """Where a container's published ports lead: by family, an address, which may be of the other one. `local_only`: who is
    on internal networks only is reached from this machine alone, as the firewall has it."""

    addresses: Mapping[int, str]
    local_only: bool


def ways_in(endpoints: Sequence[Endpoint]) -> Ways:
    """By the networks that this machine makes; without any there is no way, and nothing is published."""
    endpoints = [endpoint for endpoint in endpoints if not endpoint.outer]
    found = {int(family): _way_in(endpoints, family) for family in _FAMILIES} if endpoints else {}
    return Ways(found, all(endpoint.internal for endpoint in endpoints))


def _way_in(endpoints: Sequence[Endpoint], family: int) -> str:
    """By the network of the default route, or answers would take another way back; to an address of `family`, if there is
    one."""
    for wanted in (family, socket.AF_INET, socket.AF_INET6):
        if (way := ways_out(endpoints, wanted)) is not None:
            return way[1].ip
    found = (a.ip for a in endpoints[0].addresses if not a.is_link_local and family_of(a.ip) == family)
    return next(found, endpoints[0].addresses[0].ip)


def translations_to(endpoints: Sequence[Endpoint], reservations: Iterable[Reservation]) -> tuple[Translation, ...]:
    """What the firewall does: where host and container have an address of a family that it translates."""
    ways = ways_in(endpoints).addresses
    return tuple(
        Translation(r.mapping.protocol, address, r.host_port, ways[family], r.mapping.target)
        for r in reservations
        for address in r.addresses
        if (family := family_of(address)) in ways and family_of(ways[family]) == family and address != _LOOPBACK_6
    )


@entity
class Serving:
    """The proxies of some reservations. `listeners`: duplicates of their TCP sockets, `unread`: the UDP sockets that are
    served, themselves; by the reservation's socket, each with the container's port. Made by `Serving.of`."""

    ways: Ways
    listeners: dict[socket.socket, tuple[trio.socket.SocketType, int]] = field(default_factory=dict)
    unread: dict[socket.socket, int] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @classmethod
    def of(cls, reservations: Iterable[Reservation], endpoints: Sequence[Endpoint]) -> Serving:
        """Raises OSError when there are no more descriptors; nothing is left open then."""
        made = cls(ways_in(endpoints))
        kept = tuple(reservations)
        translated = {(t.protocol, t.host_ip, t.host_port) for t in translations_to(endpoints, kept)}
        try:
            for reservation in kept:
                target = reservation.mapping.target
                for sock in reservation.sockets:
                    if reservation.mapping.protocol == "tcp":
                        made.listeners[sock] = trio.socket.from_stdlib_socket(sock.dup()), target
                    # What may arrive: what is sent to ::1 is never translated, and not all else is.
                    elif sock.family == socket.AF_INET6 or ("udp", *sock.getsockname()[:2]) not in translated:
                        made.unread[sock] = target
        except BaseException:
            made.stop()
            raise
        return made

    async def serve(self) -> None:
        """Proxy whatever reaches the sockets, until `stop`."""
        ways, local_only = self.ways.addresses, self.ways.local_only
        with self.scope:
            async with trio.open_nursery() as nursery:
                for listener, target in self.listeners.values():
                    nursery.start_soon(serve_port, listener, ways[listener.family], target, local_only)
                for sock, target in self.unread.items():
                    nursery.start_soon(serve_datagrams, sock, ways[sock.family], target, local_only)

    def withdraw(self, reservation: Reservation) -> None:
        """Accept nothing for `reservation` any more; connections that are open go on. To be called before it is closed."""
        for sock in reservation.sockets:
            if sock in self.listeners:
                self.listeners.pop(sock)[0].close()
            elif self.unread.pop(sock, None) is not None:
                trio.lowlevel.notify_closing(sock)

    def stop(self) -> None:
        """Close the listeners at once; the proxies end a moment later. To be called before the reservations are closed."""
        self.scope.cancel()
        for sock in self.unread:
            trio.lowlevel.notify_closing(sock)
        for listener, _ in self.listeners.values():
            listener.close()
