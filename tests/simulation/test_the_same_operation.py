"""The same operation several times at once: one does the work, the others wait for it and find nothing to do."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.events import EventKind
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import SAME_S, Engine, Outcome
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, row, simulate, starts, up

STACK = project(service("db", healthcheck=check(1, retries=10**6)), service("web", edge("db", HEALTHY)))
SLOW = {"db": FakeService(create_s=0.5, boot_s=0.5, healthy_after_s=30)}
SICK = {"db": FakeService(healthy_after_s=1e9)}


def test_all_succeed_and_everything_is_started_once() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcomes: list[Outcome] = []

        async def begin(after_s: float, wait: bool) -> None:
            await trio.sleep(after_s)
            outcomes.append(await up(engine, STACK, wait=wait))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(begin, number // 2, number % 2 == 1)
        assert [outcome.error() for outcome in outcomes] == [None] * 5
        assert len(starts(world, "db")) == len(starts(world, "web")) == 1

    simulate(lambda: World(SLOW), body)


def test_another_operation_waits_for_none_of_them() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcomes: list[Outcome] = []

        async def begin() -> None:
            outcomes.append(await up(engine, STACK))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(begin)
            await trio.sleep(3)
            assert any("the same `up`" in event.text for event in world.events if event.kind is EventKind.WARNING)
            with trio.fail_after(5):
                assert (await do(engine, Verb.STOP)).ok
        assert len(outcomes) == 3
        assert not any(outcome.ok for outcome in outcomes)
        assert world.runtime.alive() == ()
        assert row(engine, "web").phase is Phase.CREATED

    simulate(lambda: World(SICK), body)


def test_one_that_takes_too_long_is_taken_over() -> None:
    async def body(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                error = (await up(engine, STACK)).error()
                assert error is not None
                assert 'taken over by "up"' in error.message
                assert trio.current_time() - began_s >= SAME_S
                nursery.cancel_scope.cancel()

            began_s = trio.current_time()
            nursery.start_soon(first)
            await trio.sleep(1)
            nursery.start_soon(up, engine, STACK)

    simulate(lambda: World(SICK), body)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.START, Verb.RESTART, Verb.DOWN])
def test_so_it_is_with_other_verbs(verb: Verb) -> None:
    async def body(engine: Engine, world: World) -> None:
        outcomes: list[Outcome] = []

        async def begin() -> None:
            outcomes.append(await do(engine, verb))

        assert (await up(engine, STACK)).ok
        if verb is Verb.START:
            await do(engine, Verb.STOP)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(begin)
        assert [outcome.error() for outcome in outcomes] == [None] * 4
        assert (len(world.runtime.existing()) == 2) == (verb is not Verb.DOWN)
        assert (world.state.load() is None) == (verb is Verb.DOWN)

    simulate(lambda: World(SLOW), body)
