"""A plan that is carried out later: exactly that plan, or nothing."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.control import Down, Operation, Restart, Selection, Up
from orchestrator.errors import BusyError, MovedError
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.plan import Plan, Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import Scene, do, kill, simulate, up


def stack(image: str = "host") -> Project:
    return project(service("db", healthcheck=check(1), restart="always", image=image), service("web", edge("db", HEALTHY)))


def run(scene: Scene, behaviours: dict[str, FakeService] | None = None) -> None:
    simulate(lambda: World(behaviours), scene, range(4))


async def refused(engine: Engine, world: World, request: Operation, seal: object, names: str) -> None:
    """And nothing is done, nor anything recorded of it."""
    acts, statuses = list(world.runtime.acts), engine.statuses()
    with pytest.raises(MovedError, match="not as it was") as raised:
        await engine.operate(request, expected=seal)  # type: ignore[arg-type]
    assert names in str(raised.value)
    assert raised.value.exit_code == 3
    assert world.runtime.acts == acts
    assert engine.statuses() == statuses


def test_a_plan_of_an_unmoved_world_is_carried_out_as_it_was_made() -> None:
    async def scene(engine: Engine, world: World) -> None:
        plan, seal = await engine.sealed(Up(stack()))
        done: list[Plan] = []
        await engine.operate(Up(stack()), expected=seal, on_planned=done.append)
        assert [item.operations for item in done] == [plan.operations]
        _, seal = await engine.sealed(Restart())
        assert (await engine.operate(Restart(), expected=seal)).ok
        _, seal = await engine.sealed(Down())
        assert (await engine.operate(Down(), expected=seal)).ok
        assert world.runtime.existing() == ()

    run(scene)


@pytest.mark.parametrize(("verb", "names"), [(Verb.STOP, "container demo-web-1"), (Verb.DOWN, "container demo-db-1")])
def test_what_was_done_to_a_container_meanwhile_is_named(verb: Verb, names: str) -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack())
        request = Up(stack("redis"))
        _, seal = await engine.sealed(request)
        await do(engine, verb, *(["web"] if verb is Verb.STOP else []))
        await refused(engine, world, request, seal, names)

    run(scene)


def test_another_stack_an_image_that_is_another_one_and_a_new_volume_are_named() -> None:
    async def scene(engine: Engine, world: World) -> None:
        request = Up(stack("redis"))
        _, seal = await engine.sealed(request)
        world.images.identities["redis"] = "another"
        await refused(engine, world, request, seal, "the image of db")
        _, seal = await engine.sealed(request)
        other = replace(stack("redis"), services={"web": service("web")})
        await refused(engine, world, Up(other), seal, "the image of db")

    run(scene)


def test_a_crash_that_the_restart_policy_has_cured_moves_nothing() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack(), wait=True)
        request = Restart(Selection((ServiceName("web"),)))
        _, seal = await engine.sealed(request)
        await trio.sleep(20)  # db has crashed meanwhile, and is up again.
        assert [row.restarts for row in engine.statuses() if row.service == "db"] == [1]
        assert (await engine.operate(request, expected=seal)).ok

    run(scene, {"db": FakeService(crashes=[10])})


def test_containers_of_another_operation_are_not_taken_over() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack(), wait=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(do, engine, Verb.RESTART, "web")
            await trio.sleep(1)  # It is being stopped.
            request = Restart(Selection((ServiceName("web"),)))
            _, seal = await engine.sealed(request)
            with pytest.raises(BusyError):
                await engine.operate(request, expected=seal)
        assert [row.restarts for row in engine.statuses()] == [0, 0]
        assert await kill(engine, "web") == 1

    run(scene, {"web": FakeService(stops_after_s=5)})


def test_what_a_pull_policy_wants_anew_is_left_alone() -> None:
    async def scene(engine: Engine, world: World) -> None:
        world.images.due["redis"] = "newer"
        request = Up(stack("redis"))
        _, seal = await engine.sealed(request)
        assert (await engine.operate(request, expected=seal)).ok
        assert world.images.obtained == []

    run(scene)
