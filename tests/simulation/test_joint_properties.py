"""Rolling updates, cascades, hooks, jobs, pauses and connections by hand, at once: what must hold whatever meets what."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contracts.control import (
    Connect,
    Disconnect,
    Down,
    Kill,
    Operation,
    Pause,
    Recreate,
    Remove,
    Restart,
    Run,
    Scale,
    Selection,
    Start,
    Stop,
    Unpause,
    Up,
)
from orchestrator.errors import PystackError
from orchestrator.model.health import Health, HealthCheck, Look, LookKind
from orchestrator.model.hooks import Hook
from orchestrator.model.job import Job, Schedule
from orchestrator.model.names import Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Cascade, Condition, Dependency
from orchestrator.model.single_run import as_single_run
from orchestrator.model.updating import FailureAction, Order, UpdateRules
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import check, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace

DB, API, CLIENT, BACKUP = (ServiceName(name) for name in ("db", "api", "client", "backup"))
LISTENING = HealthCheck(look=Look(LookKind.LISTENING, any=True), timeout_s=3.0)
MOMENTS_S = st.sampled_from([0.0, 0.3, 1.0, 2.5, 6.0])


@dataclass(frozen=True, slots=True)
class Site:
    """`rules`, `health`, `hooks`, `replicas`: of `db`, on which `api` depends by `edge`."""

    rules: UpdateRules | None
    health: HealthCheck | None
    hooks: bool
    replicas: int
    edge: Dependency
    restart: str
    api_rules: UpdateRules | None
    scheduled: bool

    def stack(self, version: int, api: int = 1) -> Project:
        hooks = (Hook(("true",)),) if self.hooks else ()
        db = service(
            "db",
            environment={"V": str(version)},
            healthcheck=self.health,
            update=self.rules,
            replicas=self.replicas,
            restart=self.restart,
            post_start=hooks,
            pre_stop=hooks,
        )
        more = service("api", self.edge, environment={"V": str(api)}, restart="always", replicas=2, update=self.api_rules)
        job = replace(service("backup", "db"), job=True)
        made = project(db, more, service("client", networks=("default", "back")), job)
        schedule = (Schedule("* * * * *", "", "UTC"),) if self.scheduled else ()
        return replace(made, inactive=frozenset({BACKUP}), jobs={BACKUP: Job(True, schedule)})


RULES = st.builds(
    UpdateRules,
    order=st.sampled_from(Order),
    parallelism=st.integers(0, 2),
    delay_s=st.sampled_from([0.0, 0.5]),
    monitor_s=st.sampled_from([0.0, 1.0, 6.0]),
    on_failure=st.sampled_from(FailureAction),
    max_failure_ratio=st.sampled_from([0.0, 0.4, 1.0]),
)
EDGES = st.builds(
    Dependency,
    st.just(DB),
    st.sampled_from([Condition.STARTED, Condition.HEALTHY]),
    restart=st.booleans(),
    cascade=st.sampled_from([None, Cascade.FREEZE, Cascade.FREEZE, Cascade.RESTART, Cascade.IGNORE]),
)
SITES = st.builds(
    Site,
    rules=RULES,
    health=st.sampled_from([check(1, retries=2, timeout_s=2), LISTENING]),
    hooks=st.booleans(),
    replicas=st.integers(1, 3),
    edge=EDGES,
    restart=st.sampled_from(["no", "always", "on-failure:2"]),
    api_rules=st.none() | RULES,
    scheduled=st.booleans(),
)
FATES = st.builds(
    FakeService,
    boot_s=st.sampled_from([0.0, 0.4]),
    healthy_after_s=st.sampled_from([0.0, 0.0, 2.0, 1e9]),
    crashes=st.lists(st.sampled_from([0.3, 3.0, 9.0]), max_size=2).map(tuple),
    stops_after_s=st.sampled_from([0.0, 1.0]),
)
WELL = FakeService(boot_s=0.2, healthy_after_s=0.5, stops_after_s=0.3)
QUICK = FakeService(exits_after_s=2)
Request = tuple[str, int, ServiceName]
REQUESTS = st.tuples(
    st.sampled_from(
        ["up", "up", "up", "force", "scale", "stop", "start", "restart", "kill", "pause", "unpause", "remove", "connect",
         "disconnect", "run", "down"]
    ),
    st.integers(1, 3),
    st.sampled_from([DB, DB, API, CLIENT]),
)  # fmt: skip


def operation(site: Site, request: Request) -> Operation:
    verb, number, name = request
    selection = Selection((name,))
    match verb:
        case "up":
            return Up(site.stack(number))
        case "force":
            return Up(site.stack(number), selection, recreate=Recreate.ALWAYS)
        case "scale":
            return Scale(site.stack(number), {name: number % 3})
        case "stop":
            return Stop(selection, 1.0)
        case "start":
            return Start(selection)
        case "restart":
            return Restart(selection)
        case "kill":
            return Kill(selection)
        case "pause":
            return Pause(selection)
        case "unpause":
            return Unpause(selection)
        case "remove":
            return Remove(selection, stop=number > 1)
        case "connect":
            return Connect("back", name)
        case "disconnect":
            return Disconnect("default", name)
        case "run":
            made = site.stack(1)
            return Run(made, as_single_run(made.services[BACKUP]), remove=number > 1)
        case _:
            return Down()


async def ask(engine: Engine, request: Operation) -> None:
    with suppress(PystackError):  # Some cannot be: nothing to start, nothing of that name.
        await engine.operate(request)


@settings(max_examples=120, deadline=None)
@given(
    SITES,
    st.lists(st.tuples(st.floats(0, 12), REQUESTS), min_size=1, max_size=5),
    FATES,
    st.none() | st.floats(0, 12),
    st.integers(0, 99),
)
def test_whatever_meets_an_update_each_place_has_one_container_and_the_next_up_is_right(
    site: Site, requests: list[tuple[float, Request]], fate: FakeService, killed_s: float | None, seed: int
) -> None:
    async def main() -> None:
        world = World({"db": WELL, "api": WELL, "backup": QUICK})
        async with world.engine() as engine:
            with trio.fail_after(300):
                assert (await engine.operate(Up(site.stack(1), wait=True))).ok
            world.behave("db", fate)
            begun_s = trio.current_time()
            deadline_s = killed_s if killed_s is not None else 1200
            with trio.move_on_after(deadline_s) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, engine, Up(site.stack(2)))
                    for moment_s, request in sorted(requests):
                        await trio.sleep_until(begun_s + moment_s)
                        nursery.start_soon(ask, engine, operation(site, request))
            assert not scope.cancelled_caught or killed_s is not None, "an operation did not end"
            if killed_s is None:
                await trio.sleep(120)
                one_in_each_place(engine, world)
        world.behave("db", WELL)
        async with world.engine() as engine:
            await trio.sleep(120)
            one_in_each_place(engine, world)
            with trio.fail_after(600):
                await ask(engine, Unpause())
                await trio.sleep(60)  # What `fate` has in store for those that stood still.
                outcome = await engine.operate(Up(site.stack(3), scale={DB: site.replicas, API: 2}, wait=True))
            assert outcome.ok, outcome
            await trio.sleep(120)
            one_in_each_place(engine, world)
            rows = [row for row in engine.statuses() if row.service == DB]
            assert [row.number for row in rows] == list(range(1, site.replicas + 1))
            assert {row.phase for row in engine.statuses() if row.role is Role.REPLICA} == {Phase.RUNNING}
            record = world.state.load()
            assert record is not None
            made = [item.definition.service.environment["V"] for item in record.containers if item.instance.service == DB]
            assert made == ["3"] * site.replicas
            assert (await engine.operate(Down(volumes=True))).ok
            assert world.runtime.existing() == ()
            assert not world.networking.reserved
            assert not world.networking.networks
            assert world.state.load() is None

    seeds.run(main, seed=seed)


def one_in_each_place(engine: Engine, world: World) -> None:
    """Nothing is half of an update, runs unseen, or stands still for somebody who is back."""
    rows = engine.statuses()
    replicas = [(row.service, row.number) for row in rows if row.role is Role.REPLICA]
    assert len(set(replicas)) == len(replicas), rows
    assert {row.container for row in rows if row.pid is not None} == set(world.runtime.alive())
    assert not engine._state.rolling
    record = world.state.load()
    for item in record.containers if record is not None else ():
        assert not item.succeeds, item
        assert not item.took_over, item
        if item.frozen_for:
            there = {row.container: row for row in rows}
            leaders = [there[name] for name in item.frozen_for if name in there]
            coming = (Phase.BACKOFF, Phase.STARTING, Phase.RUNNING, Phase.PAUSED)
            assert any(leader.phase in coming for leader in leaders), item
            back = [leader.phase is Phase.RUNNING and leader.health in (Health.NONE, Health.HEALTHY) for leader in leaders]
            assert not all(back), item
