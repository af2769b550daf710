"""Faults on purpose: how long they last, whom they follow, and that none outlives its supervisor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from orchestrator.contracts.control import Down, Pause, Scale, Selection, Unpause
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.injecting import Standing
from orchestrator.contracts.network import Delay
from orchestrator.errors import HostError, InputError, OperationError, PystackError
from orchestrator.model.chaos import parse_injection
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.world import World
from tests.simulation.stage import do, row, simulate, starts, two_lives, up

ALWAYS = "always"
STACK = project(service("api", restart=ALWAYS), service("db"))


async def inject(engine: Engine, text: str) -> Standing:
    return await engine.inject(parse_injection(text))


async def refused(work: Callable[[], Awaitable[object]]) -> PystackError:
    try:
        await work()
    except PystackError as error:
        return error
    raise AssertionError("not refused")


def cut(world: World, one: str = "api", other: str = "db", number: int = 1) -> bool:
    ends = world.networking.reserved
    a, b = (ends[world.container(name, n)][0].addresses[0].ip for name, n in ((one, number), (other, 1)))
    found = {world.networking.reaches(a, b), world.networking.reaches(b, a)}
    assert len(found) == 1
    return found == {False}


def chaos(world: World) -> list[tuple[object, object]]:
    return [
        (event.detail["action"], event.detail["fault"]) for event in world.events if event.kind is EventKind.CHAOS
    ]


def test_a_fault_ends_by_itself_after_a_minute_and_is_told_when_it_begins_and_ends() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        made = await inject(engine, "cut api db")
        assert (made.id, made.text, made.left_s) == ("cut-1", "cut api from db", 60.0)
        assert row(engine, "api").faults == ("cut from db",)
        assert row(engine, "db").faults == ("cut from api",)
        await trio.sleep(59)
        assert cut(world)
        assert [fault.left_s for fault in engine.injected()] == [1.0]
        await trio.sleep(1.5)
        assert not cut(world)
        assert engine.injected() == ()
        assert (row(engine, "api").faults, row(engine, "db").faults) == ((), ())
        assert chaos(world) == [("begin", "cut-1"), ("end", "cut-1")]

    simulate(World, scene)


def test_until_it_is_undone_means_so_and_undoing_ends_what_is_named() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "cut api db --for 0")
        await inject(engine, "dns-fail api --for 0")
        await trio.sleep(100_000)
        assert cut(world)
        error = await refused(lambda: engine.undo(["cut-1", "cut-9"]))
        assert isinstance(error, InputError)
        assert cut(world), "none has ended then"
        assert [fault.id for fault in await engine.undo(["cut-1"])] == ["cut-1"]
        assert not cut(world)
        assert [fault.id for fault in engine.injected()] == ["dns-fail-2"]
        assert world.networking.resolve(world.container("api"), "db") == ()
        await engine.undo(["dns-fail-2"])
        assert world.networking.resolve(world.container("api"), "db") != ()

    simulate(World, scene)


def test_a_fault_follows_replicas_that_come_later_and_a_container_that_is_replaced() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "cut api db --for 0")
        assert (await engine.operate(Scale(STACK, {ServiceName("api"): 3}))).error() is None
        assert all(cut(world, number=number) for number in (1, 2, 3))
        changed = project(service("api", restart=ALWAYS, labels={"new": "1"}), service("db"))
        assert (await up(engine, changed)).error() is None
        assert all(status.faults == ("cut from db",) for status in engine.statuses() if status.service == "api")
        assert cut(world)
        await engine.undo(["cut-1"])
        assert not cut(world)

    simulate(World, scene)


def test_a_service_that_is_restarted_keeps_its_fault_and_down_ends_all() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "cut api db --for 0")
        await inject(engine, "pause db --for 0")
        await do(engine, Verb.RESTART, "api")
        assert cut(world)
        assert engine.running()
        assert (await engine.operate(Down())).error() is None
        assert engine.injected() == ()
        assert world.networking.impairments == ()
        assert not engine.running()

    simulate(World, scene)


def test_a_fault_between_containers_that_are_gone_is_none() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "cut api db --for 0")
        await engine.operate(Down(selection=Selection((ServiceName("db"),))))
        assert engine.injected() == ()
        assert row(engine, "api").faults == ()

    simulate(World, scene)


def test_what_is_killed_has_crashed_and_its_policy_decides() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        made = await inject(engine, "kill api")
        assert engine.injected() == ()
        await trio.sleep(5)
        assert len(starts(world, "api")) == 2
        assert (row(engine, "api").phase, row(engine, "api").restarts) == (Phase.RUNNING, 1)
        await inject(engine, "kill db")
        await trio.sleep(5)
        assert row(engine, "db").phase is Phase.EXITED
        assert row(engine, "db").exit is not None
        assert chaos(world)[:2] == [("begin", made.id), ("end", made.id)]
        error = await refused(lambda: inject(engine, "kill db"))
        assert "does not run: it is exited" in error.message

    simulate(World, scene)


def test_what_runs_out_of_memory_has_crashed_and_everybody_is_told_so() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK, scale={"api": 2})
        await inject(engine, "oom api")
        await trio.sleep(5)
        assert [item.restarts for item in engine.statuses() if item.service == "api"] == [1, 1]
        await inject(engine, "oom db")
        await trio.sleep(5)
        ended = row(engine, "db").exit
        assert ended is not None
        assert (row(engine, "db").phase, ended.status, ended.oom_killed) == (Phase.EXITED, 137, True)
        assert chaos(world)[:2] == [("begin", "oom-1"), ("end", "oom-1")]
        assert "does not run: it is exited" in (await refused(lambda: inject(engine, "oom db"))).message

    simulate(World, scene)


def test_what_a_fault_pauses_goes_on_by_itself_and_what_a_user_paused_does_not() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK, scale={"api": 2})
        await engine.operate(Pause(Selection(containers=(world.container("api", 2),))))
        await inject(engine, "pause api --for 10s")
        assert [item.phase for item in engine.statuses() if item.service == "api"] == [Phase.PAUSED, Phase.PAUSED]
        await trio.sleep(11)
        assert [item.phase for item in engine.statuses() if item.service == "api"] == [Phase.RUNNING, Phase.PAUSED]

    simulate(World, scene)


def test_who_lets_it_go_on_earlier_is_not_in_the_way() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "pause api --for 10s")
        await engine.operate(Unpause(Selection((ServiceName("api"),))))
        assert row(engine, "api").phase is Phase.RUNNING
        await trio.sleep(11)
        assert (row(engine, "api").phase, engine.injected()) == (Phase.RUNNING, ())

    simulate(World, scene)


def test_what_the_kernel_cannot_do_is_refused_and_leaves_what_stood() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "cut api db")
        world.networking.cannot.add(Delay)
        assert isinstance(await refused(lambda: inject(engine, "lag api db 100ms")), HostError)
        assert cut(world)
        assert [fault.id for fault in engine.injected()] == ["cut-1"]
        assert row(engine, "api").faults == ("cut from db",)
        assert isinstance(await refused(lambda: inject(engine, "cut api nobody")), InputError)
        await do(engine, Verb.STOP, "db")
        await inject(engine, "cut db outside")
        assert isinstance(await refused(lambda: inject(engine, "pause db")), OperationError)

    simulate(World, scene)


def test_there_is_nothing_between_one_container_and_itself() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        for text in ("cut api api", f"lag api {world.container('api')} 1ms"):
            assert "is one container" in (await refused(lambda text=text: inject(engine, text))).message  # type: ignore[misc]
        assert (await engine.operate(Scale(STACK, {ServiceName("api"): 2}))).error() is None
        await inject(engine, "cut api api")
        assert row(engine, "api").faults == ("cut from api",)

    simulate(World, scene)


def test_a_killed_supervisors_faults_are_undone_by_the_next_one_which_says_so() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await inject(engine, "cut api db --for 0")
        await inject(engine, "pause db --for 0")
        assert cut(world)

    async def second(engine: Engine, world: World) -> None:
        assert not cut(world)
        assert [row(engine, name).phase for name in ("api", "db")] == [Phase.RUNNING, Phase.RUNNING]
        assert row(engine, "api").faults == ()
        assert engine.injected() == ()
        warnings = [event.text for event in world.events if event.kind is EventKind.WARNING]
        assert any("cut-1" in text and "pause-2" in text for text in warnings)
        assert chaos(world)[-2:] == [("end", "cut-1"), ("end", "pause-2")]

    two_lives(World, first, second)


def test_the_next_supervisor_keeps_paused_what_a_user_paused() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        await engine.operate(Pause(Selection((ServiceName("db"),))))
        await inject(engine, "cut api db --for 0")

    async def second(engine: Engine, world: World) -> None:
        assert row(engine, "db").phase is Phase.PAUSED
        assert not cut(world)

    two_lives(World, first, second)
