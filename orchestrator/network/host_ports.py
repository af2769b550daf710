"""Which container has which ports of the host: reserved, exchanged, and kept by the monitor for a supervisor to come.

    _published   host ports a container has or had, from `restore` or its last attach until `release`
    _taken       host ports that are bound for it now, from the moment of binding
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import trio

from orchestrator.contracts.network import Published
from orchestrator.model.names import ContainerId
from orchestrator.model.network import PortMapping
from orchestrator.network import ports
from orchestrator.network.fdstore import FdStore, fetch_sockets
from orchestrator.network.port_owner import Publisher
from orchestrator.network.ports import Reservation
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.wiring import Wiring
from orchestrator.values import replace

_UNDO_S = 30.0


class HostPorts:
    """`publisher`: what other projects have."""

    def __init__(self, store: FdStore, thread: NetlinkThread, wiring: Wiring, publisher: Publisher | None) -> None:
        self._store = store
        self._thread = thread
        self._wiring = wiring
        self._publisher = publisher
        self._taken: dict[ContainerId, list[Reservation]] = {}
        self._published: dict[ContainerId, tuple[Published, ...]] = {}

    def remember(self, container: ContainerId, published: Sequence[Published]) -> None:
        """Host ports that `container` gets again if it can, and others only if nothing else is free."""
        if published:
            self._published[container] = tuple(published)

    def forget(self, container: ContainerId) -> None:
        self._published.pop(container, None)

    def close(self) -> None:
        """Our sockets; what the store keeps waits there."""
        for container in list(self._taken):
            self.free(container)

    def free(self, container: ContainerId) -> None:
        """The store has them until `drop`."""
        for reservation in self._taken.pop(container, ()):
            reservation.close()

    async def drop(self, container: ContainerId) -> None:
        await self._store.drop(_key(container))

    async def reserve(
        self,
        container: ContainerId,
        addresses: Iterable[str],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        staying: Sequence[Reservation] | None = None,
    ) -> list[Reservation]:
        """`addresses`: the container's. `keep`: see `Networking.attach`. `staying`: what it has already and keeps; None: it
        has nothing, unless a supervisor that died has left it to the store."""
        if not mappings:
            return []
        preferred = [*keep, *self._published.get(container, ())]
        if any(map(ports.leaves_a_choice, mappings)):
            known = await self._thread.run(self._wiring.published_to, list(addresses))
            preferred += [Published(t.host_ip, t.host_port, t.target, t.protocol) for t in known]
        kept = await fetch_sockets(self._store, _key(container)) if staying is None else ()
        reservations = ports.reserve(mappings, kept, preferred, self._others(container))
        # At once, so that others who want the same ports meanwhile are told of this container.
        self._taken[container] = [*(staying or ()), *reservations]
        try:
            await self._keep(container)
        except BaseException:
            for reservation in reservations:
                reservation.close()
            self._taken[container] = list(staying or ())
            # Shielded: what the store took over must not stay there; the deadline is for the store's process.
            with trio.move_on_after(_UNDO_S, shield=True):
                await self._keep(container)
            raise
        return reservations

    async def exchange(
        self,
        container: ContainerId,
        addresses: Iterable[str],
        mappings: Sequence[PortMapping],
        keep: Sequence[Published],
        withdraw: Callable[[Reservation], None],
    ) -> list[Reservation]:
        """Reservations, in the order of `mappings`, in place of those that `container` has. Those that are wanted again are
        the same ones. The others are given up before new ones are taken, which may be the same ports on other addresses;
        `withdraw` is called with each just before it is closed. When this raises, the container has what it keeps."""
        spare: dict[PortMapping, list[Reservation]] = {}
        for reservation in self._taken.get(container, ()):
            spare.setdefault(_placeless(reservation.mapping), []).append(reservation)
        found = [same.pop(0) if (same := spare.get(_placeless(item))) else None for item in mappings]
        staying = [reservation for reservation in found if reservation is not None]
        going = [reservation for rest in spare.values() for reservation in rest]
        if going:
            self._taken[container] = staying
            for reservation in going:
                withdraw(reservation)
                reservation.close()
            await self._keep(container)
        wanted = [item for item, reservation in zip(mappings, found, strict=True) if reservation is None]
        fresh = iter(await self.reserve(container, addresses, wanted, keep, staying))
        return [reservation or next(fresh) for reservation in found]

    async def inherit(
        self,
        container: ContainerId,
        predecessor: ContainerId,
        mappings: Sequence[PortMapping],
    ) -> list[Reservation]:
        """Reservations for `container`, which has none: of those that `predecessor` has the very same sockets, where they
        fit. It keeps them, too, until `free`. Raises as `reserve`, and nothing has changed then."""
        if not mappings:
            return []
        taken = self._taken.get(predecessor, ())
        copies = [sock.dup() for reservation in taken for sock in reservation.sockets]
        preferred = [reservation.published for reservation in taken]
        reservations = ports.reserve(mappings, copies, preferred, self._others(container))
        self._taken[container] = reservations
        try:
            await self._keep(container)
        except BaseException:
            self.free(container)
            with trio.move_on_after(_UNDO_S, shield=True):
                await self.drop(container)
            raise
        return reservations

    async def _keep(self, container: ContainerId) -> None:
        """Let the store have what is taken, and nothing else."""
        fds = [sock.fileno() for reservation in self._taken.get(container, ()) for sock in reservation.sockets]
        if fds:
            await self._store.keep(_key(container), fds)
        else:
            await self._store.drop(_key(container))

    def _others(self, container: ContainerId) -> ports.Others:
        held: dict[tuple[str, int], list[ports.Holder]] = {}
        for other, reservations in self._taken.items():
            for taken in reservations if other != container else ():
                holder = ports.Holder(other, taken.addresses, taken.mapping.place)
                held.setdefault((taken.mapping.protocol, taken.host_port), []).append(holder)
        kept = frozenset(
            (item.protocol, item.host_port)
            for other, published in self._published.items()
            if other != container and other not in self._taken
            for item in published
        )
        return ports.Others(held, kept, self._publisher)


def _key(container: ContainerId) -> str:
    """In the store, which is the project's own."""
    return f"ports/{container}"


def _placeless(mapping: PortMapping) -> PortMapping:
    return replace(mapping, place="")
