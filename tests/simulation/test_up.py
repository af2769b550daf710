"""Bringing a stack up: order, conditions, failures. Each test runs under several orders of tasks."""

from __future__ import annotations

import pytest
import trio

from orchestrator.cli.render.words import words_of
from orchestrator.contracts.control import Recreate, Selection, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.errors import CommandError, HostError, InputError, OperationError
from orchestrator.model.health import Health
from orchestrator.model.names import ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.phase import Phase
from orchestrator.model.project import Place, Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import COMPLETED, HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, kinds, row, simulate, started, starts, up


def test_a_dependent_starts_the_moment_its_condition_holds() -> None:
    stack = project(service("db", healthcheck=check(1)), service("web", edge("db", HEALTHY)), service("other"))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert outcome.ok
        assert outcome.changed == 3
        assert started(world) == {"db": 0.0, "other": 0.0, "web": 3.0}
        assert row(engine, "db").health is Health.HEALTHY
        assert [event.text for event in world.events if event.kind is EventKind.SERVICE_WAITING] == [
            "web waits for db (healthy)"
        ]

    simulate(lambda: World({"db": FakeService(healthy_after_s=2.5)}), body)


def test_containers_are_made_while_they_wait() -> None:
    stack = project(service("db", healthcheck=check(10)), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        made = {act.container: act.at_s for act in world.runtime.acts if act.what == "create"}
        assert made == {"demo-db-1": 0.0, "demo-web-1": 0.0}
        assert started(world)["web"] == 10.0

    simulate(World, body)


def test_the_intents_are_written_once_before_anything_is_made() -> None:
    stack = project(service("db"), service("web", "db"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert world.state.commits == 1
        assert world.images.asked == ["host"]
        assert world.networking.ensured == [("default",)]

    simulate(World, body)


def test_dependents_do_not_start_when_the_database_is_unhealthy() -> None:
    stack = project(
        service("db", healthcheck=check(1, retries=2)),
        service("api", edge("db", HEALTHY)),
        service("web", "api"),
        service("other"),
    )

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert trio.current_time() == 2.0
        error = outcome.error()
        assert error is not None
        assert error.exit_code == 1
        assert error.message.startswith(
            "db is unhealthy: 2 probes in a row failed, the last one failed with code 1: not well"
        )
        assert error.message.endswith("(not started because of that: api, web)")
        assert started(world).keys() == {"db", "other"}
        assert row(engine, "other").phase is Phase.RUNNING
        assert row(engine, "api").phase is row(engine, "web").phase is Phase.BLOCKED
        assert row(engine, "api").reason.startswith("blocked: db is unhealthy")
        assert world.runtime.existing() == ("demo-db-1", "demo-other-1")

    simulate(lambda: World({"db": FakeService(healthy_after_s=1e9)}), body)


def test_how_an_earlier_run_ended_is_not_told_of_a_dependency_that_runs() -> None:
    stack = project(service("db", healthcheck=check(1, retries=2)), service("api", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        assert not (await up(engine, stack)).ok
        assert (await do(engine, Verb.RESTART, "db")).ok
        assert not (await up(engine, stack)).ok
        assert row(engine, "db").phase is Phase.RUNNING
        told = [event for event in world.events if event.kind is EventKind.SERVICE_BLOCKED]
        assert [words_of(event) for event in told] == ["cannot start because of db"] * 2

    simulate(lambda: World({"db": FakeService(healthy_after_s=1e9)}), body)


def test_a_dependency_that_exits_before_it_is_healthy_ends_the_wait_at_once() -> None:
    stack = project(service("db", healthcheck=check(30)), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack, wait=True)
        assert trio.current_time() == 2.0
        assert [failure.error.message for failure in outcome.failures] == ["db exited with code 7 before it was healthy"]
        assert outcome.blocked == ("web",)
        failed = next(event for event in world.events if event.kind is EventKind.SERVICE_FAILED)
        assert failed.detail["exit_status"] == 7
        assert failed.detail["blocked"] == ("web",)

    simulate(lambda: World({"db": FakeService(exits_after_s=2, exit_code=7)}), body)


def test_a_dependency_that_crashes_once_and_is_restarted_is_waited_for() -> None:
    stack = project(service("db", healthcheck=check(1), restart="always"), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok
        assert started(world)["web"] == pytest.approx(0.5 + 0.1 + 1)
        assert row(engine, "db").restarts == 1

    simulate(lambda: World({"db": FakeService(crashes=[0.5])}), body)


def test_a_dependency_that_crashes_for_ever_is_not_waited_for_for_ever() -> None:
    stack = project(service("db", healthcheck=check(1), restart="always"), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert [failure.error.message for failure in outcome.failures] == [
            "db ended 5 times before it was healthy, the last time it exited with code 1"
        ]
        assert trio.current_time() == pytest.approx(5 * 0.5 + 0.1 + 0.2 + 0.4 + 0.8)

    simulate(lambda: World({"db": FakeService(crashes=[0.5] * 99)}), body)


def test_a_job_is_waited_for_until_it_has_ended_well() -> None:
    stack = project(service("migrate"), service("web", edge("migrate", COMPLETED)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok
        assert started(world)["web"] == 90.0
        assert row(engine, "migrate").phase is Phase.EXITED

    simulate(lambda: World({"migrate": FakeService(exits_after_s=90)}), body)


def test_a_job_that_fails_blocks_its_dependents() -> None:
    stack = project(service("migrate"), service("web", edge("migrate", COMPLETED)))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert outcome.failures[0].error.message == "migrate exited with code 3"
        assert outcome.blocked == ("web",)

    simulate(lambda: World({"migrate": FakeService(exits_after_s=9, exit_code=3)}), body)


def test_a_changed_job_that_fails_is_an_error_although_its_dependent_runs_on() -> None:
    def stack(image: str) -> Project:
        return project(service("migrate", image=image), service("web", edge("migrate", COMPLETED)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack("one"))).ok
        began = starts(world, "web")
        world.behave("migrate", FakeService(exits_after_s=3, exit_code=4))
        outcome = await up(engine, stack("two"))
        error = outcome.error()
        assert error is not None
        assert "migrate exited with code 4" in error.message
        assert row(engine, "web").phase is Phase.RUNNING
        world.behave("migrate", FakeService(exits_after_s=3))
        assert (await up(engine, stack("three"))).ok
        assert row(engine, "migrate").phase is Phase.EXITED
        assert starts(world, "web") == began

    simulate(lambda: World({"migrate": FakeService(exits_after_s=1)}), body)


def test_up_waits_for_a_replaced_database_that_one_which_runs_on_needs_healthy() -> None:
    def stack(image: str) -> Project:
        db = service("db", image=image, healthcheck=check(1, retries=8))
        return project(db, service("web", edge("db", HEALTHY)), service("idle", edge("db", HEALTHY, required=False)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack("one"))).ok
        assert (await up(engine, stack("two"))).ok
        assert row(engine, "db").health is Health.HEALTHY
        world.behave("db", FakeService(healthy_after_s=1e9))
        assert not (await up(engine, stack("three"))).ok
        assert row(engine, "web").phase is Phase.RUNNING
        assert (await up(engine, stack("four"), "idle")).ok

    simulate(lambda: World({"db": FakeService(healthy_after_s=5)}), body)


def test_a_one_shot_that_ends_with_0_counts_as_success_for_wait() -> None:
    stack = project(service("job"), service("web", healthcheck=check(1)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, wait=True)).ok

    simulate(lambda: World({"job": FakeService(exits_after_s=0.2)}), body)


def test_a_job_that_has_done_its_work_is_run_again_only_when_it_is_asked_for() -> None:
    stack = project(service("migrate"), service("web", edge("migrate", COMPLETED)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert (await engine.plan(Up(stack))).empty
        asked = await engine.plan(Up(stack, Selection((ServiceName("migrate"),))))
        assert asked.render() == "up demo:\n  start migrate: exited with code 0\n"

    simulate(lambda: World({"migrate": FakeService(exits_after_s=1)}), body)


def test_a_service_that_ended_with_0_and_is_nobodys_job_is_started_again() -> None:
    stack = project(service("web"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(1)
        assert (await engine.plan(Up(stack))).render() == "up demo:\n  start web: exited with code 0\n"

    simulate(lambda: World({"web": FakeService(exits_after_s=0.1)}), body)


def test_up_can_remove_orphans() -> None:
    before, after = project(service("old"), service("web")), project(service("web"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, before)
        request = Up(after, remove_orphans=True, timeout_s=0)
        plan = await engine.plan(request)
        assert plan.render() == "up demo:\n  stop old: orphan\n  remove old: orphan [after stop old]\n"
        assert (await engine.operate(request)).ok
        assert [status.service for status in engine.statuses()] == ["web"]

    simulate(World, body)


def test_an_optional_dependency_that_fails_is_a_warning() -> None:
    stack = project(service("cache", healthcheck=check(1)), service("web", edge("cache", HEALTHY, required=False)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert row(engine, "web").phase is Phase.RUNNING
        warning = next(event for event in world.events if event.kind is EventKind.WARNING)
        assert warning.text == (
            'optional dependency "cache" failed to start: cache exited with code 1 before it was healthy; '
            "web starts without it"
        )

    simulate(lambda: World({"cache": FakeService(exits_after_s=0.5, exit_code=1)}), body)


@pytest.mark.parametrize(
    ("ends_s", "reason"),
    [
        (None, "db has no health check, so it can never be healthy"),
        (0.1, "db exited with code 1 before it was healthy"),
    ],
)
def test_healthy_of_a_service_without_a_health_check_is_an_error_soon(ends_s: float | None, reason: str) -> None:
    """What ends at once tells more by that."""
    stack = project(service("db"), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert trio.current_time() < 60
        assert outcome.failures[0].error.message == reason

    simulate(lambda: World({"db": FakeService(exits_after_s=ends_s, exit_code=1)}), body)


def test_a_command_that_does_not_exist_fails_its_service_alone_and_leaves_nothing() -> None:
    plain = project(service("web"), service("api", "web"), service("db"))
    stack = Project(
        plain.name,
        plain.working_dir,
        plain.services,
        plain.networks,
        places={"services.web.command": Place("compose.yaml", 7, 14)},
    )
    missing = FakeService(start_error=CommandError('"nope" was not found', exit_code=127))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        error = outcome.error()
        assert error is not None
        assert error.exit_code == 127
        assert str(error) == (
            'compose.yaml:7:14: services.web.command: "nope" was not found (not started because of that: api)'
        )
        assert row(engine, "web").phase is Phase.FAILED
        assert row(engine, "db").phase is Phase.RUNNING
        assert world.runtime.existing() == ("demo-db-1",)
        assert world.networking.reserved.keys() == {"demo-db-1"}
        assert EventKind.SERVICE_BLOCKED in kinds(world, "api")

    simulate(lambda: World({"web": missing}), body)


def test_when_the_only_service_fails_not_even_a_network_is_left() -> None:
    stack = project(service("web"))

    async def body(engine: Engine, world: World) -> None:
        assert not (await up(engine, stack)).ok
        assert world.networking.networks == {}
        assert not engine.running()

    simulate(lambda: World({"web": FakeService(create_error=HostError("no overlayfs"))}), body)


def test_a_port_in_use_is_reported_where_it_is_written() -> None:
    port = PortMapping(80, (8080, 8080), place="services.web.ports[0]")
    stack = project(service("web", ports=(port,)), service("db"))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert str(outcome.failures[0].error) == "services.web.ports[0]: host port 8080/tcp is in use"
        assert outcome.failures[0].error.hint == "stop what listens there"
        assert world.runtime.existing() == ("demo-db-1",)

    simulate(lambda: World(taken_ports=[8080]), body)


def test_a_missing_image_stops_the_plan_before_anything_is_made() -> None:
    stack = project(service("web", image="rootfs:/nowhere"), service("db"))

    async def body(engine: Engine, world: World) -> None:
        with pytest.raises(OperationError, match=r'services\.web\.image: image "rootfs:/nowhere" does not exist'):
            await engine.plan(Up(stack))
        assert world.state.load() is None

    simulate(lambda: World(missing_images=["rootfs:/nowhere"]), body)


def test_a_full_disk_makes_nothing() -> None:
    stack = project(service("web"))

    async def body(engine: Engine, world: World) -> None:
        world.state.full = True
        with pytest.raises(HostError, match="no space left"):
            await engine.operate(Up(stack))
        assert world.runtime.acts == []
        assert engine.statuses() == ()

    simulate(World, body)


def test_a_cycle_and_an_unknown_service_are_input_errors() -> None:
    async def body(engine: Engine, world: World) -> None:
        with pytest.raises(InputError, match="dependency cycle: a -> b -> a"):
            await engine.plan(Up(project(service("a", "b"), service("b", "a"))))
        with pytest.raises(InputError, match="no such service: dbb"):
            await engine.plan(Up(project(service("db")), Selection((ServiceName("dbb"),))))
        with pytest.raises(InputError, match="no such service: db"):
            await engine.plan(Stop(Selection((ServiceName("db"),))))

    simulate(World, body)


def test_wait_ends_at_its_time_out_and_says_who_is_late() -> None:
    stack = project(service("db", healthcheck=check(1, start_period_s=600)), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack, wait=True, timeout_s=20)
        assert trio.current_time() == 20.0
        error = outcome.error()
        assert error is not None
        assert error.message.startswith("application not healthy after 20s: db is not healthy yet")
        assert row(engine, "db").phase is Phase.RUNNING
        assert world.runtime.existing() == ("demo-db-1",)

    simulate(lambda: World({"db": FakeService(healthy_after_s=300)}), body)


def test_without_wait_up_returns_when_all_are_started() -> None:
    stack = project(service("db", healthcheck=check(10)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert trio.current_time() == 0.0
        assert row(engine, "db").health is Health.STARTING
        assert (await up(engine, stack, wait=True)).ok
        assert trio.current_time() == 10.0

    simulate(World, body)


def test_a_second_up_does_nothing_and_a_changed_service_is_replaced_alone() -> None:
    stack = project(service("db"), service("web", "db"))
    after = project(service("db"), service("web", "db", environment={"A": "1"}))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert (await engine.plan(Up(stack))).empty
        pids = {status.service: status.pid for status in engine.statuses()}
        address = row(engine, "web").endpoints[0].addresses[0].ip
        assert (await up(engine, after)).changed == 1
        assert row(engine, "db").pid == pids[ServiceName("db")]
        assert row(engine, "web").pid != pids[ServiceName("web")]
        assert address
        assert (await engine.plan(Up(after))).empty

    simulate(World, body)


def test_cancelling_up_stops_nothing_that_runs_and_leaves_nothing_half_made() -> None:
    stack = project(
        service("db", healthcheck=check(1, retries=100)),
        service("web", edge("db", HEALTHY)),
        service("slow", networks=["back"]),
    )

    async def body(engine: Engine, world: World) -> None:
        with trio.move_on_after(5):
            await up(engine, stack)
        assert world.runtime.alive() == ("demo-db-1",)
        assert world.runtime.existing() == ("demo-db-1",)
        assert world.networking.reserved.keys() == {"demo-db-1"}
        assert world.networking.networks.keys() == {"default"}
        assert [status.service for status in engine.statuses()] == ["db"]
        assert world.events[-1].text == "up demo: cancelled"
        assert (await engine.plan(Up(stack))).changed == 2

    simulate(lambda: World({"db": FakeService(healthy_after_s=60), "slow": FakeService(create_s=60)}), body)


def test_nothing_is_given_up_for_a_volume_that_its_successor_could_not_have() -> None:
    stack = project(service("db", volumes=["data:/d"], restart="always"), service("web", "db"))
    (data,) = stack.volumes.values()
    others = (replace(data, options=(("type", "tmpfs"), ("device", "tmpfs"))), replace(data, external=True, full_name="x"))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        acts = len(world.runtime.acts)
        for other in others:
            changed = replace(stack, volumes={data.key: other})
            with pytest.raises(OperationError, match=other.full_name):
                await up(engine, changed)
            assert (await up(engine, changed, recreate=Recreate.NEVER)).changed == 0
        assert len(world.runtime.acts) == acts
        assert row(engine, "db").phase is row(engine, "web").phase is Phase.RUNNING

    simulate(World, body)
