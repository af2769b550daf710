"""A hundred thousand service-hours of virtual time: replicas, hooks, one-offs, crashes, operations amid all that, and
supervisors that are killed. What must hold for every one of them."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from time import process_time

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator.contracts.control import Down, Kill, Operation, Recreate, Restart, Run, Scale, Selection, Start, Stop, Up
from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.state import Wanted
from orchestrator.errors import PystackError
from orchestrator.model.hooks import Hook
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.restart import RestartPolicy
from orchestrator.model.service import InitStep
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import HEALTHY, STARTED, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace

pytestmark = pytest.mark.soak

HOUR_S = 3600.0
HOURS = 14 * 24
SERVICES = 15
STACKS = 20
OPERATIONS = 60
LIVES = 6
"""Supervisors of each stack, one after the other."""
OFTEN = (EventKind.RESTART_SCHEDULED, EventKind.HOOK_STARTED, EventKind.CONTAINER_REMOVED)
STEP = FakeService(exits_after_s=0.5)
_AT_REST = (Phase.RUNNING, Phase.EXITED, Phase.FAILED, Phase.BLOCKED, Phase.CREATED, Phase.BACKOFF, Phase.STARTING)


def stack(chance: random.Random) -> Project:
    """Three layers; everything is restarted when it ends, most of it after a failure alone."""
    services = []
    for number in range(SERVICES):
        layer = number % 3
        below = [f"s{other}" for other in range(number) if other % 3 == layer - 1]
        some = chance.sample(below, min(2, len(below)))
        needs = [edge(name, chance.choice([HEALTHY, STARTED])) for name in some]
        made = service(
            f"s{number}",
            *needs,
            restart=chance.choice(["always", "unless-stopped", "on-failure"]),
            healthcheck=check(chance.choice([1800, 3600, 7200]), start_period_s=60, start_interval_s=2),
            replicas=chance.choice([1, 1, 1, 2, 3]),
        )
        hook = Hook(tuple(chance.choice(["sleep 0.5", "exit 0 well"]).split()))
        if chance.random() < 0.3:
            made = replace(made, post_start=(hook,), pre_stop=(hook,))
        if chance.random() < 0.2:
            made = replace(made, pre_start=(InitStep(service(f"s{number}", image="step"), chance.random() < 0.5),))
        services.append(made)
    return project(*services)


def behaviours(chance: random.Random) -> dict[str, FakeService]:
    found = {}
    for number in range(SERVICES):
        ends_s = chance.choice([None, None, chance.uniform(4, 100) * HOUR_S])
        ill = [chance.choice([None, chance.uniform(1, 50) * HOUR_S]) for _ in range(4)]
        found[f"s{number}"] = FakeService(
            boot_s=chance.choice([0.0, 0.5, 3.0]),
            exits_after_s=ends_s,
            exit_code=chance.choice([1, 1, 137]),
            ill_after_s=ill,
            stops_after_s=chance.choice([0.0, 0.2]),
            ignores_sigterm=chance.random() < 0.1,
        )
    return found


def operation(chance: random.Random, made: Project) -> Operation:
    name = ServiceName(f"s{chance.randrange(SERVICES)}")
    selection = chance.choice([Selection(), Selection((name,)), Selection((name,))])
    match chance.choice(["up", "up", "change", "recreate", "scale", "run", "stop", "start", "restart", "kill"]):
        case "up":
            return Up(made, selection)
        case "change":
            changed = replace(made.services[name], labels={"changed": str(chance.random())})
            return Up(replace(made, services={**made.services, name: changed}), selection)
        case "recreate":
            return Up(made, selection, recreate=Recreate.ALWAYS)
        case "scale":
            return Scale(made, {name: chance.randint(1, 3)})
        case "run":
            alone = replace(made.services[name], restart=RestartPolicy(), replicas=1, pre_start=())
            return Run(made, alone, remove=chance.random() < 0.5)
        case "stop":
            return Stop(selection, 1.0)
        case "start":
            return Start(selection)
        case "restart":
            return Restart(selection)
        case _:
            return Kill(Selection((name,)), chance.choice(["SIGKILL", "SIGTERM", "SIGHUP"]))


async def lives(world: World, made: Project, chance: random.Random) -> None:
    """One supervisor after the other, all of them killed, with operations at random moments; the last comes to rest."""
    moments = sorted(chance.uniform(0, HOURS * HOUR_S) for _ in range(OPERATIONS))
    deaths = sorted(chance.uniform(0, HOURS * HOUR_S) for _ in range(LIVES - 1))

    async def ask(engine: Engine, request: Operation) -> None:
        with suppress(PystackError):  # Some cannot be: nothing to start, nothing of that name.
            await engine.operate(request)

    for death_s in [*deaths, HOURS * HOUR_S]:
        async with world.engine() as engine, trio.open_nursery() as nursery:
            if death_s == (deaths[0] if deaths else 0.0):
                nursery.start_soon(ask, engine, Up(made))
            while moments and moments[0] < death_s:
                await trio.sleep_until(moments.pop(0))
                nursery.start_soon(ask, engine, operation(chance, made))
            await trio.sleep_until(death_s)
            world.state.frozen = True
            nursery.cancel_scope.cancel()
        world.state.frozen = False
        await trio.sleep(chance.uniform(0, 600))
    async with world.engine() as engine:
        with trio.fail_after(3 * HOUR_S):  # A new supervisor asks again who is healthy, each after its interval.
            await engine.operate(Up(made, remove_orphans=True))
        await trio.sleep(600)
        await wait_all_tasks_blocked()
        judge_rest(engine, world, made)
        with trio.fail_after(HOUR_S):
            assert (await engine.operate(Down(made, remove_orphans=True))).ok
        assert world.runtime.existing() == ()
        assert world.networking.attached == {}


def judge_rest(engine: Engine, world: World, made: Project) -> None:
    """What is shown is what is there, and what is wanted runs, or is on its way."""
    rows = engine.statuses()
    assert {row.container for row in rows if row.pid is not None} == set(world.runtime.alive())
    assert len({(row.service, row.role, row.number) for row in rows}) == len(rows)
    for row in rows:
        assert row.phase in _AT_REST, row
        if row.wanted is Wanted.RUNNING and row.service in made.services:
            assert row.pid is not None or row.reason, row


def judge_events(events: list[Event]) -> None:
    """No end of a run is told twice, and what began and is not there any more has ended."""
    generation: Counter[str] = Counter()
    last: dict[str, object] = {}
    begun, ended = Counter[tuple[str, int, object]](), Counter[tuple[str, int, object]]()
    for event in events:
        name = event.container or ""
        if event.kind is EventKind.CONTAINER_CREATED:
            generation[name] += 1
        elif event.kind is EventKind.CONTAINER_STARTED and not event.detail.get("adopted"):
            begun[name, generation[name], event.detail["number"]] += 1
            last[name] = event.detail["number"]
        elif event.kind in (EventKind.CONTAINER_EXITED, EventKind.CONTAINER_STOPPED) and not _only_waited(event):
            ended[name, generation[name], event.detail.get("run", last.get(name))] += 1
    assert [run for run, times in ended.items() if times > 1] == []
    assert [run for run in begun if run not in ended] == []


def _only_waited(event: Event) -> bool:
    """It was stopped while it waited for its restart: that ended no run."""
    return event.kind is EventKind.CONTAINER_STOPPED and "run" not in event.detail


def test_a_hundred_thousand_service_hours_of_everything_at_once_hold_in_two_minutes() -> None:
    assert STACKS * SERVICES * HOURS >= 100_000
    began_s = process_time()
    kinds: Counter[EventKind] = Counter()
    for seed in range(STACKS):
        chance = random.Random(seed)
        made, events = stack(chance), list[Event]()

        async def main(chance: random.Random = chance, made: Project = made, events: list[Event] = events) -> None:
            def kept(event: Event) -> None:
                kinds[event.kind] += 1
                if event.kind is not EventKind.HEALTH_PROBED:
                    events.append(event)

            world = World(behaviours(chance), emit=kept, steps=STEP)
            await lives(world, made, chance)

        seeds.run(main, seed=seed)
        judge_events(events)
    took_s = process_time() - began_s
    assert min(kinds[kind] for kind in OFTEN) > 100
    assert took_s < 120, f"{took_s:.0f} s"
