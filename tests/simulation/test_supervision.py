"""Keeping a stack as wanted: restarts, health, stopping, taking over."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.control import Down, Kill, Restart, Run, Selection, Start, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.state import Wanted
from orchestrator.errors import CommandError, HostError
from orchestrator.model.health import Health, OnUnhealthy
from orchestrator.model.names import ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import COMPLETED, HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, ends, kill, kinds, row, simulate, starts, two_lives, up

DB, WEB = ServiceName("db"), ServiceName("web")


# Restart policies


def test_back_off_doubles_and_starts_anew_after_a_run_of_ten_seconds() -> None:
    stack = project(service("db", restart="always"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(60)
        assert starts(world, "db") == pytest.approx([0, 1.1, 2.3, 3.7, 13.8, 15.0])
        assert row(engine, "db").restarts == 5
        scheduled = [event.detail["after_s"] for event in world.events if event.kind is EventKind.RESTART_SCHEDULED]
        assert scheduled == [0.1, 0.2, 0.4, 0.1, 0.2]

    simulate(lambda: World({"db": FakeService(crashes=[1, 1, 1, 10, 1])}), body)


def test_a_restart_by_policy_keeps_the_sandbox_and_its_address() -> None:
    stack = project(service("db", restart="on-failure"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        address = row(engine, "db").endpoints
        await trio.sleep(10)
        assert row(engine, "db").endpoints == address
        assert [act.what for act in world.runtime.acts] == ["create", "start", "start"]

    simulate(lambda: World({"db": FakeService(crashes=[5])}), body)


def test_a_restart_on_request_leaves_the_container_on_its_networks() -> None:
    stack = project(service("db"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert (await do(engine, Verb.RESTART)).ok
        assert [act.what for act in world.runtime.acts if not act.what.startswith("signal")] == ["create", "start", "start"]
        assert (list(world.networking.attached), world.networking.detached) == (["demo-db-1"], [])

    simulate(World, body)


def test_who_waits_for_a_dependency_amid_a_restart_is_off_its_networks() -> None:
    stack = project(service("db", healthcheck=check(1)), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok
        with trio.move_on_after(1) as scope:
            await do(engine, Verb.RESTART)
        assert scope.cancelled_caught
        assert list(world.networking.attached) == ["demo-db-1"]
        assert (await do(engine, Verb.START)).ok
        assert sorted(world.networking.attached) == ["demo-db-1", "demo-web-1"]

    simulate(lambda: World({"db": FakeService(healthy_after_s=2)}), body)


def test_a_restart_that_is_cancelled_after_the_stop_takes_the_container_off_its_networks() -> None:
    stack = project(service("db"), service("web", edge("db")))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok
        with trio.move_on_after(1) as scope:
            await do(engine, Verb.RESTART)
        assert scope.cancelled_caught
        assert list(world.networking.attached) == ["demo-db-1"]

    simulate(lambda: World({"db": FakeService(stops_after_s=5)}), body)


def test_on_failure_gives_up_after_its_attempts_and_says_so() -> None:
    stack = project(service("db", restart="on-failure:2"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(10)
        status = row(engine, "db")
        assert status.phase is Phase.FAILED
        assert status.reason == "exited with code 1; given up after 2 restarts (restart: on-failure:2)"
        assert status.exit is not None
        assert status.exit.status == 1
        assert not engine.running()
        assert world.networking.attached == {}
        failed = next(event for event in world.events if event.kind is EventKind.SERVICE_FAILED)
        assert failed.detail["exit_status"] == 1

    simulate(lambda: World({"db": FakeService(crashes=[1] * 9)}), body)


def test_up_starts_what_was_given_up_or_waits_for_its_restart() -> None:
    stack = project(service("db", restart="always"), service("job", restart="on-failure:1"))
    behaviours = {"db": FakeService(crashes=[1] * 7), "job": FakeService(crashes=[1, 1])}

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(15)
        assert row(engine, "db").phase is Phase.BACKOFF
        assert row(engine, "job").phase is Phase.FAILED
        outcome = await up(engine, stack)
        assert outcome.ok
        assert trio.current_time() == 15
        assert row(engine, "db").phase is row(engine, "job").phase is Phase.RUNNING
        assert row(engine, "job").restarts == 0

    simulate(lambda: World(behaviours), body)


def test_a_restart_that_is_refused_has_failed() -> None:
    stack = project(service("db", restart="always"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        world.behave("db", FakeService(start_error=CommandError("gone", exit_code=126)))
        await trio.sleep(5)
        assert row(engine, "db").phase is Phase.FAILED
        assert row(engine, "db").reason == "services.db.command: gone"
        assert world.runtime.existing() == ("demo-db-1",)

    simulate(lambda: World({"db": FakeService(crashes=[1])}), body)


# Health


def test_an_unhealthy_service_is_restarted_by_its_policy_with_the_same_back_off() -> None:
    stack = project(service("web", healthcheck=check(1, retries=2), restart="unless-stopped"))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok
        await trio.sleep(60)
        # Ill from 5 s on: probes fail at 5 s and 6 s; it ends at the stop signal, and starts 100 ms later.
        assert starts(world, "web") == pytest.approx([0, 6.1])
        assert row(engine, "web").health is Health.HEALTHY
        assert row(engine, "web").restarts == 1
        reason = next(event.text for event in world.events if event.kind is EventKind.RESTART_SCHEDULED)
        assert reason == "web became unhealthy; restart 1 in 100 ms (restart: unless-stopped)"

    simulate(lambda: World({"web": FakeService(ill_after_s=[4.5])}), body)


def test_an_unhealthy_one_that_ignores_the_stop_signal_is_killed_after_its_grace_period() -> None:
    stack = project(service("web", healthcheck=check(1, retries=1), restart="always", stop_grace_s=3.0))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(20)
        assert starts(world, "web") == pytest.approx([0, 2 + 3 + 0.1])

    simulate(lambda: World({"web": FakeService(ill_after_s=[1.5], ignores_sigterm=True)}), body)


@pytest.mark.parametrize(
    ("restart", "action", "phase", "health"),
    [
        ("no", OnUnhealthy.RESTART, Phase.RUNNING, Health.UNHEALTHY),
        ("always", OnUnhealthy.IGNORE, Phase.RUNNING, Health.UNHEALTHY),
        ("always", OnUnhealthy.STOP, Phase.FAILED, Health.NONE),
    ],
)
def test_an_unhealthy_service_is_left_or_stopped_as_the_stack_says(
    restart: str, action: OnUnhealthy, phase: Phase, health: Health
) -> None:
    stack = project(service("web", healthcheck=check(1, retries=1), restart=restart, on_unhealthy=action))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(20)
        assert starts(world, "web") == [0]
        assert (row(engine, "web").phase, row(engine, "web").health) == (phase, health)
        assert "unhealthy" in row(engine, "web").reason

    simulate(lambda: World({"web": FakeService(ill_after_s=[1.5])}), body)


def test_on_failure_with_all_attempts_used_leaves_an_unhealthy_service_running() -> None:
    stack = project(service("web", healthcheck=check(1, retries=1), restart="on-failure:1"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(30)
        assert len(starts(world, "web")) == 2
        assert row(engine, "web").phase is Phase.RUNNING
        assert "left running: given up after 1 restart" in row(engine, "web").reason

    simulate(lambda: World({"web": FakeService(ill_after_s=[1.5, 1.5])}), body)


def test_probes_come_an_interval_after_the_end_of_the_one_before() -> None:
    stack = project(service("web", healthcheck=check(10, start_period_s=9, start_interval_s=2)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(60)
        at = [event.at - world.events[0].at for event in world.events if event.kind is EventKind.HEALTH_PROBED]
        # Each takes 1 s; inside the start period every 2 s, until the first success at 6 s.
        assert at == pytest.approx([3, 6, 17, 28, 39, 50])

    simulate(lambda: World({"web": FakeService(healthy_after_s=5, probe_s=1)}), body)


def test_a_probe_that_takes_too_long_has_failed() -> None:
    stack = project(service("web", healthcheck=check(1, retries=1, timeout_s=3), restart="no"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(4.5)
        assert row(engine, "web").health is Health.UNHEALTHY
        assert row(engine, "web").last_probe == "timed out"

    simulate(lambda: World({"web": FakeService(probe_s=60)}), body)


def test_an_unhealthy_dependency_that_recovers_leaves_its_dependents_alone() -> None:
    stack = project(service("db", healthcheck=check(1, retries=1), restart="always"), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(30)
        assert len(starts(world, "db")) == 2
        assert len(starts(world, "web")) == 1

    simulate(lambda: World({"db": FakeService(ill_after_s=[5])}), body)


# Stopping


def test_everything_stops_in_reverse_order_and_waits_for_its_users() -> None:
    stack = project(service("db"), service("api", "db"), service("web", "api"), service("other"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert (await do(engine, Verb.STOP)).changed == 4
        assert ends(world)[2:] == [("api", 2.0), ("db", 5.0)]
        assert {name for name, _ in ends(world)[:2]} == {"web", "other"}
        assert trio.current_time() == 5.0
        assert {status.phase for status in engine.statuses()} == {Phase.EXITED}
        assert not engine.running()
        assert (await engine.plan(Stop())).empty

    simulate(lambda: World({"web": FakeService(stops_after_s=2), "api": FakeService(stops_after_s=3)}), body)


def test_stop_kills_after_the_grace_period_and_suppresses_always() -> None:
    stack = project(service("db", restart="always", stop_grace_s=4.0))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.STOP, "db")
        assert trio.current_time() == 4.0
        await trio.sleep(100)
        status = row(engine, "db")
        assert (status.phase, status.wanted) == (Phase.EXITED, Wanted.STOPPED)
        assert status.reason == "was killed by SIGKILL; stopped by request"
        assert starts(world, "db") == [0]

    simulate(lambda: World({"db": FakeService(ignores_sigterm=True)}), body)


def test_a_stop_during_back_off_ends_it() -> None:
    stack = project(service("db", restart="always"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(1.05)
        assert row(engine, "db").phase is Phase.BACKOFF
        assert world.runtime.prepared() == [world.container("db")]
        await do(engine, Verb.STOP)
        assert world.runtime.prepared() == []
        await trio.sleep(100)
        assert row(engine, "db").phase is Phase.EXITED
        assert starts(world, "db") == [0]

    simulate(lambda: World({"db": FakeService(crashes=[1])}), body)


def test_a_requested_restart_prepares_the_next_run_while_the_last_one_ends() -> None:
    stack = project(service("db"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(do, engine, Verb.RESTART)
            await trio.sleep(1)
            assert row(engine, "db").phase is Phase.STOPPING
            assert world.runtime.prepared() == [world.container("db")]
        assert row(engine, "db").phase is Phase.RUNNING
        assert starts(world, "db") == [0, 2]
        assert world.runtime.prepared() == []

    simulate(lambda: World({"db": FakeService(stops_after_s=2)}), body)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.DOWN])
def test_a_restart_that_is_taken_over_by_a_stop_leaves_nothing_prepared(verb: Verb) -> None:
    stack = project(service("db"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(do, engine, Verb.RESTART)
            await trio.sleep(1)
            assert world.runtime.prepared() == [world.container("db")]
            await do(engine, verb)
        assert starts(world, "db") == [0]
        assert world.runtime.prepared() == []

    simulate(lambda: World({"db": FakeService(stops_after_s=2)}), body)


def test_a_stop_for_a_replacement_prepares_nothing() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, project(service("db")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, project(service("db", image="other")))
            await trio.sleep(1)
            assert row(engine, "db").phase is Phase.STOPPING
            assert world.runtime.prepared() == []

    simulate(lambda: World({"db": FakeService(stops_after_s=2)}), body)


def test_a_run_is_prepared_shortly_before_it_is_due() -> None:
    stack = project(service("db", restart="always"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(25)
        assert row(engine, "db").phase is Phase.BACKOFF  # Until 25.5 + 25.6.
        assert world.runtime.prepared() == []
        await trio.sleep(50.9 - 25)
        assert world.runtime.prepared() == [world.container("db")]
        await trio.sleep(1)
        assert row(engine, "db").phase is Phase.RUNNING
        assert world.runtime.prepared() == []

    simulate(lambda: World({"db": FakeService(crashes=[0] * 9)}), body)


def test_stop_frees_ports_and_start_takes_them_again() -> None:
    stack = project(service("web", ports=(PortMapping(80, (8080, 8080), place="services.web.ports[0]"),)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert [item.host_port for item in row(engine, "web").published] == [8080]
        address = row(engine, "web").endpoints
        await do(engine, Verb.STOP)
        assert world.networking.attached == {}
        assert row(engine, "web").published == ()
        await do(engine, Verb.START)
        assert [item.host_port for item in row(engine, "web").published] == [8080]
        assert row(engine, "web").endpoints == address

    simulate(World, body)


def test_restart_takes_restart_true_dependents_along() -> None:
    stack = project(
        service("db", healthcheck=check(1)),
        service("api", edge("db", HEALTHY, restart=True)),
        service("web", "api"),
    )

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(9)
        assert (await do(engine, Verb.RESTART, "db")).changed == 2
        assert starts(world, "db") == [0, 10]
        assert starts(world, "api") == [1, 11]
        assert starts(world, "web") == [1]
        assert ends(world) == [("api", 10.0), ("db", 10.0)]

    simulate(World, body)


def test_replacing_a_service_restarts_its_restart_true_dependents() -> None:
    stack = project(service("db"), service("api", edge("db", restart=True)), service("web", "api"))
    after = project(service("db", environment={"A": "1"}), service("api", edge("db", restart=True)), service("web", "api"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await up(engine, after)
        assert len(starts(world, "db")) == len(starts(world, "api")) == 2
        assert len(starts(world, "web")) == 1
        what = [(act.what, act.container) for act in world.runtime.acts if act.container != "demo-web-1"][4:]
        assert what == [
            ("signal 15", "demo-api-1"),
            ("signal 15", "demo-db-1"),
            ("remove", "demo-db-1"),
            ("create", "demo-db-1"),
            ("start", "demo-db-1"),
            ("start", "demo-api-1"),
        ]

    simulate(World, body)


def test_down_leaves_nothing_but_volumes() -> None:
    stack = project(service("db", volumes=["data:/d"]), service("web", "db", networks=["front"]))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        outcome = await do(engine, Verb.DOWN)
        assert outcome.ok
        assert outcome.removed == 2
        assert world.runtime.existing() == ()
        assert not world.networking.networks
        assert not world.networking.reserved
        assert not world.networking.attached
        assert world.state.load() is None
        assert world.volumes.volumes == {"demo_data"}
        assert engine.statuses() == ()
        assert not engine.running()

    simulate(World, body)


def test_down_with_volumes_leaves_nothing() -> None:
    stack = project(service("db", volumes=["data:/d"]))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.DOWN, volumes=True)
        assert world.volumes.volumes == set()

    simulate(World, body)


def test_orphans_are_reported_and_removed_on_request() -> None:
    before = project(service("web"), service("old"))
    after = project(service("web"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, before)
        await up(engine, after)
        assert world.runtime.alive() == ("demo-old-1", "demo-web-1")
        texts = [event.text for event in world.events if event.kind is EventKind.WARNING]
        assert texts == [
            "orphan containers, whose services are in no file of this stack: demo-old-1; --remove-orphans removes them"
        ]
        await do(engine, Verb.DOWN)
        assert world.runtime.alive() == ("demo-old-1",)
        await do(engine, Verb.DOWN, remove_orphans=True)
        assert world.runtime.existing() == ()
        assert world.networking.networks == {}

    simulate(World, body)


def test_the_second_interrupt_kills_everything_at_once() -> None:
    stack = project(service("db", stop_grace_s=600.0), service("web", "db", stop_grace_s=600.0, restart="always"))
    stubborn = FakeService(ignores_sigterm=True)

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(do, engine, Verb.STOP)
            await trio.sleep(5)
            await kill(engine, signal="KILL")
            assert trio.current_time() == 5.0
            assert world.runtime.alive() == ()
        assert {status.phase for status in engine.statuses()} == {Phase.EXITED}

    simulate(lambda: World({"db": stubborn, "web": stubborn}), body)


def test_a_kill_by_the_user_is_not_undone_but_another_signal_is_only_sent() -> None:
    stack = project(*(service(name, restart="always") for name in ("db", "job", "web")))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert await kill(engine, "db", signal="KILL") == 1
        assert await kill(engine, "job", signal="INT") == 1
        assert await kill(engine, "web", signal="HUP") == 1
        await trio.sleep(30)
        assert row(engine, "db").phase is Phase.EXITED
        assert row(engine, "job").phase is Phase.EXITED
        assert row(engine, "web").phase is Phase.RUNNING

    simulate(World, body)


def test_kill_beside_an_interrupted_stop_ends_everything_also_what_waits_for_its_restart() -> None:
    stack = project(
        service("db", stop_grace_s=600.0), service("web", "db", stop_grace_s=600.0), service("job", restart="always")
    )
    stubborn = FakeService(ignores_sigterm=True)

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(9.2)
        assert row(engine, "job").phase is Phase.BACKOFF
        with trio.move_on_after(5):
            await do(engine, Verb.STOP, "db", "web")
        assert await kill(engine) == 3
        assert trio.current_time() == pytest.approx(14.2)
        assert world.runtime.alive() == ()
        assert {status.phase for status in engine.statuses()} == {Phase.EXITED}
        assert {status.wanted for status in engine.statuses()} == {Wanted.STOPPED}
        await trio.sleep(100)
        assert world.runtime.alive() == ()

    simulate(lambda: World({"db": stubborn, "web": stubborn, "job": FakeService(crashes=[1] * 99)}), body)


# Taking over

_ENDS = (EventKind.CONTAINER_EXITED, EventKind.CONTAINER_STOPPED)


def test_a_new_supervisor_takes_over_what_runs() -> None:
    port = PortMapping(80, (8080, 8080), place="services.web.ports[0]")
    stack = project(service("db", healthcheck=check(5)), service("web", edge("db", HEALTHY), ports=(port,)))
    pids: list[int | None] = []

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)
        pids[:] = [status.pid for status in engine.statuses()]

    async def second(engine: Engine, world: World) -> None:
        assert [status.pid for status in engine.statuses()] == pids
        assert {status.phase for status in engine.statuses()} == {Phase.RUNNING}
        assert row(engine, "db").health is Health.STARTING
        assert [item.host_port for item in row(engine, "web").published] == [8080]
        assert (await engine.plan(Up(stack))).empty
        await trio.sleep(6)
        assert row(engine, "db").health is Health.HEALTHY
        assert engine.running()

    two_lives(World, first, second)


def test_an_exit_that_nobody_saw_meets_the_restart_policy() -> None:
    stack = project(service("db", restart="always"), service("job"), service("limited", restart="on-failure:1"))
    behaviours = {
        "db": FakeService(crashes=[10]),
        "job": FakeService(exits_after_s=10),
        "limited": FakeService(crashes=[10, 1]),
    }

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)

    async def between(world: World) -> None:
        await trio.sleep(60)

    async def second(engine: Engine, world: World) -> None:
        assert row(engine, "db").phase is Phase.BACKOFF
        assert row(engine, "job").phase is Phase.EXITED
        await trio.sleep(0.15)
        assert row(engine, "db").phase is Phase.RUNNING
        assert starts(world, "db") == pytest.approx([0, 60.1])
        await trio.sleep(5)
        assert row(engine, "limited").phase is Phase.FAILED
        assert len(starts(world, "limited")) == 2

    two_lives(lambda: World(behaviours), first, second, between)


def test_an_end_that_nobody_saw_is_told_once_with_its_run_also_of_what_stays_stopped() -> None:
    """By the supervisors that come after it, together."""
    stack = project(service("web"), service("job", restart="on-failure:0"))
    behaviours = {"web": FakeService(stops_after_s=5), "job": FakeService(exits_after_s=10, exit_code=3)}

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)
        run = Run(stack, stack.services[ServiceName("job")], detach=True)
        assert (await engine.operate(run)).ok
        with trio.move_on_after(1):
            await engine.operate(Stop(Selection((ServiceName("web"),)), 60))

    async def between(world: World) -> None:
        await trio.sleep(60)
        async with world.engine():
            await trio.sleep(1)

    async def second(engine: Engine, world: World) -> None:
        found = [event for event in world.events if event.kind in _ENDS]
        assert sorted((event.kind.value, event.detail["run"], event.detail["exit_status"]) for event in found) == [
            ("container.exited", 1, 3),
            ("container.exited", 1, 3),
            ("container.stopped", 1, 143),
        ]
        assert len({event.container for event in found}) == 3

    two_lives(lambda: World(behaviours), first, second, between)


def test_what_was_stopped_stays_stopped_and_what_was_given_up_stays_given_up() -> None:
    stack = project(service("db", restart="always"), service("job", restart="on-failure:0"))

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.STOP, "db")
        await trio.sleep(5)

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(60)
        assert (row(engine, "db").phase, row(engine, "db").wanted) == (Phase.EXITED, Wanted.STOPPED)
        assert row(engine, "job").phase is Phase.FAILED
        assert not engine.running()

    two_lives(lambda: World({"job": FakeService(crashes=[1])}), first, second)


def test_an_up_that_died_with_its_supervisor_is_finished_by_the_next_one() -> None:
    stack = project(service("db", healthcheck=check(1, retries=99)), service("web", edge("db", HEALTHY)), service("slow"))

    async def first(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack)
            await trio.sleep(2.5)
            world.state.frozen = True
            nursery.cancel_scope.cancel()

    async def between(world: World) -> None:
        world.state.frozen = False

    async def second(engine: Engine, world: World) -> None:
        assert engine.running()
        await trio.sleep(30)
        assert {status.service: status.phase for status in engine.statuses()} == dict.fromkeys(
            stack.services, Phase.RUNNING
        )
        assert len(starts(world, "db")) == 1
        assert len(starts(world, "web")) == 1
        assert (await engine.plan(Up(stack))).empty

    two_lives(
        lambda: World({"db": FakeService(healthy_after_s=10), "slow": FakeService(create_s=5)}), first, second, between
    )


def test_after_a_reboot_what_a_policy_restarts_is_made_again_in_order() -> None:
    stack = project(
        service("db", healthcheck=check(1), restart="always"),
        service("web", edge("db", HEALTHY), restart="unless-stopped"),
        service("job"),
        service("idle", restart="unless-stopped"),
    )

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.STOP, "idle")

    async def between(world: World) -> None:
        world.reboot()

    async def second(engine: Engine, world: World) -> None:
        begun = trio.current_time()
        await trio.sleep(10)
        assert starts(world, "db")[1:] == [begun]
        assert starts(world, "web")[1:] == [begun + 1]
        assert len(starts(world, "job")) == len(starts(world, "idle")) == 1
        assert row(engine, "job").reason == "lost at reboot; not restarted (restart: no)"
        plan = await engine.plan(Up(stack))
        assert {(item.service, item.cause) for item in plan.operations} == {
            ("job", "lost at reboot"),
            ("job", "created"),
            ("idle", "lost at reboot"),
            ("idle", "created"),
        }
        assert (await engine.operate(Up(stack))).ok

    two_lives(World, first, second, between)


def test_a_users_operation_comes_before_what_the_supervisor_resumes() -> None:
    stack = project(
        service("db", healthcheck=check(1, retries=99), restart="always"),
        service("web", edge("db", HEALTHY), restart="always"),
    )

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)

    async def between(world: World) -> None:
        world.reboot()
        world.behave("db", FakeService(healthy_after_s=50))

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(5)
        assert row(engine, "web").phase is Phase.WAITING
        assert (await do(engine, Verb.DOWN)).ok
        assert world.runtime.existing() == ()
        assert world.state.load() is None

    two_lives(World, first, second, between)


def test_an_up_finds_what_the_supervisor_resumes_still_starting() -> None:
    stack = project(
        service("db", healthcheck=check(1), restart="always"), service("web", edge("db", HEALTHY), restart="always")
    )

    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack)

    async def between(world: World) -> None:
        world.reboot()
        world.behave("db", FakeService(boot_s=5, healthy_after_s=3))

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(2)
        assert row(engine, "db").phase is Phase.STARTING
        outcome = await up(engine, stack, wait=True)
        assert outcome.ok, outcome.failures
        assert row(engine, "db").health is Health.HEALTHY
        assert row(engine, "web").phase is Phase.RUNNING

    two_lives(World, first, second, between)


def test_a_sandbox_without_a_record_is_removed_by_the_next_up() -> None:
    stack = project(service("db"), service("web"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, project(service("db"), service("web")), "db")
        world.runtime.plant(world.container("web"))
        assert world.runtime.existing() == ("demo-db-1", "demo-web-1")
        plan = await engine.plan(Up(stack))
        assert [item.id for item in plan.operations] == ["remove demo-web-1", "create demo-web-1", "start demo-web-1"]
        assert (await engine.operate(Up(stack))).ok
        acts = [act.what for act in world.runtime.acts if act.container == "demo-web-1"]
        assert acts == ["remove", "create", "start"]

    simulate(World, body)


def test_a_container_that_does_not_end_even_when_killed_is_an_error_and_not_a_hang() -> None:
    stack = project(service("db"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        outcome = await do(engine, Verb.STOP)
        error = outcome.error()
        assert error is not None
        assert isinstance(outcome.failures[0].error, HostError)
        assert error.message == "demo-db-1 does not end, even when killed"

    simulate(lambda: World({"db": FakeService(unkillable=True)}), body)


def test_a_disk_that_fills_up_later_keeps_nobody_from_restarting_or_stopping() -> None:
    stack = project(service("db", restart="always"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        world.state.full = True
        await trio.sleep(5)
        assert row(engine, "db").restarts == 1
        assert row(engine, "db").phase is Phase.RUNNING
        assert (await do(engine, Verb.STOP)).ok
        assert world.runtime.alive() == ()
        warnings = [event.text for event in world.events if event.kind is EventKind.WARNING]
        assert "cannot record the operation: cannot write the records: no space left on device" in warnings
        with pytest.raises(HostError, match="no space left"):
            await do(engine, Verb.START)
        assert world.runtime.alive() == ()

    simulate(lambda: World({"db": FakeService(crashes=[1])}), body)


def test_an_orphan_is_taken_over_and_can_be_removed() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, project(service("web"), service("old")))
        await up(engine, project(service("web")))

    async def second(engine: Engine, world: World) -> None:
        assert row(engine, "old").phase is Phase.RUNNING
        assert [event for event in world.events if "old" in event.text and event.text.startswith("cannot")] == []
        assert (await do(engine, Verb.DOWN, remove_orphans=True)).ok
        assert world.runtime.existing() == ()
        assert world.networking.networks == {}

    two_lives(World, first, second)


def test_an_engine_without_a_project_answers_every_verb() -> None:
    async def body(engine: Engine, world: World) -> None:
        for request in (Start(), Stop(), Restart(), Kill(), Down()):
            assert (await engine.plan(request)).empty
        assert (await do(engine, Verb.DOWN)).ok
        assert engine.statuses() == ()
        assert not engine.running()

    simulate(World, body)


def test_a_job_that_already_ended_well_satisfies_a_later_start() -> None:
    stack = project(service("migrate"), service("web", edge("migrate", COMPLETED)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.STOP, "web")
        assert (await do(engine, Verb.RESTART, "web")).ok
        assert row(engine, "web").phase is Phase.RUNNING
        assert len(starts(world, "migrate")) == 1

    simulate(lambda: World({"migrate": FakeService(exits_after_s=1)}), body)


def test_who_waits_for_a_container_that_ignores_its_stop_signal_is_told_so() -> None:
    stack = project(service("deaf", stop_grace_s=9.0), service("slow", stop_grace_s=9.0), service("quick"))
    behaviours = {"deaf": FakeService(ignores_sigterm=True), "slow": FakeService(stops_after_s=3)}

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await do(engine, Verb.STOP)
        told = [event.text for event in world.events if event.kind is EventKind.CONTAINER_LINGERS]
        assert sorted(told) == [
            "deaf ignores SIGTERM; killed in 8s; its PID 1 is sh",
            "slow has not ended yet after SIGTERM; killed in 8s; its PID 1 is sh",
        ]

    simulate(lambda: World(behaviours), body)


def test_events_of_one_service_tell_its_story_in_order() -> None:
    stack = project(service("db", healthcheck=check(1)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack, wait=True)
        await do(engine, Verb.DOWN)
        assert kinds(world, "db") == [
            EventKind.CONTAINER_CREATING,
            EventKind.CONTAINER_CREATED,
            EventKind.CONTAINER_STARTING,
            EventKind.CONTAINER_STARTED,
            EventKind.HEALTH_PROBED,
            EventKind.HEALTH_CHANGED,
            EventKind.SERVICE_READY,
            EventKind.CONTAINER_STOPPING,
            EventKind.CONTAINER_STOPPED,
            EventKind.CONTAINER_REMOVED,
        ]

    simulate(World, body)
