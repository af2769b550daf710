"""Turns: in order, so many at a time, and nobody waits for what is slow."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orchestrator.scheduler.turns import SLOW_S, Turns


class Stage:
    """Tasks that want a turn; each lasts until it is let go. `began`: the places, in the order in which turns began."""

    def __init__(self, nursery: trio.Nursery, turns: Turns) -> None:
        self._nursery = nursery
        self._turns = turns
        self._ends: dict[int, trio.Event] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self.began: list[int] = []

    async def ask(self, *places: int) -> None:
        for place in places:
            self._ends[place], self._scopes[place] = trio.Event(), trio.CancelScope()
            self._nursery.start_soon(self._take, place)
        await wait_all_tasks_blocked()

    async def _take(self, place: int) -> None:
        with self._scopes[place]:
            async with self._turns.turn(place):
                self.began.append(place)
                await self._ends[place].wait()

    async def let_go(self, place: int) -> None:
        self._ends[place].set()
        await wait_all_tasks_blocked()

    async def cancel(self, place: int) -> None:
        self._scopes[place].cancel()
        await wait_all_tasks_blocked()


async def test_the_lowest_places_go_first_so_many_at_a_time(nursery: trio.Nursery) -> None:
    stage = Stage(nursery, Turns(2))
    await stage.ask(5, 3, 1, 4, 2)
    assert sorted(stage.began) == [1, 2]
    await stage.let_go(2)
    await stage.ask(0)
    await stage.let_go(3)
    assert stage.began[2:] == [3, 0]
    for place in (1, 0, 4, 5):
        await stage.let_go(place)
    assert stage.began[4:] == [4, 5]


@pytest.mark.parametrize("begun", [True, False])
async def test_one_that_is_cancelled_leaves_its_turn_to_the_next(nursery: trio.Nursery, begun: bool) -> None:
    stage = Stage(nursery, Turns(1))
    await stage.ask(1, 2, 3)
    await stage.cancel(1 if begun else 2)
    if not begun:
        await stage.let_go(1)
    assert stage.began == [1, 2 if begun else 3]
    await stage.let_go(2)
    await stage.let_go(3)
    await stage.ask(4)
    assert stage.began[-1] == 4
    await stage.let_go(4)


async def test_while_one_is_slow_another_begins_and_later_there_are_no_more_than_before(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stage = Stage(nursery, Turns(1))
    await stage.ask(1, 2, 3)
    assert stage.began == [1]
    await trio.sleep(2.5 * SLOW_S)
    assert stage.began == [1, 2, 3]
    for place in (1, 2, 3):
        await stage.let_go(place)
    await stage.ask(4, 5)
    assert stage.began == [1, 2, 3, 4]
    await stage.let_go(4)
    await stage.let_go(5)


async def test_what_is_more_urgent_holds_them_as_long_as_it_is_not_slow_itself(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stage = Stage(nursery, Turns(2))
    with stage._turns.held(), stage._turns.held():
        await stage.ask(1)
        assert stage.began == []
    await wait_all_tasks_blocked()
    assert stage.began == [1]
    with stage._turns.held():
        await stage.ask(2, 3)
        assert stage.began == [1]
        await trio.sleep(1.5 * SLOW_S)
        assert stage.began == [1, 2]
    for place in (1, 2, 3):
        await stage.let_go(place)
    assert stage.began == [1, 2, 3]
