"""The recorded stack is the whole one, whatever was selected; a container is kept by what it was made from."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.control import Kill, Restart, Selection, Start, Stop, Up
from orchestrator.errors import InputError, OperationError
from orchestrator.model.health import Health
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import COMPLETED, HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, row, simulate, starts, two_lives, up


def with_inactive(stack: Project, *names: str) -> Project:
    return replace(stack, inactive=frozenset(ServiceName(name) for name in names))


async def second_life_knows_both(engine: Engine, world: World) -> None:
    assert {status.service for status in engine.statuses()} == {"a", "b"}


def test_up_of_one_service_forgets_no_other() -> None:
    stack = project(service("a", restart="always"), service("b", restart="always"))

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await up(engine, stack, "a", remove_orphans=True)
        assert world.runtime.alive() == ("demo-a-1", "demo-b-1")
        assert engine.project == stack
        for request in (Stop(Selection((ServiceName("b"),))), Start(Selection((ServiceName("b"),)))):
            assert (await engine.operate(request)).ok
        assert (await engine.operate(Restart(Selection((ServiceName("b"),))))).ok
        assert (await engine.operate(Kill(Selection((ServiceName("b"),)), "HUP"))).ok
        assert (await engine.plan(Up(stack))).empty

    async def second(engine: Engine, world: World) -> None:
        await second_life_knows_both(engine, world)
        assert (await do(engine, Verb.DOWN)).ok
        assert world.runtime.existing() == ()

    two_lives(World, first, second)


def test_services_of_inactive_profiles_are_known_and_no_orphans() -> None:
    stack = project(service("a"), service("b", profiles=("debug",)))
    off = with_inactive(stack, "b")

    async def body(engine: Engine, world: World) -> None:
        await up(engine, off)
        assert world.runtime.alive() == ("demo-a-1",)
        await up(engine, off, "b")
        assert world.runtime.alive() == ("demo-a-1", "demo-b-1")
        plan = await engine.plan(Up(off, remove_orphans=True))
        assert (plan.empty, plan.orphans) == (True, {})
        assert (await do(engine, Verb.STOP, "b")).ok
        assert (await do(engine, Verb.DOWN)).ok
        assert world.runtime.existing() == ()

    simulate(World, body)


def test_a_dependency_of_an_inactive_profile_is_an_error_and_an_optional_one_is_not_waited_for() -> None:
    needs = with_inactive(project(service("web", "db"), service("db", profiles=("x",))), "db")
    may = with_inactive(project(service("web", edge("db", HEALTHY, required=False)), service("db", profiles=("x",))), "db")

    async def body(engine: Engine, world: World) -> None:
        with pytest.raises(InputError, match='service "web" needs "db", whose profile is not active'):
            await up(engine, needs)
        assert (await up(engine, may)).ok
        assert world.runtime.alive() == ("demo-web-1",)

    simulate(World, body)


def test_an_edit_of_one_service_does_not_change_how_a_running_one_is_kept() -> None:
    before = project(service("a"), service("b", restart="always", healthcheck=check(1)))
    after = project(service("a"), service("b", restart="no"))

    async def first(engine: Engine, world: World) -> None:
        await up(engine, before)
        await up(engine, after, "a")
        await trio.sleep(5)
        assert len(starts(world, "b")) == 2
        assert row(engine, "b").health is Health.HEALTHY

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(10)
        assert len(starts(world, "b")) == 3
        assert row(engine, "b").health is Health.HEALTHY
        plan = await engine.plan(Up(after))
        assert {item.cause for item in plan.operations if item.service == "b"} == {
            "config hash changed: healthcheck, restart",
            "created",
        }
        await up(engine, after)
        await trio.sleep(30)
        assert row(engine, "b").phase is Phase.EXITED

    two_lives(lambda: World({"b": FakeService(crashes=[3, 8, 20])}), first, second)


def migrating() -> Project:
    return project(
        service("db", healthcheck=check(1), volumes=["data:/var/lib/db"]),
        service("migrate", edge("db", HEALTHY)),
        service("web", edge("migrate", COMPLETED)),
    )


def test_what_is_to_be_made_on_a_network_that_the_stack_has_no_more_is_an_error() -> None:
    """It was never made, and the stack has been edited since."""
    before = project(service("a", networks=("front",)), service("b"))
    after = project(service("a"), service("b"))

    async def body(engine: Engine, world: World) -> None:
        assert not (await up(engine, before)).ok
        await up(engine, after, "b")
        refused = (await engine.operate(Restart())).error()
        assert refused is not None
        assert refused.message == 'the stack has no network "front" any more'
        assert row(engine, "b").phase is Phase.RUNNING

    simulate(lambda: World({"a": FakeService(start_error=OperationError("no room"))}), body)


def test_a_migration_runs_again_when_the_database_was_replaced() -> None:
    stack = migrating()
    after = replace(
        stack, services={**stack.services, ServiceName("db"): replace(stack.services[ServiceName("db")], init=True)}
    )

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert (await engine.plan(Up(stack))).empty
        await do(engine, Verb.RESTART, "db")
        assert (await engine.plan(Up(stack))).empty
        plan = await engine.plan(Up(after))
        assert [item.cause for item in plan.operations if item.service == "migrate"] == ["db was replaced"]
        assert (await up(engine, after)).ok
        assert len(starts(world, "migrate")) == 2
        assert (await engine.plan(Up(after))).empty

    simulate(lambda: World({"migrate": FakeService(exits_after_s=1)}), body)


def test_a_migration_runs_again_when_the_database_was_made_anew_by_an_up_of_its_own() -> None:
    stack = migrating()

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.DOWN, "db")
        await up(engine, stack, "db")
        plan = await engine.plan(Up(stack))
        assert [item.cause for item in plan.operations] == ["db was replaced"]

    simulate(lambda: World({"migrate": FakeService(exits_after_s=1)}), body)


def test_a_migration_runs_again_when_a_volume_is_new() -> None:
    stack = migrating()

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)

    async def second(engine: Engine, world: World) -> None:
        assert (await engine.plan(Up(stack))).empty
        volume = next(iter(stack.volumes.values()))
        world.volumes.remove(volume)
        plan = await engine.plan(Up(stack))
        assert [item.cause for item in plan.operations if item.service == "migrate"] == ["volume data is new"]
        world.volumes.ensure(volume)
        assert [item.cause for item in (await engine.plan(Up(stack))).operations] == ["volume data is new"]
        assert (await up(engine, stack)).ok
        assert (await engine.plan(Up(stack))).empty

    two_lives(lambda: World({"migrate": FakeService(exits_after_s=1)}), first, second)


def test_up_wait_of_a_service_in_a_crash_loop_fails() -> None:
    stack = project(service("web", restart="always"))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack, wait=True)
        error = outcome.error()
        assert error is not None
        assert error.message == "web ended 5 times before it was running, the last time it exited with code 1"

    simulate(lambda: World({"web": FakeService(crashes=[0.5] * 100)}), body)
    simulate(lambda: World({"web": FakeService(crashes=[1.5] * 100)}), lambda *here: still_crashes(*here))


async def still_crashes(engine: Engine, world: World) -> None:
    """One second is enough for the first run; once it has crashed, a run has to last as long as the back-off's reset."""
    stack = project(service("web", restart="always"))
    assert (await up(engine, stack, wait=True)).ok
    await trio.sleep(2)
    begun = trio.current_time()
    assert (await up(engine, stack, "web", wait=True, recreate=Up(stack).recreate)).ok
    assert trio.current_time() - begun <= 2
