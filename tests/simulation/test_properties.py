"""Random stacks with random failures, under random orders of tasks: what must hold for every one of them."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from orchestrator.contracts.control import Down, Stop
from orchestrator.contracts.events import EventKind
from orchestrator.errors import CommandError
from orchestrator.model.health import Health
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Condition, Dependency
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import check, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import ends, started, up

MOMENTS = st.sampled_from([0.0, 0.05, 0.5, 1.0, 2.5, 7.0])


@dataclass(frozen=True, slots=True)
class Case:
    stack: Project
    behaviours: dict[str, FakeService]
    seed: int


@st.composite
def behaviours(draw: st.DrawFn) -> FakeService:
    return draw(
        st.builds(
            FakeService,
            boot_s=MOMENTS,
            healthy_after_s=st.sampled_from([0.0, 0.5, 2.0, 1e9]),
            ill_after_s=st.lists(st.none() | MOMENTS, max_size=2).map(tuple),
            exits_after_s=st.none() | MOMENTS,
            exit_code=st.sampled_from([0, 0, 1]),
            crashes=st.lists(MOMENTS, max_size=3).map(tuple),
            ignores_sigterm=st.booleans(),
            stops_after_s=MOMENTS,
            probe_s=st.sampled_from([0.0, 0.3, 9.0]),
            create_s=st.sampled_from([0.0, 0.2]),
            start_error=st.sampled_from([None, None, None, CommandError("not found", exit_code=127)]),
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 7))
    services = []
    for number in range(count):
        targets = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        needs = [
            Dependency(
                ServiceName(f"s{target}"),
                draw(st.sampled_from(list(Condition))),
                required=draw(st.sampled_from([True, True, False])),
                restart=draw(st.booleans()),
            )
            for target in targets
        ]
        services.append(
            service(
                f"s{number}",
                *needs,
                restart=draw(st.sampled_from(["no", "always", "on-failure:2", "unless-stopped"])),
                healthcheck=draw(st.none() | st.just(check(1, retries=2, timeout_s=2))),
                stop_grace_s=draw(st.sampled_from([0.0, 1.0, 10.0])),
            )
        )
    found = {f"s{number}": draw(behaviours()) for number in range(count)}
    for item in services:
        for edge in item.depends_on.values():
            if edge.condition is Condition.COMPLETED and found[edge.service].exits_after_s is None:
                # A job that never ends is waited for without an end, as it should be.
                found[edge.service] = replace(found[edge.service], exits_after_s=draw(MOMENTS))
    return Case(project(*services), found, draw(st.integers(0, 1000)))


def held_before(world: World, dependent: str, dependency: Dependency) -> bool:
    """Whether the events that came before `dependent` first started say that the condition held by then."""
    for event in world.events:
        if event.service == dependent and event.kind is EventKind.CONTAINER_STARTING:
            return False
        if event.service != dependency.service:
            continue
        match dependency.condition:
            case Condition.STARTED if event.kind is EventKind.CONTAINER_STARTED:
                return True
            case Condition.HEALTHY if event.kind is EventKind.HEALTH_CHANGED and event.detail["health"] == "healthy":
                return True
            case Condition.COMPLETED if event.kind is EventKind.CONTAINER_EXITED and event.detail["exit_status"] == 0:
                return True
            case _:
                pass
    return False


@settings(max_examples=150, deadline=None)
@given(cases())
def test_no_dependent_starts_before_its_conditions_hold_and_every_run_ends(case: Case) -> None:
    async def main() -> None:
        world = World(case.behaviours)
        async with world.engine() as engine:
            with trio.fail_after(900):
                outcome = await up(engine, case.stack)
            begun = started(world)
            for name, item in case.stack.services.items():
                status = next(row for row in engine.statuses() if row.service == name)
                if name not in begun:
                    assert status.phase in (Phase.FAILED, Phase.BLOCKED), status
                    assert not outcome.ok
                    assert status.reason
                    continue
                for dependency in item.depends_on.values():
                    assert held_before(world, name, dependency) or not dependency.required, (name, dependency)
            await trio.sleep(300)
            with trio.fail_after(900):
                await take_down(engine, world)

    seeds.run(main, seed=case.seed)


async def take_down(engine: Engine, world: World) -> None:
    outcome = await engine.operate(Down(volumes=True))
    assert outcome.ok, outcome
    assert world.runtime.existing() == ()
    assert not world.networking.reserved
    assert not world.networking.networks
    assert world.state.load() is None
    assert not engine.running()


@settings(max_examples=80, deadline=None)
@given(cases())
def test_everything_stops_in_reverse_order(case: Case) -> None:
    steady = {
        name: FakeService(stops_after_s=item.stops_after_s, boot_s=item.boot_s) for name, item in case.behaviours.items()
    }
    healthy = [
        service(name, *(Dependency(target) for target in item.depends_on), restart="always")
        for name, item in case.stack.services.items()
    ]
    stack = project(*healthy)

    async def main() -> None:
        world = World(steady)
        async with world.engine() as engine:
            assert (await up(engine, stack)).ok
            await engine.operate(Stop())
            order = [name for name, _ in ends(world)]
            assert sorted(order) == sorted(stack.services)
            over = [event.service for event in world.events if event.kind is EventKind.CONTAINER_STOPPED]
            asked = [event.service for event in world.events if event.kind is EventKind.CONTAINER_STOPPING]
            timeline = [(event.kind, event.service) for event in world.events]
            for name, item in stack.services.items():
                for target in item.depends_on:
                    ended = timeline.index((EventKind.CONTAINER_STOPPED, name))
                    assert ended < timeline.index((EventKind.CONTAINER_STOPPING, target))
            assert len(over) == len(asked) == len(stack.services)

    seeds.run(main, seed=case.seed)


@settings(max_examples=80, deadline=None)
@given(cases(), st.floats(0, 12), st.floats(0, 30))
def test_a_supervisor_killed_at_any_moment_loses_nothing(case: Case, killed_s: float, pause_s: float) -> None:
    """Kill it amid `up`, let time pass, start another one: it comes to rest, knows every container, and takes all down."""

    async def main() -> None:
        world = World(case.behaviours)
        async with world.engine() as engine:
            with trio.move_on_after(killed_s):
                await up(engine, case.stack, wait=True)
                await trio.sleep_forever()
            alive = world.runtime.alive()
        await trio.sleep(pause_s)
        async with world.engine() as engine:
            shown = {row.container for row in engine.statuses()}
            assert shown >= set(world.runtime.alive())
            assert shown >= set(alive)
            await trio.sleep(300)
            await wait_all_tasks_blocked()  # What ends at this very instant has been seen to end.
            for row in engine.statuses():
                live = row.container in world.runtime.alive()
                assert (row.pid is not None) == live
                assert row.health is Health.NONE or live
            await take_down(engine, world)

    seeds.run(main, seed=case.seed)


@settings(max_examples=80, deadline=None)
@given(cases(), st.floats(0, 12))
def test_an_up_cancelled_at_any_moment_leaves_nothing_half_made(case: Case, cancelled_s: float) -> None:
    async def main() -> None:
        world = World(case.behaviours)
        async with world.engine() as engine:
            with trio.move_on_after(cancelled_s) as scope:
                await up(engine, case.stack, wait=True)
            if scope.cancelled_caught:
                ran = {act.container for act in world.runtime.acts if act.what == "start"}
                await trio.sleep(10)  # A start that was under way may end.
                ran |= {act.container for act in world.runtime.acts if act.what == "start"}
                assert set(world.runtime.existing()) <= ran
            assert set(world.networking.reserved) <= set(world.runtime.existing())
            await take_down(engine, world)

    seeds.run(main, seed=case.seed)
