"""What stands still by request: probes, stops, kills, and supervisors that come later."""

from __future__ import annotations

import trio

from orchestrator.contracts.control import Pause, Selection, Unpause
from orchestrator.contracts.events import EventKind
from orchestrator.model.health import Health
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine, Outcome
from orchestrator.testing.build import check, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, kill, row, simulate, starts, two_lives, up

STACK = project(service("web"), service("db"))
CHECKED = project(service("web", healthcheck=check(1.0, timeout_s=2.0, retries=1)))


async def pause(engine: Engine, *names: str) -> Outcome:
    return await engine.operate(Pause(Selection(tuple(map(ServiceName, names)))))


async def unpause(engine: Engine, *names: str) -> Outcome:
    return await engine.operate(Unpause(Selection(tuple(map(ServiceName, names)))))


def test_only_what_was_asked_for_stands_still_and_the_same_run_goes_on() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        assert (await pause(engine, "web")).error() is None
        assert (row(engine, "web").phase, row(engine, "db").phase) == (Phase.PAUSED, Phase.RUNNING)
        assert row(engine, "web").pid is not None
        assert (await unpause(engine, "web")).error() is None
        assert row(engine, "web").phase is Phase.RUNNING
        assert len(starts(world, "web")) == 1

    simulate(World, scene)


def test_what_is_paused_cannot_be_paused_and_what_runs_cannot_be_unpaused() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        error = (await unpause(engine, "web")).error()
        assert error is not None
        assert "container demo-web-1 is not paused" in error.message
        await pause(engine, "web")
        error = (await pause(engine)).error()
        assert error is not None
        assert "container demo-web-1 is already paused" in error.message
        assert row(engine, "db").phase is Phase.PAUSED, "the others are paused all the same"

    simulate(World, scene)


def test_a_stopped_service_is_not_touched_by_pause() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await do(engine, Verb.STOP, "web")
        assert (await pause(engine, "web")).changed == 0

    simulate(World, scene)


def test_no_probe_is_made_of_what_is_paused_and_one_that_it_interrupts_does_not_count() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, CHECKED, wait=True)
        await trio.sleep(1.2)  # One is under way.
        await pause(engine, "web")
        before = len([event for event in world.events if event.kind is EventKind.HEALTH_PROBED])
        await trio.sleep(60)
        assert len([event for event in world.events if event.kind is EventKind.HEALTH_PROBED]) == before
        await unpause(engine, "web")
        await trio.sleep(0.5)
        assert row(engine, "web").health is Health.HEALTHY
        await trio.sleep(10)
        assert len([event for event in world.events if event.kind is EventKind.HEALTH_PROBED]) > before
        assert not [event for event in world.events if event.detail.get("ok") is False and "probe" in event.kind.value]

    simulate(lambda: World({"web": FakeService(probe_s=0.4)}), scene)


def test_stop_lets_it_go_on_so_that_it_can_comply() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await pause(engine, "web")
        began_s = trio.current_time()
        await do(engine, Verb.STOP, "web")
        assert trio.current_time() - began_s < 1
        web = row(engine, "web")
        assert web.phase is Phase.EXITED
        assert web.exit is not None
        assert web.exit.signal == 15
        await do(engine, Verb.START, "web")
        assert row(engine, "web").phase is Phase.RUNNING

    simulate(World, scene)


def test_kill_restart_and_down_of_what_is_paused() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await pause(engine)
        assert await kill(engine, "web") == 1
        assert row(engine, "web").phase is Phase.EXITED
        await do(engine, Verb.START, "web")
        await pause(engine, "web")
        await do(engine, Verb.RESTART)
        assert {status.phase for status in engine.statuses()} == {Phase.RUNNING}
        await pause(engine)
        await do(engine, Verb.DOWN)
        assert world.runtime.existing() == ()

    simulate(World, scene)


def test_up_and_start_let_it_go_on() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        for starts_only in (False, True):
            await pause(engine)
            outcome = await (do(engine, Verb.START) if starts_only else up(engine, STACK, wait=True))
            assert outcome.error() is None
            assert {status.phase for status in engine.statuses()} == {Phase.RUNNING}
        assert len(starts(world, "web")) == 1

    simulate(World, scene)


def test_a_supervisor_that_comes_later_keeps_it_paused() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await pause(engine, "web")

    async def second(engine: Engine, world: World) -> None:
        assert (row(engine, "web").phase, row(engine, "db").phase) == (Phase.PAUSED, Phase.RUNNING)
        assert (await unpause(engine, "web")).error() is None
        assert row(engine, "web").phase is Phase.RUNNING

    two_lives(World, first, second)


def test_what_was_killed_while_it_stood_still_is_restarted_by_its_policy() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(service("web", restart="always")))
        await pause(engine, "web")
        await world.runtime.kill(row(engine, "web").container)  # By somebody else.
        await trio.sleep(5)
        assert row(engine, "web").phase is Phase.RUNNING
        assert len(starts(world, "web")) == 2

    simulate(World, scene)
