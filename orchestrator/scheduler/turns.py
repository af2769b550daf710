"""Who goes first where many could: so many at a time, in an order.

A machine has few processors, and one monitor. What is asked of them all at once is done in any order, and what others wait
for may be done last (docs/decisions/0024).
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

SLOW_S = 0.1


class Turns:
    """`at_once`: how many have a turn at a time, whoever has the lowest place first. Nobody waits for what is slow, such as
    the copy of a volume: when no turn has begun or ended for `SLOW_S` seconds, one more begins."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._extra = 0
        self._asked = 0
        self._waiting: list[tuple[int, int, trio.Event]] = []
        self._holders: set[object] = set()
        self._moved_s = 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """No turn begins in the block, which is about something more urgent, unless that is slow, too."""
        holder = object()
        self._holders.add(holder)
        try:
            yield
        finally:
            self._holders.discard(holder)
            self._admit()

    @asynccontextmanager
    async def turn(self, place: int) -> AsyncIterator[None]:
        """The block is a turn."""
        self._asked += 1
        asked = place, self._asked, trio.Event()
        heapq.heappush(self._waiting, asked)
        try:
            await trio.lowlevel.checkpoint()  # Others that can go at this very moment are there then, too.
            await self._begun(asked[2])
        except BaseException:
            if asked[2].is_set():
                self._over()
            else:
                self._waiting.remove(asked)
                heapq.heapify(self._waiting)
            raise
        try:
            yield
        finally:
            self._over()

    async def _begun(self, begins: trio.Event) -> None:
        self._admit()
        while not begins.is_set():
            with trio.move_on_after(SLOW_S):
                await begins.wait()
            if not begins.is_set() and trio.current_time() - self._moved_s >= SLOW_S:
                self._holders.clear()
                if not self._free:
                    self._free += 1
                    self._extra += 1
                self._admit()

    def _admit(self) -> None:
        while self._free and self._waiting and not self._holders:
            self._free -= 1
            self._moved_s = trio.current_time()
            heapq.heappop(self._waiting)[2].set()

    def _over(self) -> None:
        self._moved_s = trio.current_time()
        if self._extra:
            self._extra -= 1
        else:
            self._free += 1
        self._admit()
