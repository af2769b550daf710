"""Readiness that is observed, and probes from outside: what follows from them for who waits."""

from __future__ import annotations

import trio

from orchestrator.contracts.control import Pause, Unpause
from orchestrator.contracts.events import EventKind
from orchestrator.model.health import DeclaredPort, Health, HealthCheck, Look, LookKind
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import HEALTHY, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import kinds, row, simulate, started, starts, two_lives, up

LISTENING = Look(LookKind.LISTENING, (DeclaredPort(5432),))


def observed(name: str, *needs: str, timeout_s: float = 0.0, look: Look = LISTENING, **fields: str) -> Service:
    check = HealthCheck(look=look, timeout_s=timeout_s)
    return service(name, *(edge(need, HEALTHY) for need in needs), healthcheck=check, **fields)


def test_a_chain_starts_in_order_the_moment_each_listens() -> None:
    names = [f"s{number}" for number in range(10)]
    stack = project(*(observed(name, *names[:number][-1:]) for number, name in enumerate(names)))

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok
        assert list(started(world).values()) == [0.5 * number for number in range(10)]
        assert trio.current_time() == 5.0
        assert {status.health for status in engine.statuses()} == {Health.HEALTHY}

    simulate(lambda: World({name: FakeService(healthy_after_s=0.5) for name in names}), scene)


def test_what_listens_is_not_looked_at_again_in_that_run() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, project(observed("db", restart="always")), wait=True)).ok
        await trio.sleep(3600)
        assert row(engine, "db").health is Health.HEALTHY
        assert kinds(world, "db").count(EventKind.HEALTH_PROBED) == 2  # One in each of its two runs.

    simulate(lambda: World({"db": FakeService(healthy_after_s=0.5, ill_after_s=(1,), crashes=(60,))}), scene)


def test_without_a_time_out_it_is_waited_for_as_long_as_it_runs() -> None:
    async def scene(engine: Engine, world: World) -> None:
        outcome = await up(engine, project(observed("db"), observed("web", "db")), wait=True, timeout_s=500)
        assert not outcome.ok
        assert "web" not in started(world)
        assert row(engine, "db").health is Health.STARTING

    simulate(lambda: World({"db": FakeService(healthy_after_s=1000)}), scene)


def test_with_one_it_is_unhealthy_then_and_its_policy_decides() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(observed("db", timeout_s=3, restart="always")))
        await trio.sleep(4)
        assert starts(world, "db") == [0.0, 3.1]

    simulate(lambda: World({"db": FakeService(healthy_after_s=10)}), scene)


def test_what_is_late_and_left_running_is_healthy_when_it_listens_after_all() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(observed("db", timeout_s=3)))
        await trio.sleep(4)
        assert row(engine, "db").health is Health.UNHEALTHY
        assert "does not listen on 5432" in row(engine, "db").last_probe
        await trio.sleep(7)
        assert row(engine, "db").health is Health.HEALTHY

    simulate(lambda: World({"db": FakeService(healthy_after_s=10)}), scene)


def test_what_is_seen_while_it_is_paused_counts_when_it_goes_on() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(observed("db")))
        await engine.operate(Pause())
        await trio.sleep(10)
        assert row(engine, "db").health is Health.STARTING
        await engine.operate(Unpause())
        await trio.sleep(1)
        assert row(engine, "db").health is Health.HEALTHY

    simulate(lambda: World({"db": FakeService(healthy_after_s=1)}), scene)


def test_a_new_supervisor_looks_anew() -> None:
    stack: Project = project(observed("db"), observed("web", "db"))

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack, wait=True)

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(0.1)
        assert {status.health for status in engine.statuses()} == {Health.HEALTHY}
        assert len(starts(world, "db")) == 1

    two_lives(lambda: World({"db": FakeService(healthy_after_s=2)}), first, second)


def test_a_probe_from_outside_is_made_again_and_again() -> None:
    check = HealthCheck(look=Look(LookKind.TCP, (DeclaredPort(80),)))

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, project(service("web", healthcheck=check, restart="always")), wait=True)).ok
        assert trio.current_time() < 1.2  # Every 100 ms at first.
        await trio.sleep(100)
        assert len(starts(world, "web")) == 2  # It was ill from 50 s on.

    simulate(lambda: World({"web": FakeService(healthy_after_s=1, ill_after_s=(50,))}), scene)


def test_what_waits_has_its_run_prepared_and_nothing_of_that_is_left() -> None:
    stack = project(observed("db", timeout_s=10), observed("web", "db"), observed("job", "db"))

    async def cancelled(engine: Engine, world: World) -> None:
        with trio.move_on_after(2):
            await up(engine, stack)
        assert world.runtime.prepared() == []

    async def blocked(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack)
            await trio.sleep(2)
            assert sorted(world.runtime.prepared()) == ["demo-job-1", "demo-web-1"]
            await trio.sleep(10)
        assert world.runtime.prepared() == []

    for scene in (cancelled, blocked):
        simulate(lambda: World({"db": FakeService(healthy_after_s=100)}), scene)
