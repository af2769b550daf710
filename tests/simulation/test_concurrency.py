"""Several operations at once: claims by container, and taking over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from orchestrator.contracts.control import Down, Kill, Operation, Remove, Restart, Selection, Start, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.state import Wanted
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine, Outcome
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import Scene, do, kill, row, simulate, up

STACK = project(
    service("db", healthcheck=check(1, retries=10**6), restart="always"),
    service("web", edge("db", HEALTHY), restart="always"),
    service("other"),
)
SICK = {"db": FakeService(healthy_after_s=1e9)}


async def beside_a_waiting_up(
    engine: Engine, act: Callable[[], Awaitable[object]], *, names: tuple[str, ...] = ()
) -> Outcome:
    """What becomes of an `up` that waits for ever when `act` is done beside it."""
    outcomes: list[Outcome] = []

    async def wait() -> None:
        outcomes.append(await up(engine, STACK, *names))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(3)
        await act()
        with trio.move_on_after(60) as scope:
            while not outcomes:
                await trio.sleep(1)
        assert not scope.cancelled_caught, "the up still waits"
    return outcomes[0]


def test_stop_takes_the_waiting_start_over_and_ends_it() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcome = await beside_a_waiting_up(engine, lambda: do(engine, Verb.STOP))
        error = outcome.error()
        assert error is not None
        assert 'start web: taken over by "stop"' in error.message
        assert world.runtime.alive() == ()
        assert not engine.running()
        assert {status.phase for status in engine.statuses()} <= {Phase.EXITED, Phase.CREATED}
        world.behave("db", FakeService())
        assert (await up(engine, STACK)).ok

    simulate(lambda: World(SICK), body)


def test_down_takes_everything_over_and_leaves_nothing() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcome = await beside_a_waiting_up(engine, lambda: do(engine, Verb.DOWN))
        assert not outcome.ok
        assert world.runtime.existing() == ()
        assert not world.networking.networks
        assert world.state.load() is None

    simulate(lambda: World(SICK), body)


def test_down_amid_the_very_first_steps_of_an_up_leaves_nothing() -> None:
    slow: dict[str, FakeService] = {name: FakeService(create_s=0.5, boot_s=0.5) for name in STACK.services}

    for moment_s in (0.001, 0.2, 0.5, 0.7, 1.0, 1.2):

        async def body(engine: Engine, world: World, moment_s: float = moment_s) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up, engine, STACK)
                await trio.sleep(moment_s)
                assert (await do(engine, Verb.DOWN)).ok
            assert world.runtime.existing() == ()
            assert not world.networking.networks
            assert world.state.load() is None

        simulate(lambda: World(slow), body)


def test_another_up_of_something_else_works_beside_it() -> None:
    async def body(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, STACK, "web")
            await trio.sleep(3)
            assert (await up(engine, STACK, "other")).ok
            assert row(engine, "other").phase is Phase.RUNNING
            assert row(engine, "web").phase is Phase.WAITING
            world.behave("db", FakeService())
        assert row(engine, "web").phase is Phase.RUNNING

    simulate(lambda: World(SICK), body)


def test_two_ups_that_need_the_same_new_network_share_it() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcomes: list[Outcome] = []

        async def one(name: str) -> None:
            outcomes.append(await up(engine, STACK, name))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "other")
            nursery.start_soon(one, "db")
        assert all(outcome.ok for outcome in outcomes)
        made = [event for event in world.events if event.kind is EventKind.NETWORK_CREATED]
        assert len(made) == 1

    simulate(World, body)


def test_a_restart_of_what_is_waited_for_is_waited_for() -> None:
    async def body(engine: Engine, world: World) -> None:
        async def act() -> None:
            world.behave("db", FakeService(healthy_after_s=2))
            assert (await do(engine, Verb.RESTART, "db")).ok

        assert (await beside_a_waiting_up(engine, act)).ok
        assert row(engine, "web").phase is Phase.RUNNING

    simulate(lambda: World(SICK), body)


def test_a_stop_of_what_is_waited_for_ends_the_wait_with_its_reason() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcome = await beside_a_waiting_up(engine, lambda: do(engine, Verb.STOP, "db"))
        error = outcome.error()
        assert error is not None
        assert "db was stopped by request" in error.message
        assert outcome.blocked == ("web",)
        assert row(engine, "other").phase is Phase.RUNNING

    simulate(lambda: World(SICK), body)


def test_kill_works_beside_it_too() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcome = await beside_a_waiting_up(engine, lambda: kill(engine))
        assert not outcome.ok
        assert world.runtime.alive() == ()

    simulate(lambda: World(SICK), body)


def test_up_amid_a_slow_stop_starts_it_again_when_it_has_ended() -> None:
    stack = project(service("db", stop_grace_s=20))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        stopped: list[Outcome] = []

        async def stop() -> None:
            stopped.append(await do(engine, Verb.STOP))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await trio.sleep(2)
            assert (await up(engine, stack)).ok
        assert trio.current_time() == 5.0
        assert not stopped[0].ok
        assert row(engine, "db").phase is Phase.RUNNING
        assert len([act for act in world.runtime.acts if act.what == "start"]) == 2

    simulate(lambda: World({"db": FakeService(stops_after_s=5)}), body)


@pytest.mark.parametrize("first", [Up(STACK), Stop(), Start(), Restart(), Down(), Kill()])
@pytest.mark.parametrize("second", [Up(STACK), Stop(), Start(), Restart(), Down(), Kill()])
def test_any_operation_amid_any_other_comes_to_an_end_and_the_later_one_is_obeyed(
    first: Operation, second: Operation
) -> None:
    behaviour = FakeService(create_s=0.3, boot_s=0.3, stops_after_s=0.7)
    slow: dict[str, FakeService] = dict.fromkeys(STACK.services, behaviour)

    for moment_s in (0.001, 0.4, 0.9):

        async def body(engine: Engine, world: World, moment_s: float = moment_s) -> None:
            await up(engine, STACK)
            with trio.fail_after(200):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(engine.operate, first)
                    await trio.sleep(moment_s)
                    await engine.operate(second)
            await trio.sleep(30)
            living = {status.service for status in engine.statuses() if status.phase is Phase.RUNNING}
            match second:
                case Up():
                    assert living == STACK.services.keys()
                case Stop() | Kill() | Down():
                    assert living == set()
                    assert isinstance(second, Down) <= (engine.statuses() == ())
                case _:
                    assert len(living) in (0, 1, 2, 3)
            assert (await do(engine, Verb.DOWN)).ok
            assert world.runtime.existing() == ()
            assert not world.networking.networks
            assert not world.networking.reserved

        simulate(lambda: World(slow), body, range(3))


@pytest.mark.parametrize("request_", [Stop(Selection(())), Down(), Remove(Selection(()), stop=True)], ids=repr)
@pytest.mark.parametrize("names", [(), ("db",)])
def test_an_up_of_what_is_to_be_stopped_later_keeps_it(request_: Operation, names: tuple[str, ...]) -> None:
    """Its dependent has still to end before it is told to; an `up` finds it running, and nothing to do about it."""
    stack = project(service("db", healthcheck=check(1)), service("web", edge("db", HEALTHY)))
    for after_s in (0.0, 1.0, 6.0, 9.0):

        async def body(engine: Engine, world: World, after_s: float = after_s) -> None:
            await up(engine, stack, wait=True)
            planned = trio.Event()

            async def act() -> None:
                await engine.operate(request_, on_planned=lambda _plan: planned.set())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(act)
                await planned.wait()
                await trio.sleep(after_s)
                assert (await up(engine, stack, *names, wait=True)).ok
            await trio.sleep(60)
            assert "demo-db-1" in world.runtime.alive()
            record = world.state.load()
            assert record is not None
            assert {item.wanted for item in record.containers if item.instance.service == "db"} == {Wanted.RUNNING}
            assert [item.id for item in engine._state.replicas(ServiceName("db"))] == ["demo-db-1"]
            if not names:
                assert "demo-web-1" in world.runtime.alive()

        behaviours = {"db": FakeService(stops_after_s=3), "web": FakeService(stops_after_s=5)}
        simulate(lambda behaviours=behaviours: World(behaviours), body, range(3))  # type: ignore[misc]


def test_a_down_after_an_up_that_still_waits_takes_what_that_makes() -> None:
    """Nothing is there when it is asked: of the first `up` nothing any more, of the second one nothing yet."""
    stack = project(service("db", replicas=2), service("other"))
    for steps in range(8):

        async def body(engine: Engine, world: World, steps: int = steps) -> None:
            asked = trio.Event()

            async def second() -> None:
                asked.set()
                await engine.operate(Up(stack))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.operate, Up(stack))
                await trio.lowlevel.checkpoint()
                nursery.start_soon(second)
                await asked.wait()
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                await engine.operate(Down())
            assert world.runtime.existing() == ()
            assert not world.networking.reserved

        simulate(lambda: World({"db": FakeService(boot_s=0.3, create_s=0.1)}), body)


def test_what_is_taken_over_while_it_is_made_is_made_again_by_the_later_up() -> None:
    slow: dict[str, FakeService] = {name: FakeService(create_s=1.0) for name in STACK.services}

    async def body(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, STACK)
            await trio.sleep(0.5)
            assert (await up(engine, STACK)).ok
        assert {status.phase for status in engine.statuses()} == {Phase.RUNNING}

    simulate(lambda: World(slow), body)


def test_a_selection_of_containers_touches_them_alone() -> None:
    stack = project(service("web", replicas=3))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await engine.operate(Stop(Selection(containers=(world.container("web", 2),))))
        assert world.runtime.alive() == ("demo-web-1", "demo-web-3")
        await engine.operate(Start(Selection(containers=(world.container("web", 2),))))
        assert len(world.runtime.alive()) == 3
        await engine.operate(Down(None, Selection((ServiceName("web"),))))
        assert engine.statuses() == ()

    simulate(World, body)


@pytest.mark.parametrize("request_", [Up(STACK), Restart()], ids=["up", "restart"])
def test_what_runs_after_an_up_that_met_another_operation_is_recorded_as_wanted(request_: Operation) -> None:
    """At whichever moment of its starts that comes."""
    for moment in range(2, 60, 2):  # At the second checkpoint at the latest the first one has been asked.

        async def body(engine: Engine, world: World, moment: int = moment) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.operate, request_)
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                assert (await up(engine, STACK)).ok
            assert [(status.phase, status.wanted) for status in engine.statuses()] == [(Phase.RUNNING, Wanted.RUNNING)] * 3

        async def after_up(engine: Engine, world: World, body: Scene = body) -> None:
            if isinstance(request_, Restart):
                await up(engine, STACK)
            await body(engine, world)

        simulate(lambda: World({}), after_up, range(3))


@pytest.mark.parametrize("stopped_before", [False, True])
def test_what_a_stop_amid_an_up_has_stopped_is_recorded_as_stopped(stopped_before: bool) -> None:
    """At whichever moment it comes: the next supervisor goes by what is on disk."""
    changed = project(
        *(replace(item, environment={"V": "2"}) for item in STACK.services.values() if item.name != "web"),
        STACK.services[ServiceName("web")],
    )
    for moment in range(2, 100, 7):

        async def body(engine: Engine, world: World, moment: int = moment) -> None:
            await up(engine, STACK)
            if stopped_before:
                await do(engine, Verb.STOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up, engine, changed)
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                await do(engine, Verb.STOP)
            record = world.state.load()
            assert record is not None
            assert world.runtime.alive() == ()
            assert {item.container: item.wanted for item in record.containers if item.wanted is Wanted.RUNNING} == {}

        simulate(lambda: World({}), body, range(2))
