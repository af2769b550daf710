"""Several containers of one service: numbers, conditions, names, scaling."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestrator.contracts.control import Scale, Up
from orchestrator.contracts.events import EventKind
from orchestrator.errors import InputError
from orchestrator.model.health import Health
from orchestrator.model.names import ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import COMPLETED, HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, simulate, two_lives, up

WEB = ServiceName("web")


def alive(world: World) -> list[str]:
    return [name.removeprefix("demo-") for name in world.runtime.alive()]


def test_each_replica_has_a_number_and_scaling_down_takes_the_highest() -> None:
    stack = project(service("web", replicas=3))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert alive(world) == ["web-1", "web-2", "web-3"]
        assert (await engine.plan(Up(stack))).empty
        await up(engine, stack, scale={"web": 1})
        assert alive(world) == ["web-1"]
        pid = engine.statuses()[0].pid
        await engine.operate(Scale(stack, {WEB: 4}))
        assert alive(world) == ["web-1", "web-2", "web-3", "web-4"]
        assert engine.statuses()[0].pid == pid
        await engine.operate(Scale(stack, {WEB: 0}))
        assert engine.statuses() == ()
        assert engine.project.services.keys() == {"web"}

    simulate(World, body)


def test_numbers_fill_gaps_and_obsolete_ones_go_first() -> None:
    stack = project(service("web"))
    after = project(service("web", environment={"A": "1"}))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack, scale={"web": 4})
        # 2 and 3 are of the new definition, 1 and 4 of the old one.
        world.runtime.acts.clear()
        await up(engine, after, scale={"web": 4})
        assert sorted(act.container for act in world.runtime.acts if act.what == "create") == [
            f"demo-web-{number}" for number in (1, 2, 3, 4)
        ]
        await up(engine, after, scale={"web": 2})
        assert alive(world) == ["web-1", "web-2"]
        await up(engine, after, scale={"web": 3})
        assert alive(world) == ["web-1", "web-2", "web-3"]

    simulate(World, body)


def test_a_dependent_waits_for_all_replicas_and_says_when_they_were_ready() -> None:
    stack = project(service("db", healthcheck=check(1, retries=99), replicas=3), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        world.behave("db", FakeService(healthy_after_s=7), number=2)
        assert (await up(engine, stack)).ok
        assert trio.current_time() == 7.0
        met = [event for event in world.events if event.kind is EventKind.CONDITION_MET]
        assert [(event.service, event.detail["on"], event.detail["waited_s"]) for event in met] == [("web", "db", 7.0)]

    simulate(World, body)


def test_one_replica_that_can_never_be_healthy_blocks_the_dependent_and_names_itself() -> None:
    stack = project(service("db", healthcheck=check(1, retries=99), replicas=2), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        world.behave("db", FakeService(exits_after_s=3, exit_code=2, healthy_after_s=99), number=2)
        outcome = await up(engine, stack)
        assert [failure.what for failure in outcome.failures] == ["db-2"]
        assert outcome.blocked == ("web",)
        error = outcome.error()
        assert error is not None
        assert error.message == "db-2 exited with code 2 before it was healthy (not started because of that: web)"

    simulate(World, body)


def test_a_service_scaled_to_nothing_holds_nobody_up() -> None:
    stack = project(service("db", replicas=0), service("web", "db"), service("late", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert alive(world) == ["late-1", "web-1"]

    simulate(World, body)


def test_scaling_down_amid_a_wait_waits_for_those_that_stay() -> None:
    stack = project(service("db", healthcheck=check(1, retries=99)), service("web", edge("db", HEALTHY)))

    async def body(engine: Engine, world: World) -> None:
        world.behave("db", FakeService(healthy_after_s=1e9), number=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: up(engine, stack, scale={"db": 2}))
            await trio.sleep(5)
            assert alive(world) == ["db-1", "db-2"]
            await engine.operate(Scale(stack, {ServiceName("db"): 1}))
        assert alive(world) == ["db-1", "web-1"]

    simulate(World, body)


def test_each_replica_is_restarted_by_its_own_policy_and_probed_by_itself() -> None:
    stack = project(service("web", restart="always", healthcheck=check(1), replicas=2))

    async def body(engine: Engine, world: World) -> None:
        world.behave("web", FakeService(crashes=[5]), number=2)
        await up(engine, stack, wait=True)
        await trio.sleep(10)
        first, second = engine.statuses()
        assert (first.restarts, second.restarts) == (0, 1)
        assert {first.health, second.health} == {Health.HEALTHY}
        texts = [event.text for event in world.events if event.kind is EventKind.CONTAINER_EXITED]
        assert texts == ["web-2 exited with code 1 after 5 s"]

    simulate(World, body)


def test_names_are_answered_by_the_replicas_that_are_ready() -> None:
    stack = project(service("web", healthcheck=check(1, retries=99), replicas=2))

    async def body(engine: Engine, world: World) -> None:
        world.behave("web", FakeService(healthy_after_s=9), number=2)
        await up(engine, stack)
        await trio.sleep(3)
        assert len(world.networking.resolve(world.container("web"), "web")) == 1
        await trio.sleep(10)
        assert len(world.networking.resolve(world.container("web"), "web")) == 2

    simulate(World, body)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"container_name": "fixed"}, 'service "web" has a container_name, so it cannot have 2 replicas'),
        ({"ports": (PortMapping(80, (8080, 8080)),)}, 'host port 8080 is fixed, so service "web" cannot have 2 replicas'),
    ],
)
def test_what_only_one_container_can_have_refuses_a_second_one_before_anything_is_done(
    fields: dict[str, Any], message: str
) -> None:
    stack = project(service("web", **fields))

    async def body(engine: Engine, world: World) -> None:
        with pytest.raises(InputError, match=message):
            await up(engine, stack, scale={"web": 2})
        assert world.runtime.acts == []
        assert engine.statuses() == ()
        assert (await up(engine, stack)).ok

    simulate(World, body)


def test_a_range_of_host_ports_is_for_as_many_containers_as_it_has_ports() -> None:
    async def body(engine: Engine, world: World) -> None:
        stack = project(service("web", ports=(PortMapping(80, (8080, 8081)),)))
        with pytest.raises(InputError) as caught:
            await up(engine, stack, scale={"web": 3})
        assert caught.value.message == 'there are 2 host ports (8080-8081), so service "web" cannot have 3 replicas'
        assert caught.value.hint == "publish a wider range (8080-8082:80)"
        assert (await up(engine, stack, scale={"web": 2})).ok

    simulate(World, body)


@pytest.mark.parametrize(("name", "number"), [("nope", 1), ("web", -1), ("web", 10**9)])
def test_a_scale_that_cannot_be_is_one_clear_error(name: str, number: int) -> None:
    async def body(engine: Engine, world: World) -> None:
        with pytest.raises(InputError, match=f"no such service|cannot have {number} replicas"):
            await up(engine, project(service("web")), scale={name: number})

    simulate(World, body)


def test_a_range_of_ports_gives_each_replica_one_of_its_own_which_it_keeps() -> None:
    stack = project(service("web", ports=(PortMapping(80, (8000, 8005)),), replicas=3))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        ports = {status.container: status.published[0].host_port for status in engine.statuses()}
        assert sorted(ports.values()) == [8000, 8001, 8002]
        await do(engine, Verb.RESTART, "web")
        assert {status.container: status.published[0].host_port for status in engine.statuses()} == ports

    simulate(World, body)


def test_a_new_supervisor_takes_over_every_replica_and_makes_again_what_was_not_made() -> None:
    stack = project(service("db", healthcheck=check(1)), service("web", edge("db", HEALTHY), replicas=3))

    async def first(engine: Engine, world: World) -> None:
        with trio.move_on_after(1.5):
            await up(engine, stack)
            await trio.sleep_forever()
        world.state.frozen = True

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(20)
        assert [status.phase for status in engine.statuses()] == [Phase.RUNNING] * 4
        assert [status.number for status in engine.statuses()] == [1, 1, 2, 3]

    async def between(world: World) -> None:
        world.state.frozen = False

    two_lives(lambda: World({"db": FakeService(healthy_after_s=1)}), first, second, between)


def test_a_job_with_replicas_is_complete_when_all_are() -> None:
    stack = project(service("job", replicas=2), service("web", edge("job", COMPLETED)))

    async def body(engine: Engine, world: World) -> None:
        world.behave("job", FakeService(exits_after_s=1), number=1)
        world.behave("job", FakeService(exits_after_s=4), number=2)
        assert (await up(engine, stack)).ok
        assert trio.current_time() == 4.0

    simulate(World, body)


def test_a_replica_that_goes_is_not_restarted_for_what_is_replaced() -> None:
    def stack(version: int, replicas: int) -> Project:
        db = service("db", environment={"V": str(version)})
        return project(db, service("web", edge("db", restart=True), replicas=replicas))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1, 2))
        assert (await up(engine, stack(2, 1))).ok
        assert alive(world) == ["db-1", "web-1"]
        assert [act.what for act in world.runtime.acts if act.container == "demo-web-2"].count("start") == 1

    simulate(lambda: World({"db": FakeService(boot_s=1.0)}), body)
