"""What the simulations share: running a stack in a fresh world under many orders of tasks, and reading what happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.contracts.control import Down, Kill, Operation, Restart, Selection, Start, Stop, Up
from orchestrator.contracts.events import ContainerStatus, EventKind
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine, Outcome
from orchestrator.testing import seeds
from orchestrator.testing.world import World

SEEDS = range(12)
Scene = Callable[[Engine, World], Awaitable[None]]


def simulate(world: Callable[[], World], scene: Scene, order: range = SEEDS) -> None:
    """`scene` in a fresh world, under every seed."""
    for seed in order:

        async def main() -> None:
            here = world()
            async with here.engine() as engine:
                await scene(engine, here)

        seeds.run(main, seed=seed)


def two_lives(
    world: Callable[[], World], first: Scene, second: Scene, between: Callable[[World], Awaitable[None]] | None = None
) -> None:
    """One supervisor, killed after `first`, and another one for `second`; `between` them the world goes on."""
    for seed in SEEDS:

        async def main() -> None:
            here = world()
            async with here.engine() as engine:
                await first(engine, here)
            if between is not None:
                await between(here)
            async with here.engine() as engine:
                await second(engine, here)

        seeds.run(main, seed=seed)


async def up(
    engine: Engine,
    stack: Project,
    *names: str,
    scale: dict[str, int] | None = None,
    wait: bool = False,
    timeout_s: float | None = None,
    **options: Any,
) -> Outcome:
    services = tuple(ServiceName(name) for name in names)
    numbers = {ServiceName(name): number for name, number in (scale or {}).items()}
    request = Up(stack, Selection(services), numbers, wait=wait, wait_timeout_s=timeout_s, **options)
    return await engine.operate(request)


async def do(
    engine: Engine,
    verb: Verb,
    *names: str,
    volumes: bool = False,
    remove_orphans: bool = False,
    timeout_s: float | None = None,
) -> Outcome:
    selection = Selection(tuple(ServiceName(name) for name in names))
    match verb:
        case Verb.DOWN:
            request: Operation = Down(None, selection, volumes, remove_orphans, timeout_s)
        case Verb.STOP:
            request = Stop(selection, timeout_s)
        case Verb.START:
            request = Start(selection)
        case Verb.RESTART:
            request = Restart(selection, timeout_s)
        case _:
            raise AssertionError(verb)
    return await engine.operate(request)


async def kill(engine: Engine, *names: str, signal: str = "SIGKILL") -> int:
    """How many were running."""
    selection = Selection(tuple(ServiceName(name) for name in names))
    return (await engine.operate(Kill(selection, signal))).changed


def row(engine: Engine, name: str) -> ContainerStatus:
    return next(status for status in engine.statuses() if status.service == name)


def starts(world: World, name: str) -> list[float]:
    """When `name` was started, each time."""
    return [act.at_s for act in world.runtime.acts if act.what == "start" and act.container == f"demo-{name}-1"]


def started(world: World) -> dict[str, float]:
    """When each service was first started."""
    found: dict[str, float] = {}
    for act in world.runtime.acts:
        if act.what == "start":
            found.setdefault(world.service_of(act.container), act.at_s)
    return found


def ends(world: World) -> list[tuple[str, float]]:
    """The order in which containers were sent a signal."""
    return [(world.service_of(act.container), act.at_s) for act in world.runtime.acts if act.what.startswith("signal")]


def kinds(world: World, name: str) -> list[EventKind]:
    return [event.kind for event in world.events if event.service == name]
