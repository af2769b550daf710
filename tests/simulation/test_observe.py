"""Who talks to whom is counted where the stack wants that."""

from __future__ import annotations

import trio

from orchestrator.contracts.control import Down
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import simulate, two_lives, up

STACK = project(service("api"))
OBSERVED = replace(STACK, observe=True)


def test_it_is_counted_from_an_up_that_wants_it_to_the_last_network() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        assert not world.networking.observing
        await up(engine, OBSERVED)
        assert world.networking.observing
        await up(engine, STACK)
        assert world.networking.observing, "whoever counts ends that"
        await engine.operate(Down())
        assert not world.networking.observing

    simulate(World, scene)


def test_it_is_counted_again_after_a_reboot() -> None:
    stack = replace(project(service("api", restart="always")), observe=True)

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)

    async def between(world: World) -> None:
        world.reboot()

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(10)
        assert world.networking.observing

    two_lives(World, first, second, between)
