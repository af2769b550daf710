"""`run`: containers beside the service's own."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio

from orchestrator.contracts.control import Run, Selection, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.state import Wanted
from orchestrator.errors import CommandError, InputError
from orchestrator.model.names import ContainerId, Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine, FirstRun
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import EPOCH, FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, simulate, two_lives, up

WEB = ServiceName("web")
STACK = project(service("db", healthcheck=check(1, retries=99)), service("web", edge("db", HEALTHY), restart="always"))
FIRST = ContainerId("demo-web-run-000000000001")


def request(stack: Project = STACK, **fields: Any) -> Run:
    definition = replace(stack.services[WEB], restart=service("x").restart, command=("sh",))
    return Run(stack, definition, **fields)


def run_name(engine: Engine) -> list[str]:
    return [status.container for status in engine.statuses() if status.role is Role.ONE_OFF]


def test_what_it_needs_is_started_and_waited_for_and_the_service_itself_is_not_touched() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcome = await engine.operate(request())
        assert outcome.ok
        assert outcome.container is not None
        assert outcome.container.startswith("demo-web-run-")
        assert trio.current_time() == 4.0
        assert [status.service for status in engine.statuses()] == ["db", "web"]
        assert "web" not in {status.service for status in engine.statuses() if status.role is Role.REPLICA}
        await up(engine, STACK)
        assert {(status.service, status.role) for status in engine.statuses()} == {
            ("db", Role.REPLICA),
            ("web", Role.REPLICA),
            ("web", Role.ONE_OFF),
        }
        assert (await engine.plan(Up(STACK, remove_orphans=True))).empty
        assert (await do(engine, Verb.DOWN)).ok
        assert world.runtime.existing() == ()

    simulate(lambda: World({"db": FakeService(healthy_after_s=4)}), body)


def test_without_dependencies_nothing_else_is_started() -> None:
    async def body(engine: Engine, world: World) -> None:
        assert (await engine.operate(request(dependencies=False))).ok
        assert [status.service for status in engine.statuses()] == ["web"]

    simulate(World, body)


def test_it_is_never_restarted_and_stays_when_it_has_ended() -> None:
    async def body(engine: Engine, world: World) -> None:
        outcome = await engine.operate(request(dependencies=False))
        await trio.sleep(60)
        (status,) = engine.statuses()
        assert status.phase is Phase.EXITED
        assert status.exit is not None
        assert status.exit.code == 3
        assert outcome.container == status.container
        assert not engine.running()

    simulate(lambda: World({"web": FakeService(exits_after_s=5, exit_code=3)}), body)


def test_one_that_has_ended_is_an_orphan_which_down_takes_anyway() -> None:
    async def body(engine: Engine, world: World) -> None:
        first = (await engine.operate(request(dependencies=False))).container
        assert first is not None
        await up(engine, STACK)
        assert not [event for event in world.events if event.kind is EventKind.WARNING], "it runs"
        await trio.sleep(60)
        assert (await engine.plan(Up(STACK))).orphans == {first: "left over from `run`"}
        second = (await engine.operate(request(dependencies=False))).container
        assert second is not None
        (warning,) = [event for event in world.events if event.kind is EventKind.WARNING]
        assert warning.text == f"orphan containers, left over from `run`: {first}; --remove-orphans removes them"
        assert (await engine.operate(Up(STACK, remove_orphans=True))).ok
        assert run_name(engine) == [second], "one that runs is no orphan"
        await trio.sleep(60)
        assert (await do(engine, Verb.DOWN)).ok
        assert world.runtime.existing() == ()

    simulate(lambda: World({"web": FakeService(exits_after_s=50), "db": FakeService()}), body)


def test_with_rm_it_goes_when_it_has_ended_and_nobody_reads_it_any_more() -> None:
    async def body(engine: Engine, world: World) -> None:
        first = FirstRun(reading=True)
        assert (await engine.operate(request(dependencies=False, remove=True), first_run=first)).ok
        await trio.sleep(30)
        assert len(engine.statuses()) == 1
        engine.done_reading(first)
        await trio.sleep(1)
        assert engine.statuses() == ()
        assert world.runtime.existing() == ()
        assert not world.networking.reserved

    simulate(lambda: World({"web": FakeService(exits_after_s=5)}), body)


def test_it_answers_to_its_own_name_only_unless_it_is_told_to_use_the_services() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        db = world.container("db")
        before = world.networking.resolve(db, "web")
        outcome = await engine.operate(request(dependencies=False))
        assert outcome.container is not None
        assert world.networking.resolve(db, "web") == before
        assert len(world.networking.resolve(db, outcome.container)) == 1
        await engine.operate(request(dependencies=False, use_aliases=True))
        assert len(world.networking.resolve(db, "web")) == 2

    simulate(World, body)


def test_a_name_in_use_is_one_clear_error() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        with pytest.raises(InputError, match='the container name "demo-web-1" is already in use'):
            await engine.operate(request(name="demo-web-1"))
        assert (await engine.operate(request(name="mine"))).container == "mine"
        with pytest.raises(InputError, match='"mine" is already in use'):
            await engine.operate(request(name="mine"))

    simulate(World, body)


def test_verbs_about_services_pass_it_over_but_for_down() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        made = (await engine.operate(request())).container
        assert made is not None
        await do(engine, Verb.STOP, "web")
        assert made in world.runtime.alive()
        await engine.operate(Stop(Selection(containers=(made,))))
        assert made not in world.runtime.alive()

    simulate(World, body)


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("reading", [True, False])
def test_a_start_that_is_refused_leaves_nothing(remove: bool, reading: bool) -> None:
    async def body(engine: Engine, world: World) -> None:
        first = FirstRun(reading=reading)
        outcome = await engine.operate(request(dependencies=False, remove=remove), first_run=first)
        error = outcome.error()
        assert error is not None
        assert error.exit_code == 127
        await trio.sleep(1)
        assert world.runtime.existing() == ()
        assert engine.statuses() == ()
        assert not world.networking.reserved
        assert not engine.running()

    missing = FakeService(start_error=CommandError("not found", exit_code=127))
    simulate(lambda: World({"web": missing}), body)


def test_one_that_is_blocked_leaves_nothing_and_its_dependencies_as_they_are() -> None:
    async def body(engine: Engine, world: World) -> None:
        assert not (await engine.operate(request())).ok
        await trio.sleep(1)
        assert run_name(engine) == []
        assert [status.service for status in engine.statuses()] == ["db"]

    simulate(lambda: World({"db": FakeService(exits_after_s=1, exit_code=1)}), body)


def test_one_that_had_not_begun_when_its_supervisor_was_killed_is_removed() -> None:
    async def first(engine: Engine, world: World) -> None:
        with trio.move_on_after(5.0):
            await engine.operate(request())
        world.state.frozen = True

    async def between(world: World) -> None:
        world.state.frozen = False

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(30)
        assert [status.service for status in engine.statuses()] == ["db"]

    two_lives(lambda: World({"db": FakeService(healthy_after_s=1000)}), first, second, between)


def test_its_stdin_is_closed_here_whatever_becomes_of_it() -> None:
    for behaviour in (FakeService(), FakeService(boot_s=50)):

        async def body(engine: Engine, world: World) -> None:
            reader, writer = os.pipe()
            with trio.move_on_after(20):
                await engine.operate(request(dependencies=False), first_run=FirstRun(stdin=reader))
            await trio.sleep(60)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(reader)
            os.close(writer)

        simulate(lambda behaviour=behaviour: World({"web": behaviour}), body, range(1))  # type: ignore[misc]


def test_a_supervisor_killed_at_any_moment_of_it_leaves_what_the_next_one_can_take_over() -> None:
    for moment_s in (0.05, 0.3, 0.8, 2.0):

        async def first(engine: Engine, world: World, moment_s: float = moment_s) -> None:
            with trio.move_on_after(moment_s):
                await engine.operate(request(remove=True))
                await trio.sleep_forever()
            world.state.frozen = True

        async def between(world: World) -> None:
            world.state.frozen = False
            await trio.sleep(30)

        async def second(engine: Engine, world: World) -> None:
            await trio.sleep(30)
            assert run_name(engine) == []
            assert (await do(engine, Verb.DOWN)).ok
            assert world.runtime.existing() == ()
            assert not world.networking.reserved

        slow = {"web": FakeService(create_s=0.4, boot_s=0.4, exits_after_s=1), "db": FakeService()}
        two_lives(lambda slow=slow: World(slow), first, second, between)  # type: ignore[misc]


def test_how_it_ended_is_known_to_every_supervisor_that_comes_after() -> None:
    for seen_s in (10.0, 1.0):  # It ended under the eyes of the first one, or of none.

        async def first(engine: Engine, world: World, seen_s: float = seen_s) -> None:
            with trio.move_on_after(seen_s):
                await engine.operate(request(dependencies=False))
                await trio.sleep_forever()
            world.state.frozen = True

        async def between(world: World) -> None:
            world.state.frozen = False
            await trio.sleep(30)

        async def second(engine: Engine, world: World) -> None:
            (status,) = engine.statuses()
            assert (status.phase, status.wanted) == (Phase.EXITED, Wanted.RUNNING)
            assert status.reason == "exited with code 3"
            known = world.state.load()
            assert known is not None
            (record,) = known.containers
            assert (record.wanted, record.last_exit) == (Wanted.RUNNING, Exit(code=3, finished_at=EPOCH + 5))
            assert FIRST not in {step.container for step in (await engine.plan(Up(STACK))).operations}

        two_lives(lambda: World({"web": FakeService(exits_after_s=5, exit_code=3)}), first, second, between)
