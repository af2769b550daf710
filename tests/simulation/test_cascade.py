"""What follows for its dependents when a service has crashed and its policy restarts it."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.control import Pause, Selection, Stop, Unpause
from orchestrator.contracts.events import EventKind
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Cascade
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, kinds, row, simulate, starts, two_lives, up

DB = FakeService(crashes=(10,), healthy_after_s=2)
"""It is healthy from 2 to 10, and again from 12.1 on."""


def stack(cascade: Cascade | None, *, restart: bool = False, policy: str = "always", replicas: int = 1) -> Project:
    return project(
        service("db", restart=policy, healthcheck=check(1, retries=99)),
        service("api", edge("db", HEALTHY, cascade=cascade, restart=restart), replicas=replicas),
        service("web", edge("api", restart=True)),
        service("other", edge("db", HEALTHY)),
    )


@pytest.mark.parametrize("made", [stack(Cascade.RESTART), stack(None, restart=True)])
def test_dependents_are_restarted_when_it_is_back(made: Project) -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, made)).ok
        await trio.sleep(30)
        assert starts(world, "db") == [0, 10.1]
        assert starts(world, "api") == [2, 12.1]
        assert starts(world, "web") == [2, 12.1]
        assert starts(world, "other") == [2]
        assert EventKind.CASCADE in kinds(world, "api")

    simulate(lambda: World({"db": DB}), scene)


def test_all_replicas_are() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.RESTART, replicas=3))).ok
        await trio.sleep(30)
        again = [act.container for act in world.runtime.acts if act.what == "start" and act.at_s == 12.1]
        assert sorted(again) == ["demo-api-1", "demo-api-2", "demo-api-3", "demo-web-1"]

    simulate(lambda: World({"db": DB}), scene)


@pytest.mark.parametrize("made", [stack(Cascade.IGNORE, restart=True), stack(None)])
def test_nothing_follows_where_it_is_not_asked_for(made: Project) -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, made)).ok
        await trio.sleep(30)
        assert len(starts(world, "api")) == 1
        assert "pause" not in {act.what for act in world.runtime.acts}

    simulate(lambda: World({"db": DB}), scene)


def test_many_crashes_before_it_is_back_are_one() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.RESTART))).ok
        await trio.sleep(60)
        assert len(starts(world, "db")) == 6
        assert len(starts(world, "api")) == 2

    simulate(lambda: World({"db": FakeService(crashes=(10, 1, 1, 1, 1), healthy_after_s=2)}), scene)


def test_one_that_became_unhealthy_has_crashed() -> None:
    async def scene(engine: Engine, world: World) -> None:
        made = project(
            service("db", restart="always", healthcheck=check(1, retries=1)),
            service("api", edge("db", HEALTHY, restart=True)),
        )
        assert (await up(engine, made)).ok
        await trio.sleep(30)
        assert len(starts(world, "db")) == len(starts(world, "api")) == 2

    simulate(lambda: World({"db": FakeService(ill_after_s=(10,))}), scene)


def test_nobody_is_restarted_for_what_does_not_come_back() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.RESTART, policy="on-failure:1"))).ok
        await trio.sleep(60)
        assert row(engine, "db").phase is Phase.FAILED
        assert len(starts(world, "api")) == 1
        assert row(engine, "api").phase is Phase.RUNNING

    simulate(lambda: World({"db": FakeService(crashes=(10, 1), healthy_after_s=2)}), scene)


def test_a_restart_by_hand_is_no_crash_and_a_stop_ends_the_wait() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.RESTART))).ok
        await do(engine, Verb.RESTART, "db")
        await trio.sleep(5)
        assert len(starts(world, "api")) == 1
        await trio.sleep(3)
        assert (await engine.operate(Stop())).ok
        await trio.sleep(60)
        assert world.runtime.alive() == ()

    simulate(lambda: World({"db": FakeService(crashes=(1e9, 7), healthy_after_s=2)}), scene)


def test_a_dependent_stands_still_until_it_is_back() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.FREEZE))).ok
        await trio.sleep_until(11)
        assert row(engine, "api").phase is Phase.PAUSED
        assert row(engine, "api").reason == "frozen until db is back"
        assert row(engine, "web").phase is Phase.RUNNING
        await trio.sleep_until(12.5)
        assert row(engine, "api").phase is Phase.RUNNING
        assert len(starts(world, "api")) == 1
        assert [act.at_s for act in world.runtime.acts if act.what in ("pause", "resume")] == [10, 12.1]

    simulate(lambda: World({"db": DB}), scene)


def test_nothing_stands_still_for_what_does_not_come_back() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.FREEZE, policy="on-failure:1"))).ok
        await trio.sleep_until(10.5)
        assert row(engine, "api").phase is Phase.PAUSED
        await trio.sleep_until(12)
        assert row(engine, "api").phase is Phase.RUNNING

    simulate(lambda: World({"db": FakeService(crashes=(10, 1), healthy_after_s=2)}), scene)


def test_who_is_frozen_for_two_goes_on_when_both_are_back() -> None:
    freeze = Cascade.FREEZE
    made = project(
        service("db", restart="always", healthcheck=check(1, retries=99)),
        service("cache", restart="always", healthcheck=check(1, retries=99)),
        service("api", edge("db", HEALTHY, cascade=freeze), edge("cache", HEALTHY, cascade=freeze)),
    )

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, made)).ok
        await trio.sleep_until(13)
        assert row(engine, "api").phase is Phase.PAUSED
        await trio.sleep_until(17)
        assert row(engine, "api").phase is Phase.RUNNING

    simulate(lambda: World({"db": DB, "cache": FakeService(crashes=(11,), healthy_after_s=5)}), scene)


def test_a_user_may_let_it_go_on_or_stop_it() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.FREEZE))).ok
        await trio.sleep_until(10.5)
        assert (await engine.operate(Unpause(Selection((ServiceName("api"),))))).ok
        assert row(engine, "api").phase is Phase.RUNNING
        await trio.sleep_until(30)
        assert row(engine, "api").phase is Phase.RUNNING
        await engine.operate(Stop())
        assert world.runtime.alive() == ()

    simulate(lambda: World({"db": DB}), scene)


def test_what_a_user_has_paused_stays_his() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.FREEZE))).ok
        await engine.operate(Pause(Selection((ServiceName("api"),))))
        await trio.sleep_until(30)
        assert row(engine, "api").phase is Phase.PAUSED

    simulate(lambda: World({"db": DB}), scene)


def test_a_new_supervisor_goes_on_with_who_is_frozen() -> None:
    async def first(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(Cascade.FREEZE))).ok
        await trio.sleep_until(11)
        assert row(engine, "api").phase is Phase.PAUSED

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(0.1)
        assert row(engine, "api").phase is Phase.PAUSED
        await trio.sleep_until(20)
        assert row(engine, "api").phase is Phase.RUNNING
        assert len(starts(world, "api")) == 1

    two_lives(lambda: World({"db": DB}), first, second)
