"""Which operation has the say over which container.

An operation claims containers, not the project. While it has something to do with one, a later operation that touches the
same container takes it over: the earlier one's nodes for it end ("taken over by `stop`"), its other nodes go on. The order
is: the user's operations (a later one before an earlier one), then cascades, then resuming after a crash; a lower one keeps
its hands off what a higher one has.

Before it claims anything, an operation of the user's may have to wait: for what it takes over to be let go, or for a
container that is just leaving. Meanwhile it has a place in the queue, from when it was asked: a later one about some of the
same containers does not go past it, but comes after it, and takes over from it. So of several that wait, the last one asked
has the last word. (`down` of everything is about what those before it will make, too.) What runs and is still to be stopped
by the one that has it is part of what an `up` takes over, though its plan has nothing to do with it.

An operation that finds the very same one under way, an `up` with the same files say, takes nothing over: it waits in the
queue until that has ended, and then mostly has nothing to do. When another operation comes behind it, which must not wait
for all that, it is `pressed`, and takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Protocol

import trio

from orchestrator.model.names import ContainerId
from orchestrator.values import entity, field, frozen


class Priority(IntEnum):
    RESUME = 0
    CASCADE = 1
    USER = 2


class Holder(Protocol):
    """An operation under way."""

    @property
    def priority(self) -> Priority: ...

    async def give_up(self, containers: frozenset[ContainerId], to: str) -> None:
        """End what the operation does with `containers`, and return when it does nothing with them any more. `to`: the verb
        that takes them over."""
        ...


@entity
class Queued:
    """In the queue of those that have not claimed anything yet. `wants`: the containers that the operation is about; None:
    nobody knows yet, or it is about all, those too that somebody before it will make. `over`: set when it has claimed them,
    or has given up. `asks`: what is equal for the same operation; None: it is like no other. `pressed`: see above."""

    asks: object = None
    wants: frozenset[ContainerId] | None = None
    over: trio.Event = field(default_factory=trio.Event)
    pressed: trio.Event = field(default_factory=trio.Event)

    def keeps_back(self, wants: frozenset[ContainerId] | None) -> bool:
        return self.wants is None or wants is None or not self.wants.isdisjoint(wants)


@frozen
class UnderWay:
    """What a holder was asked for; `over`: set when it has ended."""

    asks: object
    over: trio.Event = field(default_factory=trio.Event)


class Claims:
    """Who has which container. Changes are synchronous: nothing comes between a look and a claim."""

    def __init__(self) -> None:
        self._holders: dict[ContainerId, Holder] = {}
        self._queue: list[Queued] = []
        self._under_way: dict[Holder, UnderWay] = {}

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def awaited(self) -> bool:
        """Whether somebody is in the queue."""
        return bool(self._queue)

    def above(self, priority: Priority) -> frozenset[ContainerId]:
        """What an operation of `priority` must leave alone."""
        if priority is Priority.USER:
            return frozenset()
        return frozenset(name for name, holder in self._holders.items() if holder.priority >= priority)

    def held(self, containers: Iterable[ContainerId]) -> dict[Holder, frozenset[ContainerId]]:
        """Those of `containers` that somebody has, by holder."""
        found: dict[Holder, set[ContainerId]] = {}
        for name in containers:
            if (holder := self._holders.get(name)) is not None:
                found.setdefault(holder, set()).add(name)
        return {holder: frozenset(names) for holder, names in found.items()}

    def holds(self, holder: Holder, container: ContainerId) -> bool:
        return self._holders.get(container) is holder

    def free(self, container: ContainerId) -> bool:
        return container not in self._holders

    def claim(self, holder: Holder, containers: Iterable[ContainerId]) -> None:
        for name in containers:
            assert name not in self._holders, f"{name} is claimed twice"
            self._holders[name] = holder

    def release(self, holder: Holder, containers: Iterable[ContainerId]) -> None:
        """What `holder` does not have (any more) is passed over."""
        for name in containers:
            if self._holders.get(name) is holder:
                del self._holders[name]

    @contextmanager
    def under_way(self, holder: Holder, asks: object) -> Iterator[None]:
        """`holder` does what was asked for in the block."""
        self._under_way[holder] = known = UnderWay(asks)
        try:
            yield
        finally:
            del self._under_way[holder]
            known.over.set()

    def same(self, place: Queued, holders: Iterable[Holder]) -> UnderWay | None:
        """Who of `holders` does the same as is wanted there; None also for who is pressed."""
        if place.asks is None or place.pressed.is_set():
            return None
        known = (self._under_way.get(holder) for holder in holders)
        return next((item for item in known if item is not None and item.asks == place.asks), None)

    @contextmanager
    def queued(self, asks: object = None) -> Iterator[Queued]:
        """The last place of the queue, for as long as the operation waits."""
        place = Queued(asks)
        self._queue.append(place)
        try:
            yield place
        finally:
            self._queue.remove(place)
            place.over.set()

    def before(self, place: Queued | None, wants: frozenset[ContainerId] | None) -> Queued | None:
        """Whoever an operation that `wants` these has to come after: before `place` in the queue; None: anywhere in it."""
        ahead = self._queue[: self._queue.index(place)] if place is not None else self._queue
        return next((other for other in ahead if other.keeps_back(wants)), None)

    async def take_over(self, containers: Iterable[ContainerId], by: str) -> None:
        """Make these containers free. Somebody else may claim them before the caller does."""
        for holder, names in self.held(containers).items():
            await holder.give_up(names, by)
            self.release(holder, names)
