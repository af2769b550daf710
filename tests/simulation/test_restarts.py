"""Restart policies with a back-off, a window and a budget of their own, and stops by hand that are remembered."""

from __future__ import annotations

import trio

from orchestrator.contracts.state import Wanted
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.restart import Backoff, Budget, RestartKind, RestartPolicy
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, kill, row, simulate, starts, two_lives, up

ALWAYS = RestartKind.ALWAYS


def stack(policy: RestartPolicy) -> Project:
    return project(replace(service("web"), restart=policy))


def test_a_flat_delay_is_kept_between_all_restarts() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack(RestartPolicy(ALWAYS, backoff=Backoff(5, 1, 5))))
        await trio.sleep(20)
        assert starts(world, "web") == [0, 6, 12, 18]

    simulate(lambda: World({"web": FakeService(crashes=[1] * 9)}), scene)


def test_attempts_that_lasted_are_forgiven_also_by_the_next_supervisor() -> None:
    made = stack(RestartPolicy(ALWAYS, 2, 5, Backoff(1, 1, 1)))

    async def first(engine: Engine, world: World) -> None:
        await up(engine, made)
        await trio.sleep(30)  # Runs of 10 s: two have ended, and the third goes on.
        assert row(engine, "web").restarts == 2

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(40)
        assert row(engine, "web").phase is Phase.FAILED
        assert len(starts(world, "web")) == 5
        assert "given up after 2 restarts that lasted less than 5s" in row(engine, "web").reason

    two_lives(lambda: World({"web": FakeService(crashes=[10, 10, 10, 1, 1, 1, 1])}), first, second)


def test_a_budget_that_is_spent_is_the_end() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack(RestartPolicy(ALWAYS, backoff=Backoff(1, 1, 1), budget=Budget(3, 60))))
        await trio.sleep(100)
        assert starts(world, "web") == [0, 2, 4, 6]
        assert row(engine, "web").phase is Phase.FAILED
        await up(engine, stack(RestartPolicy(ALWAYS, backoff=Backoff(1, 1, 1), budget=Budget(3, 60))))
        await trio.sleep(100)
        assert len(starts(world, "web")) == 8  # A user has started it: it has its budget again.

    simulate(lambda: World({"web": FakeService(crashes=[1] * 99)}), scene)


POLICIES = project(
    *(service(f"a{number}", restart=text) for number, text in enumerate(["no", "on-failure", "unless-stopped", "always"]))
)


async def _stopped_by_hand(engine: Engine, _world: World) -> None:
    await up(engine, POLICIES)
    await do(engine, Verb.STOP, "a0", "a1", "a2")
    await kill(engine, "a3")
    assert {status.wanted for status in engine.statuses()} == {Wanted.STOPPED}


def test_a_stop_by_hand_is_remembered_by_the_next_supervisor() -> None:
    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(100)
        assert world.runtime.alive() == ()

    two_lives(World, _stopped_by_hand, second)


def test_a_reboot_starts_what_was_stopped_by_hand_only_with_always() -> None:
    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(100)
        assert world.runtime.alive() == ("demo-a3-1",)
        await do(engine, Verb.STOP, "a3")

    async def between(world: World) -> None:
        world.reboot()

    two_lives(World, _stopped_by_hand, second, between)


def test_a_stop_after_a_reboot_is_remembered_in_that_boot() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(service("web", restart="always")))
        await do(engine, Verb.STOP, "web")

    async def life(world: World) -> None:
        async with world.engine() as engine:
            await trio.sleep(1)
            assert world.runtime.alive() == ("demo-web-1",)
            await do(engine, Verb.STOP, "web")
        async with world.engine():
            await trio.sleep(100)
            assert world.runtime.alive() == ()

    async def between(world: World) -> None:
        world.reboot()
        await life(world)

    async def nothing(engine: Engine, world: World) -> None:
        assert world.runtime.alive() == ()

    two_lives(World, scene, nothing, between)
