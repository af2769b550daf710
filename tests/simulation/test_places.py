"""A replica that is replaced under another name: one container and one record in its place, whatever comes between."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestrator.contracts.control import Down, Up
from orchestrator.contracts.state import ProjectRecord, Wanted
from orchestrator.errors import InputError, OperationError
from orchestrator.model.names import Role
from orchestrator.model.project import Project
from orchestrator.model.updating import Order, UpdateRules
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, simulate, two_lives, up
from tests.simulation.test_rolling import WEB, MortalWorld, in_order, stack, update, usual, versions

STOP_FIRST = UpdateRules(Order.STOP_FIRST)
AT_ONCE = replace(STOP_FIRST, parallelism=0)
"""All of it is in the first moment, and so is who takes over."""


def named(version: int, name: str, **fields: Any) -> Project:
    made = service("web", environment={"V": str(version)}, container_name=name, restart="always", **fields)
    return project(made, service("client"))


def one_for_each_place(record: ProjectRecord | None) -> None:
    """Of two, the record of one says whom it succeeds (`ContainerRecord.surplus`)."""
    there = [item for item in record.containers if item.instance.role is Role.REPLICA] if record is not None else []
    holders = [item.instance for item in there if not item.succeeds]
    assert len(holders) == len(set(holders)), sorted(item.container for item in there)


class CheckedWorld(MortalWorld):
    """Looks at each record that is written."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        commit = self.state.commit

        def checked(record: ProjectRecord) -> None:
            one_for_each_place(record)
            if not self.state.frozen:
                commit(record)

        self.state.commit = checked  # type: ignore[method-assign]


def world() -> World:
    return CheckedWorld({"web": WEB})


async def with_other_names(engine: Engine, world: World) -> None:
    """Three replicas of version 2, each by the second of its names."""
    await up(engine, stack(1), wait=True)
    assert (await update(engine, stack(2), wait=True)).ok
    assert versions(world).keys() == usual(1, 2, 3, suffix="-b")


async def begin(nursery: trio.Nursery, engine: Engine, to: Project, steps: int, moment_s: float = 0.0) -> None:
    """An `up` that is under way: so many steps of tasks, or so long, after its plan."""
    planned = trio.Event()

    async def run() -> None:
        await engine.operate(Up(to), on_planned=lambda _plan: planned.set())

    nursery.start_soon(run)
    await planned.wait()
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    await trio.sleep(moment_s)


MOMENTS = [*((steps, 0.0) for steps in range(0, 24, 3)), (0, 0.2), (0, 0.6), (0, 2.6)]


@pytest.mark.parametrize("rules", [AT_ONCE, STOP_FIRST, None])
@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("last", [2, 3, 4])
def test_who_takes_over_a_change_of_names_finds_one_container_in_each_place(
    rules: UpdateRules | None, stopped: bool, last: int
) -> None:
    for moment in MOMENTS:

        async def body(engine: Engine, world: World, moment: tuple[int, float] = moment) -> None:
            await with_other_names(engine, world)
            if stopped:
                await do(engine, Verb.STOP, "web")
            async with trio.open_nursery() as nursery:
                for version in (3, last):
                    await begin(nursery, engine, stack(version, rules), *moment)
                    one_for_each_place(engine._state.record())
                assert (await update(engine, stack(last, rules), wait=True)).ok
            await trio.sleep(60)
            in_order(engine, world, str(last))

        simulate(world, body, range(2))


@pytest.mark.parametrize("rules", [AT_ONCE, STOP_FIRST, None])
def test_what_stops_or_ends_all_amid_a_change_of_names_leaves_what_it_always_leaves(rules: UpdateRules | None) -> None:
    for moment in MOMENTS:
        for verb in (Verb.STOP, Verb.DOWN):

            async def body(
                engine: Engine, world: World, moment: tuple[int, float] = moment, verb: Verb = verb
            ) -> None:
                await with_other_names(engine, world)
                async with trio.open_nursery() as nursery:
                    await begin(nursery, engine, stack(3, rules), *moment)
                    await do(engine, verb, *(("web",) if verb is Verb.STOP else ()))
                await trio.sleep(30)
                assert not any("web" in name for name in world.runtime.alive())
                if verb is Verb.DOWN:
                    assert not world.runtime.existing()
                else:
                    assert len(versions(world)) == 3
                assert (await update(engine, stack(3, rules), wait=True)).ok
                await trio.sleep(30)
                in_order(engine, world, "3")

            simulate(world, body, range(2))


def test_what_waits_for_its_turn_to_get_another_name_stays_wanted_and_comes_back_when_it_crashes() -> None:
    async def body(engine: Engine, world: World) -> None:
        await with_other_names(engine, world)
        world.behave("web", FakeService(healthy_after_s=0.0, exits_after_s=0.1, exit_code=3))
        assert not (await update(engine, stack(3, STOP_FIRST, restart="no"))).ok
        await trio.sleep(10)
        assert versions(world) == {"demo-web-1": "3", "demo-web-2-b": "2", "demo-web-3-b": "2"}
        record = world.state.load()
        assert record is not None
        assert {item.wanted for item in record.containers} == {Wanted.RUNNING}
        assert {row.container for row in engine.statuses() if row.service == "web"} == versions(world).keys()
        world.behave("web", WEB)
        assert (await update(engine, stack(3, STOP_FIRST), wait=True)).ok
        in_order(engine, world, "3")

    simulate(world, body)


def test_a_change_of_names_does_not_wait_for_connections_that_nobody_takes_over() -> None:
    async def body(engine: Engine, world: World) -> None:
        await with_other_names(engine, world)
        begun_s = trio.current_time()
        assert (await update(engine, stack(3, replace(AT_ONCE, monitor_s=0.0)))).ok
        assert trio.current_time() - begun_s < 4.0
        in_order(engine, world, "3")
        assert versions(world).keys() == usual(1, 2, 3)

    simulate(world, body)


@pytest.mark.parametrize("rules", [AT_ONCE, STOP_FIRST, None])
def test_a_supervisor_that_is_killed_amid_a_change_of_names_leaves_one_container_in_each_place(
    rules: UpdateRules | None,
) -> None:
    async def main(moment_s: float, steps: int) -> None:
        here = world()
        async with here.engine() as engine:
            await with_other_names(engine, here)
            assert engine._state.nursery is not None
            engine._state.nursery.start_soon(update, engine, stack(3, rules))
            await trio.sleep(moment_s)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            here.state.frozen = True
        here.state.frozen = False
        one_for_each_place(here.state.load())
        async with here.engine() as engine:
            await trio.sleep(30)
            assert versions(here).keys() == {name for name in here.runtime.existing() if "web" in name}
            assert sorted(row.number for row in engine.statuses() if row.service == "web") == [1, 2, 3]
            assert len(here.runtime.alive()) == 4
            assert (await update(engine, stack(3, rules), wait=True)).ok
            in_order(engine, here, "3")

    for moment_s in (0.0, 0.3, 0.5, 0.8, 2.6):
        for steps in range(0, 40, 3):
            seeds.run(lambda moment_s=moment_s, steps=steps: main(moment_s, steps), seed=steps)  # type: ignore[misc]


def test_a_container_that_the_stack_names_anew_is_one_whatever_comes_between() -> None:
    for moment in MOMENTS:
        for last in ("one", "two", "three"):

            async def first(engine: Engine, world: World, moment: tuple[int, float] = moment) -> None:
                await up(engine, named(1, "one"), wait=True)
                assert engine._state.nursery is not None
                await begin(engine._state.nursery, engine, named(1, "two"), *moment)

            async def over(engine: Engine, world: World, last: str = last) -> None:
                one_for_each_place(engine._state.record())
                assert (await update(engine, named(1, last), wait=True)).ok
                await trio.sleep(30)
                assert versions(world).keys() == {last}
                assert set(world.runtime.alive()) == {last, "demo-client-1"}

            async def both(engine: Engine, world: World) -> None:
                await first(engine, world)
                await over(engine, world)

            async def second(engine: Engine, world: World) -> None:
                await trio.sleep(30)
                assert len(versions(world)) == 1
                assert {"one", "two"} & set(world.runtime.alive()) == versions(world).keys()
                await over(engine, world)

            simulate(world, both, range(2))
            two_lives(world, first, second)


def test_what_could_not_be_made_by_its_new_name_gets_it_at_the_next_up_and_down_takes_it() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, named(1, "one"), wait=True)
        world.behave("web", replace(WEB, create_error=OperationError("no room")))
        failures = (await update(engine, named(1, "two"))).failures
        assert ["no room" in failure.error.message for failure in failures] == [True]
        one_for_each_place(world.state.load())
        assert versions(world).keys() == {"two"}
        world.behave("web", WEB)
        assert (await update(engine, named(1, "three"), wait=True)).ok
        assert versions(world).keys() == {"three"}
        assert set(world.runtime.alive()) == {"three", "demo-client-1"}
        assert (await engine.operate(Down())).ok
        assert not world.runtime.existing()
        assert not world.networking.reserved

    simulate(world, body)


@pytest.mark.parametrize("after", [("two", "one"), ("three", "one"), ("two", "three")])
def test_a_name_that_another_service_has_yet_is_refused_and_nothing_changes(after: tuple[str, str]) -> None:
    def both(first: str, second: str) -> Project:
        return project(service("a", container_name=first), service("b", container_name=second))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, both("one", "two"), wait=True)
        with pytest.raises(InputError, match=r"is already in use by service [ab]") as caught:
            await update(engine, both(*after))
        assert str(caught.value.hint).startswith("remove the container that has it first: pystack rm -fs ")
        assert set(world.runtime.alive()) == {"one", "two"}

    simulate(world, body, range(3))


def test_who_waits_for_what_gets_another_name_is_let_go_when_that_runs() -> None:
    def both(version: int) -> Project:
        web = service("web", environment={"V": str(version)}, update=UpdateRules(Order.START_FIRST))
        return project(web, service("client", "web"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, both(1), wait=True)
        assert (await update(engine, both(2), wait=True)).ok
        await do(engine, Verb.STOP)
        assert (await update(engine, both(3), wait=True)).ok
        assert set(world.runtime.alive()) == {"demo-web-1", "demo-client-1"}

    simulate(world, body)
