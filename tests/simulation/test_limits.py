"""A second `up` of which only limits have changed: no new container."""

from __future__ import annotations

from orchestrator.contracts.control import Recreate, Up
from orchestrator.contracts.events import EventKind
from orchestrator.model.limits import Limits
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import edge, project, service
from orchestrator.testing.world import World
from tests.simulation.stage import do, row, simulate, starts, two_lives, up

SMALL = project(service("web", edge("db", restart=True)), service("db", limits=Limits(memory_bytes=64 << 20, cpus=1.0)))
LARGE = project(service("web", edge("db", restart=True)), service("db", limits=Limits(memory_bytes=96 << 20, pids=50)))
OTHER = project(service("web", edge("db", restart=True)), service("db", limits=Limits(pids=7), command=("x",)))
DB = "demo-db-1"


def updates(world: World) -> list[str]:
    return [act.container for act in world.runtime.acts if act.what == "update"]


def test_the_run_goes_on_with_the_new_limits_and_nobody_is_restarted_for_it() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, SMALL)
        made = row(engine, "db").config_hash
        text = (await engine.plan(Up(LARGE))).render()
        assert text == "up demo:\n  update db: limits changed: cpus, memory, pids\n"
        outcome = await up(engine, LARGE)
        assert (outcome.error(), outcome.changed) == (None, 1)
        assert updates(world) == [DB]
        assert len(starts(world, "db")) == len(starts(world, "web")) == 1
        assert row(engine, "db").config_hash != made
        assert EventKind.CONTAINER_UPDATED in [event.kind for event in world.events]
        assert (await engine.plan(Up(LARGE))).empty, "it is as if it had been made so"

    simulate(World, scene)


def test_what_was_updated_is_known_by_a_supervisor_that_comes_later() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, SMALL)
        await up(engine, LARGE)

    async def second(engine: Engine, world: World) -> None:
        assert (await engine.plan(Up(LARGE))).empty
        await up(engine, SMALL)
        assert updates(world) == [DB, DB]

    two_lives(World, first, second)


def test_when_anything_else_has_changed_too_it_is_replaced() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, SMALL)
        await up(engine, OTHER)
        assert updates(world) == []
        assert len(starts(world, "db")) == 2

    simulate(World, scene)


def test_when_it_is_to_be_replaced_or_kept_in_any_case_that_is_done() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, SMALL)
        await up(engine, LARGE, recreate=Recreate.NEVER)
        assert (updates(world), len(starts(world, "db"))) == ([], 1)
        await up(engine, LARGE, "db", recreate=Recreate.ALWAYS)
        assert (updates(world), len(starts(world, "db"))) == ([], 2)

    simulate(World, scene)


def test_what_is_stopped_is_started_with_the_new_limits() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, SMALL)
        await do(engine, Verb.STOP, "db")
        await up(engine, LARGE)
        acts = [act.what for act in world.runtime.acts if act.container == DB]
        assert acts[-2:] == ["update", "start"]
        assert row(engine, "db").phase is Phase.RUNNING

    simulate(World, scene)
