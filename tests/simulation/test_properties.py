"""Random stacks with random failures, under random orders of tasks: what must hold for every one of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from orchestrator.contracts.control import (
    Down,
    Kill,
    Operation,
    Recreate,
    Restart,
    Run,
    Scale,
    Selection,
    Start,
    Stop,
    Up,
)
from orchestrator.contracts.events import ContainerStatus, EventKind
from orchestrator.errors import CommandError, PystackError
from orchestrator.model.health import Health, HealthCheck, Look, LookKind
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import LIVE, Phase
from orchestrator.model.project import Project
from orchestrator.model.restart import Backoff, Budget, RestartPolicy
from orchestrator.model.service import Cascade, Condition, Dependency
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import check, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import ends, started, up

# Without a limit it is waited for as long as it runs, and some never listen.
LISTENING = HealthCheck(look=Look(LookKind.LISTENING, any=True), timeout_s=60.0)
LISTENING_IN_TIME = HealthCheck(look=Look(LookKind.LISTENING, any=True), timeout_s=3.0)
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
                cascade=draw(st.sampled_from([None, None, *Cascade])),
            )
            for target in targets
        ]
        services.append(
            service(
                f"s{number}",
                *needs,
                restart=draw(st.sampled_from(["no", "always", "on-failure:2", "unless-stopped"])),
                healthcheck=draw(st.sampled_from([None, check(1, retries=2, timeout_s=2), LISTENING, LISTENING_IN_TIME])),
                stop_grace_s=draw(st.sampled_from([0.0, 1.0, 10.0])),
                replicas=draw(st.sampled_from([1, 1, 1, 2, 3, 0])),
            )
        )
    tuned = draw(st.sampled_from([None, None, (Backoff(1, 1, 1), Budget(3, 60)), (Backoff(0.5, 3, 9, 0.5), None)]))
    if tuned is not None:
        services = [
            replace(item, restart=replace(item.restart, window_s=2.0, backoff=tuned[0], budget=tuned[1]))
            for item in services
        ]
    found = {f"s{number}": draw(behaviours()) for number in range(count)}
    for item in services:
        for edge in item.depends_on.values():
            if edge.condition is Condition.COMPLETED and found[edge.service].exits_after_s is None:
                # A job that never ends is waited for without an end, as it should be.
                found[edge.service] = replace(found[edge.service], exits_after_s=draw(MOMENTS))
    return Case(project(*services), found, draw(st.integers(0, 1000)))


def held_before(world: World, dependent: str, dependency: Dependency, replicas: int) -> bool:
    """Whether the events that came before `dependent` first started say that the condition held by then, for all replicas
    of the dependency."""
    held = set()
    for event in world.events:
        if event.service == dependent and event.kind is EventKind.CONTAINER_STARTING:
            break
        if event.service != dependency.service:
            continue
        match dependency.condition:
            case Condition.STARTED if event.kind is EventKind.CONTAINER_STARTED:
                held.add(event.container)
            case Condition.HEALTHY if event.kind is EventKind.HEALTH_CHANGED and event.detail["health"] == "healthy":
                held.add(event.container)
            case Condition.COMPLETED if event.kind is EventKind.CONTAINER_EXITED and event.detail["exit_status"] == 0:
                held.add(event.container)
            case _:
                pass
    return len(held) == replicas


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
                rows = [row for row in engine.statuses() if row.service == name]
                assert [row.number for row in rows] == list(range(1, item.replicas + 1))
                if name not in begun:
                    assert {row.phase for row in rows} <= {Phase.FAILED, Phase.BLOCKED}, rows
                    assert not (rows and outcome.ok)
                    assert all(row.reason for row in rows)
                    continue
                for dependency in item.depends_on.values():
                    replicas = case.stack.services[dependency.service].replicas
                    held = held_before(world, name, dependency, replicas)
                    assert held or not dependency.required, (name, dependency)
            await trio.sleep(300)
            await wait_all_tasks_blocked()
            nothing_stands_still_for_what_is_back(engine, case.stack)
            # STOPPING: of a cascade's restart, say, of who takes its time.
            coming = (Phase.BACKOFF, Phase.STARTING, Phase.STOPPING)
            about_to = {row.container for row in engine.statuses() if row.phase in coming}
            assert set(world.runtime.prepared()) <= about_to
            with trio.fail_after(900):
                await take_down(engine, world)

    seeds.run(main, seed=case.seed)


def nothing_stands_still_for_what_is_back(engine: Engine, stack: Project) -> None:
    """Who is frozen (nobody has paused anything) depends on something that is to come back, and has not yet."""
    rows = engine.statuses()
    for row in rows:
        if row.phase is Phase.PAUSED:
            leaders = [name for name, edge in stack.services[row.service].depends_on.items()
                       if edge.after_crash is Cascade.FREEZE]  # fmt: skip
            found = [other for other in rows if other.service in leaders]
            assert any(other.phase in LIVE and not back(other, stack) for other in found), (row, found)


def back(row: ContainerStatus, stack: Project) -> bool:
    checked = stack.services[row.service].healthcheck is not None
    return row.phase is Phase.RUNNING and (not checked or row.health is Health.HEALTHY)


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
            nothing_stands_still_for_what_is_back(engine, case.stack)
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


REQUESTS = st.sampled_from(["up", "scale", "run", "stop", "start", "restart", "kill", "down"])


def request_of(draw: st.DrawFn, stack: Project) -> Operation:
    """Anything that a user may ask for, of some of the services or all of them."""
    name = draw(st.sampled_from(sorted(stack.services)))
    selection = draw(st.sampled_from([Selection(), Selection((name,))]))
    match draw(REQUESTS):
        case "up":
            recreate = draw(st.sampled_from([Recreate.CHANGED, Recreate.CHANGED, Recreate.ALWAYS]))
            networks = draw(st.lists(st.sampled_from(["default", "front", "back"]), min_size=1, unique=True))
            rewired = replace(stack.services[name], networks=service(name, networks=networks).networks)
            changed = project(*{**stack.services, name: rewired}.values())
            return Up(draw(st.sampled_from([stack, changed])), selection, recreate=recreate)
        case "scale":
            return Scale(stack, {name: draw(st.integers(0, 3))})
        case "run":
            definition = replace(stack.services[name], restart=RestartPolicy(), replicas=1)
            return Run(stack, definition, remove=draw(st.booleans()), dependencies=draw(st.booleans()))
        case "stop":
            return Stop(selection, 1.0)
        case "start":
            return Start()
        case "restart":
            return Restart()
        case "kill":
            return Kill(selection)
        case _:
            return Down()


@st.composite
def days(draw: st.DrawFn) -> tuple[Case, list[tuple[float, Operation]]]:
    """A stack, and what users ask for at which moment."""
    case = draw(cases())
    moments = draw(st.lists(st.floats(0, 15), min_size=1, max_size=6))
    return case, [(moment_s, request_of(draw, case.stack)) for moment_s in sorted(moments)]


@settings(max_examples=120, deadline=None)
@given(days(), st.none() | st.floats(0, 15))
def test_whatever_is_asked_for_at_once_comes_to_an_end_and_leaves_no_trace(
    day: tuple[Case, list[tuple[float, Operation]]], killed_s: float | None
) -> None:
    """Replicas, one-offs and operations that meet one another, under a supervisor that may be killed amid them."""
    case, requests = day

    async def ask(engine: Engine, request: Operation) -> None:
        with suppress(PystackError):  # Some cannot be: nothing to start, nothing of that name.
            await engine.operate(request)

    async def main() -> None:
        world = World(case.behaviours)
        async with world.engine() as engine:
            with trio.move_on_after(killed_s if killed_s is not None else 900) as scope:
                async with trio.open_nursery() as nursery:
                    for moment_s, request in requests:
                        await trio.sleep_until(moment_s)
                        nursery.start_soon(ask, engine, request)
            assert not scope.cancelled_caught or killed_s is not None, "an operation did not end"
        async with world.engine() as engine:
            await trio.sleep(300)
            await wait_all_tasks_blocked()
            live = {row.container for row in engine.statuses() if row.pid is not None}
            assert live == set(world.runtime.alive())
            assert len({(row.service, row.role, row.number) for row in engine.statuses()}) == len(engine.statuses())
            await take_down(engine, world)

    seeds.run(main, seed=case.seed)
