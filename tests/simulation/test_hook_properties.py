"""Random stacks with hooks of every kind, random failures and ends: what must hold for every one of them."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from orchestrator.contracts.control import Restart, Stop
from orchestrator.contracts.events import Event, EventKind
from orchestrator.model.hooks import Hook
from orchestrator.model.names import Instance, Role, ServiceName, init_id
from orchestrator.model.project import Project
from orchestrator.model.service import InitStep, Service
from orchestrator.testing import seeds
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import up
from tests.simulation.test_properties import Case, cases, take_down

COMMANDS = st.sampled_from(["exit 0 well", "sleep 0.5", "sleep 2", "exit 3 ill", "missing"])
ENDING = st.sampled_from(["exit 0 well", "sleep 0.2"])
"""Those of which none fails: whatever else happens, a `down` is to go well."""


@dataclass(frozen=True, slots=True)
class Hooked:
    stack: Project
    case: Case
    steps: tuple[FakeService, ...]

    def world(self) -> World:
        """Steps behave the same for every service and replica."""
        world = World(self.case.behaviours)
        for name in self.stack.services:
            for number in range(1, 5):
                for step, behaviour in enumerate(self.steps):
                    container = init_id(self.stack.name, Instance(name, number=number), step)
                    world.runtime.behaviours[container] = behaviour
        return world


@st.composite
def hooked(draw: st.DrawFn) -> Hooked:
    case = draw(cases())

    def hooks(commands: st.SearchStrategy[str]) -> tuple[Hook, ...]:
        return tuple(Hook(tuple(text.split())) for text in draw(st.lists(commands, max_size=2)))

    def step(name: ServiceName) -> InitStep:
        return InitStep(service(str(name), image="steps"), draw(st.booleans()))

    def with_hooks(item: Service) -> Service:
        steps = tuple(step(item.name) for _ in range(draw(st.sampled_from([0, 0, 1, 2]))))
        return replace(item, post_start=hooks(COMMANDS), pre_stop=hooks(ENDING), pre_start=steps)

    ends = st.builds(FakeService, exits_after_s=st.sampled_from([0.0, 0.5, 2.0]), exit_code=st.sampled_from([0, 0, 0, 1]))
    return Hooked(
        project(*(with_hooks(item) for item in case.stack.services.values())), case, (draw(ends), draw(ends))
    )


def failed_in_first_runs(world: World) -> list[Event]:
    """Hooks: of the runs after them it is the policy that decides, and no operation."""
    failed, again = [], set()
    for event in world.events:
        if event.kind is EventKind.RESTART_SCHEDULED:
            again.add(event.container)
        elif event.kind is EventKind.HOOK_FAILED and event.container not in again:
            failed.append(event)
    return failed


@settings(max_examples=30, deadline=None)
@given(hooked())
def test_every_operation_ends_and_nothing_that_runs_before_stays(found: Hooked) -> None:
    async def main() -> None:
        world = found.world()
        async with world.engine() as engine:
            with trio.fail_after(900):
                outcome = await up(engine, found.stack)
            assert not (failed_in_first_runs(world) and outcome.ok), "an operation tells what failed in it"
            assert all(row.role is Role.REPLICA for row in engine.statuses())
            with trio.fail_after(900):
                await engine.operate(Restart())
                await engine.operate(Stop())
                await take_down(engine, world)

    seeds.run(main, seed=found.case.seed)


@settings(max_examples=25, deadline=None)
@given(hooked(), st.floats(0, 8))
def test_an_up_cancelled_at_any_moment_leaves_no_step(found: Hooked, cancelled_s: float) -> None:
    async def main() -> None:
        world = found.world()
        async with world.engine() as engine:
            with trio.move_on_after(cancelled_s):
                await up(engine, found.stack, wait=True)
            await wait_all_tasks_blocked()
            assert all(row.role is Role.REPLICA for row in engine.statuses())
            assert not [name for name in world.runtime.existing() if "-init-" in name]
            with trio.fail_after(900):
                await take_down(engine, world)

    seeds.run(main, seed=found.case.seed)


@settings(max_examples=25, deadline=None)
@given(hooked(), st.floats(0, 8), st.floats(0, 10))
def test_a_supervisor_killed_at_any_moment_is_followed_by_one_that_finishes(
    found: Hooked, killed_s: float, pause_s: float
) -> None:
    async def main() -> None:
        world = found.world()
        async with world.engine() as engine, trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, found.stack)
            await trio.sleep(killed_s)
            world.state.frozen = True
            nursery.cancel_scope.cancel()
        world.state.frozen = False
        await trio.sleep(pause_s)
        async with world.engine() as engine:
            await trio.sleep(300)
            assert all(row.role is Role.REPLICA for row in engine.statuses())
            with trio.fail_after(900):
                await take_down(engine, world)

    seeds.run(main, seed=found.case.seed)
