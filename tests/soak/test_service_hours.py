"""A hundred thousand service-hours of virtual time, of everything at once: replicas, hooks, one-offs, jobs, cascades,
rolling updates and crashes, operations amid all that, and supervisors that are killed. What must hold for each of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import process_time

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator.contracts.control import Down, Kill, Operation, Recreate, Restart, Run, Scale, Selection, Start, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.state import Wanted
from orchestrator.errors import PystackError
from orchestrator.model.hooks import Hook
from orchestrator.model.job import Concurrency, Job, MissedFires, Schedule
from orchestrator.model.names import Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.restart import RestartPolicy
from orchestrator.model.service import Cascade, Dependency, InitStep, Service
from orchestrator.model.single_run import as_single_run
from orchestrator.model.updating import FailureAction, Order, UpdateRules
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import HEALTHY, STARTED, check, edge, project, service
from orchestrator.testing.fake_runtime import EPOCH, FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.soak.witness import Witness

pytestmark = pytest.mark.soak

HOUR_S = 3600.0
HOURS = 14 * 24
SERVICES = 15
STACKS = 20
OPERATIONS = 60
LIVES = 6
"""Supervisors of each stack, one after the other."""
OFTEN = (
    EventKind.RESTART_SCHEDULED,
    EventKind.HOOK_STARTED,
    EventKind.CONTAINER_REMOVED,
    EventKind.CONTAINER_ANNOUNCED,
    EventKind.JOB_DUE,
    EventKind.CASCADE,
)
JOBS = (ServiceName("hourly"), ServiceName("nightly"))
VERBS = ("up", "up", "change", "change", "recreate", "scale", "run", "job", "stop", "start", "restart", "kill")
SICK = FakeService(crashes=[1.0] * 99)
STEP = FakeService(exits_after_s=0.5)


def stack(chance: random.Random) -> Project:
    """Three layers; everything is restarted when it ends, most of it after a failure alone. And two jobs."""
    services = []
    for number in range(SERVICES):
        layer = number % 3
        below = [f"s{other}" for other in range(number) if other % 3 == layer - 1]
        needs = [_edge(chance, name) for name in chance.sample(below, min(2, len(below)))]
        made = service(
            f"s{number}",
            *needs,
            restart=chance.choice(["always", "unless-stopped", "on-failure"]),
            healthcheck=check(chance.choice([1800, 3600, 7200]), start_period_s=60, start_interval_s=2),
            replicas=chance.choice([1, 1, 1, 2, 3]),
            update=_rules(chance),
        )
        hook = Hook(tuple(chance.choice(["sleep 0.5", "exit 0 well"]).split()))
        if chance.random() < 0.3:
            made = replace(made, post_start=(hook,), pre_stop=(hook,))
        if chance.random() < 0.2:
            made = replace(made, pre_start=(InitStep(service(f"s{number}", image="step"), chance.random() < 0.5),))
        services.append(made)
    return _with_jobs(services, chance)


def _edge(chance: random.Random, name: str) -> Dependency:
    after_crash = chance.choice([None, Cascade.RESTART, Cascade.FREEZE, Cascade.IGNORE])
    return replace(edge(name, chance.choice([HEALTHY, STARTED]), restart=chance.random() < 0.3), cascade=after_crash)


def _rules(chance: random.Random) -> UpdateRules | None:
    if chance.random() < 0.3:
        return None
    return UpdateRules(
        chance.choice(list(Order)),
        parallelism=chance.choice([0, 1, 1, 2]),
        delay_s=chance.choice([0.0, 10.0]),
        monitor_s=chance.choice([0.0, 5.0]),
        on_failure=chance.choice([*FailureAction, FailureAction.ROLLBACK]),
    )


def _with_jobs(services: list[Service], chance: random.Random) -> Project:
    """One of them beside a service that it needs."""
    alone, beside = service("hourly"), service("nightly", edge("s0", STARTED))
    made = project(*services, replace(alone, job=True), replace(beside, job=True))
    minute, missed = chance.randrange(60), chance.choice(list(MissedFires))
    crons = {JOBS[0]: f"{minute} */2 * * *", JOBS[1]: f"{minute} 3 * * *"}
    concurrency = chance.choice(list(Concurrency))
    jobs = {name: Job(True, (Schedule(cron, "", "UTC", concurrency, missed),)) for name, cron in crons.items()}
    return replace(made, inactive=frozenset(JOBS), jobs=jobs)


def due(made: Project, begin_s: float, end_s: float) -> list[tuple[ServiceName, float]]:
    """By arithmetic: the instants of the schedules (epoch seconds) between these moments of virtual time."""
    found = []
    for name, job in made.jobs.items():
        minute, hours, *_ = job.schedule[0].cron.split()
        each_s, first_s = (7200, 0) if hours == "*/2" else (86400, 3 * 3600)
        offset_s = first_s + int(minute) * 60
        at = (EPOCH + begin_s) // each_s * each_s + offset_s
        while at < EPOCH + end_s:
            if at > EPOCH + begin_s:
                found.append((name, at))
            at += each_s
    return found


def behaviours(chance: random.Random) -> dict[str, FakeService]:
    found = {str(name): FakeService(exits_after_s=chance.uniform(1, 900)) for name in JOBS}
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


def operation(chance: random.Random, made: Project, name: ServiceName) -> Operation:
    # A bare `stop` would end the schedules.
    everything = Selection(tuple(item for item in made.services if item not in JOBS))
    selection = chance.choice([everything, Selection((name,)), Selection((name,))])
    match chance.choice(VERBS):
        case "up":
            return Up(made, chance.choice([Selection(), selection]))
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
        case "job":
            return Run(made, as_single_run(made.services[chance.choice(JOBS)]), detach=True)
        case "stop":
            return Stop(selection, 1.0)
        case "start":
            return Start(selection)
        case "restart":
            return Restart(selection)
        case _:
            return Kill(Selection((name,)), chance.choice(["SIGKILL", "SIGTERM", "SIGHUP"]))


def asked_in(world: World, made: Project, chance: random.Random) -> Callable[[Engine], Awaitable[None]]:
    async def ask(engine: Engine) -> None:
        """One operation. Now and then what it starts does not live for long: updates fail."""
        name = ServiceName(f"s{chance.randrange(SERVICES)}")
        request, well = operation(chance, made, name), world.behaviour(name)
        if chance.random() < 0.3:
            world.behave(name, SICK)
        with suppress(PystackError):  # Some cannot be: nothing to start, nothing of that name.
            await engine.operate(request)
        world.behave(name, well if well is not SICK else FakeService())

    return ask


async def lives(world: World, made: Project, chance: random.Random, witness: Witness) -> None:
    """One supervisor after the other, all of them killed, with operations at random moments; the last comes to rest."""
    moments = sorted(chance.uniform(HOUR_S, HOURS * HOUR_S) for _ in range(OPERATIONS))
    deaths = sorted(chance.uniform(HOUR_S, HOURS * HOUR_S) for _ in range(LIVES - 1))
    ask = asked_in(world, made, chance)
    for death_s in [*deaths, HOURS * HOUR_S]:
        async with world.engine() as engine, trio.open_nursery() as nursery:
            witness.engine = engine
            if death_s == deaths[0]:
                nursery.start_soon(engine.operate, Up(made))
            while moments and moments[0] < death_s:
                await trio.sleep_until(moments.pop(0))
                nursery.start_soon(ask, engine)
            await trio.sleep_until(death_s)
            world.state.frozen, witness.engine = True, None
            nursery.cancel_scope.cancel()
        world.state.frozen = False
        await trio.sleep(chance.uniform(0, 600))
    for name, behaviour in behaviours(random.Random(0)).items():
        world.behave(name, replace(behaviour, ill_after_s=(), exits_after_s=None if name not in JOBS else 60.0))
    async with world.engine() as engine:
        witness.engine = engine
        with trio.fail_after(3 * HOUR_S):  # A new supervisor asks again who is healthy, each after its interval.
            await engine.operate(Up(made, remove_orphans=True))
        await trio.sleep(1200)
        await wait_all_tasks_blocked()
        judge_rest(engine, world, made)
        witness.judge_jobs(due(made, 60.0, trio.current_time()))
        witness.engine = None
        with trio.fail_after(HOUR_S):
            assert (await engine.operate(Down(made, remove_orphans=True))).ok
        assert world.runtime.existing() == ()
        assert world.networking.attached == {}
    witness.judge_ends()


def judge_rest(engine: Engine, world: World, made: Project) -> None:
    """What is shown is what is there; what is wanted runs, or is on its way, in the one container of its place, and is made
    from what the stack says."""
    rows = [row for row in engine.statuses() if row.role is Role.REPLICA]
    assert {row.container for row in engine.statuses() if row.pid is not None} == set(world.runtime.alive())
    record = world.state.load()
    assert record is not None
    known = {item.container: item for item in record.containers}
    assert not [item for item in known.values() if item.succeeds or item.took_over or item.frozen_for]
    for name, definition in made.services.items():
        if name not in JOBS:
            replicas = [row for row in rows if row.service == name]
            assert [row.number for row in replicas] == list(range(1, definition.replicas + 1)), name
            assert {row.phase for row in replicas} == {Phase.RUNNING}, replicas
            assert {known[row.container].wanted for row in replicas} == {Wanted.RUNNING}, name
            assert {known[row.container].definition.service.labels.get("changed") for row in replicas} == {None}, name


def test_a_hundred_thousand_service_hours_of_everything_at_once_hold_in_two_minutes() -> None:
    assert STACKS * SERVICES * HOURS >= 100_000
    began_s = process_time()
    kinds: Counter[EventKind] = Counter()
    rolled_back = 0
    for seed in range(STACKS):
        chance = random.Random(seed)
        made = stack(chance)
        witness = Witness(made, kinds)

        async def main(chance: random.Random = chance, made: Project = made, witness: Witness = witness) -> None:
            world = World(behaviours(chance), emit=witness.see, steps=STEP)
            await lives(world, made, chance, witness)

        seeds.run(main, seed=seed)
        rolled_back += witness.rolled_back
    took_s = process_time() - began_s
    assert min(kinds[kind] for kind in OFTEN) > 100, kinds
    assert rolled_back > 10
    assert took_s < 120, f"{took_s:.0f} s"
