"""``post_start``, ``pre_stop`` and ``pre_start`` in virtual time."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.control import Pause, Recreate, Run, Selection, Unpause
from orchestrator.contracts.events import EventKind
from orchestrator.model.hooks import Hook
from orchestrator.model.names import ContainerId, Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.service import InitStep, Service
from orchestrator.model.volume import Mount, MountKind
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine, Outcome
from orchestrator.scheduler.inherited import inherited_mounts
from orchestrator.testing.build import check, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, kill, row, simulate, started, starts, two_lives, up

WEB = ServiceName("web")


def with_hooks(*, after: str = "", before: str = "", restart: str = "no") -> Service:
    def hooks(text: str, kind: str) -> tuple[Hook, ...]:
        commands = filter(None, text.split(";"))
        return tuple(Hook(tuple(one.split()), place=f"services.web.{kind}[{n}]") for n, one in enumerate(commands))

    made = service("web", restart=restart, stop_grace_s=10.0)
    return replace(made, post_start=hooks(after, "post_start"), pre_stop=hooks(before, "pre_stop"))


def acts(world: World, *kinds: str, of: str = "demo-web-1") -> list[tuple[str, float]]:
    return [(act.what, act.at_s) for act in world.runtime.acts if act.container == of and act.what.startswith(kinds)]


def complaint(outcome: Outcome) -> str:
    error = outcome.error()
    assert error is not None
    return error.message


def told(world: World, kind: EventKind) -> list[str]:
    return [event.text for event in world.events if event.kind is kind]


# post_start


def test_who_needs_a_service_starts_when_its_hooks_are_done() -> None:
    stack = project(with_hooks(after="sleep 2;exit 0 hello;sleep 1"), service("api", "web"))

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert trio.current_time() == 3
        assert started(world) == {"web": 0, "api": 3}
        assert told(world, EventKind.HOOK_OUTPUT) == ["hello"]
        assert [at_s for _, at_s in acts(world, "exec")] == [0, 2, 2]
        assert (await up(engine, stack)).changed == 0

    simulate(World, scene)


def test_one_that_fails_fails_the_start_blocks_the_others_and_stops_nothing() -> None:
    stack = project(with_hooks(after="exit 3 no-good;sleep 1"), service("api", "web"))

    async def scene(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert complaint(outcome).startswith("web hook exited with status 3 (post_start[0]): no-good")
        assert outcome.blocked == ("api",)
        assert row(engine, "web").phase is Phase.RUNNING
        assert acts(world, "exec sleep") == []
        assert (await up(engine, stack)).ok, "the next one takes it as it is"
        assert row(engine, "api").phase is Phase.RUNNING

    simulate(World, scene)


def test_a_command_that_is_not_there_is_named() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert complaint(await up(engine, project(with_hooks(after="missing")))) == (
            'post_start[0] of web: "missing" was not found'
        )

    simulate(World, scene)


def test_up_wait_waits_for_hooks_too() -> None:
    checked = replace(with_hooks(after="sleep 7"), healthcheck=check(1.0))

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, project(checked), wait=True)).ok
        assert trio.current_time() >= 7
        late = await up(engine, project(with_hooks(after="hang")), wait=True, timeout_s=5)
        assert "post_start[0] of web is not done yet" in complaint(late)

    simulate(World, scene, range(4))


def test_a_run_that_ends_under_a_hook_has_failed_it_and_the_next_run_has_it_again() -> None:
    stack = project(with_hooks(after="sleep 5", restart="always"))

    async def scene(engine: Engine, world: World) -> None:
        assert "post_start[0] of web was cut off: web exited with code 1" in complaint(await up(engine, stack))
        await trio.sleep(20)
        assert len(acts(world, "exec")) == len(starts(world, "web")) == 2
        assert (await up(engine, stack, wait=True)).ok

    simulate(lambda: World({"web": FakeService(crashes=[3])}), scene)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.DOWN, Verb.RESTART])
def test_a_hook_that_hangs_holds_up_its_start_and_gives_way_to_a_stop(verb: Verb) -> None:
    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, project(with_hooks(after="hang")))
            await trio.sleep(100)
            assert row(engine, "web").phase is Phase.RUNNING
            nursery.start_soon(do, engine, verb, "web")
            await trio.sleep(5)
            assert len(starts(world, "web")) == (2 if verb is Verb.RESTART else 1)
            assert told(world, EventKind.HOOK_FAILED) == []
            nursery.cancel_scope.cancel()

    simulate(World, scene, range(6))


def test_a_run_that_is_asked_to_end_before_it_is_there_begins_none() -> None:
    stack = project(with_hooks(after="sleep 1", before="sleep 2"))

    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack)
            await trio.sleep(0.5)
            assert (await do(engine, Verb.STOP)).ok
        assert told(world, EventKind.HOOK_STARTED) == ["pre_stop[0] of web begins"]

    simulate(lambda: World({"web": FakeService(boot_s=1)}), scene)


def test_a_run_that_ends_under_a_hook_at_the_moment_of_a_down_does_not_fail_that() -> None:
    stack = project(with_hooks(after="sleep 2"))

    async def scene(engine: Engine, world: World) -> None:
        with trio.move_on_after(1):
            await up(engine, stack)
        assert (await do(engine, Verb.DOWN)).ok

    simulate(lambda: World({"web": FakeService(exits_after_s=1.0)}), scene)


def test_a_cancelled_up_leaves_the_hook_to_its_end() -> None:
    async def scene(engine: Engine, world: World) -> None:
        with trio.move_on_after(1):
            await up(engine, project(with_hooks(after="sleep 3;sleep 3")))
        await trio.sleep(10)
        assert len(acts(world, "exec")) == 2
        assert row(engine, "web").phase is Phase.RUNNING
        assert told(world, EventKind.SERVICE_READY) == ["web is running"]

    simulate(World, scene)


def test_a_supervisor_that_comes_later_does_it_again_and_not_what_is_done() -> None:
    async def first(engine: Engine, world: World) -> None:
        with trio.move_on_after(1):
            await up(engine, project(with_hooks(after="sleep 3")))

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(4)
        assert len(acts(world, "exec")) == 2

    async def third(engine: Engine, world: World) -> None:
        await trio.sleep(9)
        assert len(acts(world, "exec")) == 1

    two_lives(World, first, second)

    async def whole(engine: Engine, world: World) -> None:
        await up(engine, project(with_hooks(after="sleep 3")))

    two_lives(World, whole, third)


def test_one_offs_have_them_and_what_runs_before_is_not_for_them() -> None:
    stack = project(stepped("exit 0 x"))

    async def scene(engine: Engine, world: World) -> None:
        definition = replace(with_hooks(after="sleep 1"), pre_start=stack.services[WEB].pre_start)
        assert (await engine.operate(Run(stack, definition))).ok
        assert len([act for act in world.runtime.acts if act.what == "exec sleep 1"]) == 1
        assert initial(world) == []

    simulate(World, scene, range(4))


def test_a_pause_holds_up_the_hooks_that_are_to_come() -> None:
    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, project(with_hooks(after="sleep 1;sleep 1")))
            await trio.sleep(0.5)
            await engine.operate(Pause(Selection()))
            await trio.sleep(50)
            assert len(acts(world, "exec")) == 1
            await engine.operate(Unpause(Selection()))
            await trio.sleep(2)
            assert len(acts(world, "exec")) == 2
            nursery.cancel_scope.cancel()

    simulate(World, scene, range(6))


# pre_stop


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.DOWN, Verb.RESTART])
def test_before_a_stop_by_request_and_before_its_signal(verb: Verb) -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(with_hooks(before="sleep 2;sleep 1")))
        assert (await do(engine, verb)).ok
        assert [what for what, _ in acts(world, "exec", "signal")] == ["exec sleep 2", "exec sleep 1", "signal 15"]
        assert acts(world, "signal") == [("signal 15", 3.0)]

    simulate(World, scene)


def test_before_a_replacement_too_and_not_when_it_ended_by_itself_or_is_killed() -> None:
    stack = project(with_hooks(before="sleep 1"))

    async def replaced(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await up(engine, stack, recreate=Recreate.ALWAYS)
        assert len(acts(world, "exec")) == 1
        await kill(engine)
        await trio.sleep(1)
        await do(engine, Verb.STOP, timeout_s=0)
        assert len(acts(world, "exec")) == 1

    async def ended(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(10)
        await do(engine, Verb.DOWN)
        assert acts(world, "exec") == []

    simulate(World, replaced, range(6))
    simulate(lambda: World({"web": FakeService(exits_after_s=5)}), ended, range(6))


def test_a_stop_with_a_short_time_leaves_it_its_own() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(with_hooks(before="sleep 2")))
        assert (await do(engine, Verb.STOP, timeout_s=0)).ok
        assert [what for what, _ in acts(world, "exec", "signal")] == ["exec sleep 2"], "and then the kill, at once"
        assert trio.current_time() == 2
        await up(engine, project(with_hooks(before="hang")))
        outcome = await do(engine, Verb.DOWN, timeout_s=0)
        assert complaint(outcome) == "pre_stop[0] of web was still running after 10s, and was killed"

    simulate(World, scene, range(6))


def test_one_that_fails_or_hangs_is_told_and_the_container_is_stopped_all_the_same() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(with_hooks(before="exit 4 broken;hang")))
        outcome = await do(engine, Verb.RESTART)
        assert "web hook exited with status 4 (pre_stop[0]): broken" in told(world, EventKind.HOOK_FAILED)[0]
        assert complaint(outcome) == "pre_stop[1] of web was still running after 10s, and was killed"
        assert acts(world, "signal") == [("signal 15", 10.0)], "which has a grace period of its own"
        assert row(engine, "web").phase is Phase.RUNNING
        assert (await up(engine, project(with_hooks(before="exit 4 broken;hang"), service("api", "web")))).ok

    simulate(World, scene, range(6))


def test_a_kill_does_not_wait_for_it() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(with_hooks(before="hang")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(do, engine, Verb.STOP)
            await trio.sleep(1)
            await do(engine, Verb.STOP, timeout_s=0)
            assert trio.current_time() == 1
            assert row(engine, "web").phase is Phase.EXITED

    simulate(World, scene, range(6))


def test_what_is_paused_goes_on_for_it() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(with_hooks(before="sleep 1")))
        await engine.operate(Pause(Selection()))
        assert (await do(engine, Verb.STOP)).ok
        assert [what for what, _ in acts(world, "resume", "exec", "signal")][:2] == ["resume", "exec sleep 1"]

    simulate(World, scene, range(4))


# pre_start

MOUNTS = (Mount(MountKind.VOLUME, "/own"), Mount(MountKind.BIND, "/bound", "/src"))


def stepped(*commands: str, each: frozenset[int] = frozenset()) -> Service:
    made = replace(service("web"), volumes=MOUNTS)
    steps = (
        InitStep(
            replace(service("web", image="steps"), command=tuple(text.split())),
            number in each,
            f"services.web.pre_start[{number}]",
        )
        for number, text in enumerate(commands)
    )
    return replace(made, pre_start=tuple(steps))


def initial(world: World) -> list[str]:
    """The containers that were started before others, in order."""
    return [act.container for act in world.runtime.acts if act.what == "start" and "-init-" in act.container]


def short(*names: ContainerId, code: int = 0) -> World:
    """These containers end after a second."""
    world = World()
    for name in names:
        world.runtime.behaviours[name] = FakeService(exits_after_s=1, exit_code=code)
    return world


FIRST, SECOND = ContainerId("demo-web-init-1.0"), ContainerId("demo-web-init-1.1")


def test_steps_run_one_after_the_other_before_the_service_and_leave_nothing() -> None:
    stack = project(stepped("a", "b"), service("api", "web"))

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert initial(world) == [FIRST, SECOND]
        assert starts(world, "web") == [2.0]
        assert world.runtime.existing() == ("demo-api-1", "demo-web-1")
        for verb in (Verb.RESTART, Verb.STOP, Verb.START):
            assert (await do(engine, verb)).ok
        assert (await up(engine, stack)).changed == 0
        assert len(initial(world)) == 2, "once for a container"
        assert (await up(engine, stack, recreate=Recreate.ALWAYS)).ok
        assert len(initial(world)) == 4
        assert all(status.role is Role.REPLICA for status in engine.statuses())

    simulate(lambda: short(FIRST, SECOND), scene)


def test_a_step_has_the_mounts_of_whom_it_is_for() -> None:
    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, project(stepped("a")))
            await trio.sleep(0.5)
            found = engine._state.containers[FIRST]
            mounts = {mount.target: mount.source for mount in inherited_mounts(engine._state, found.definition)}
            own = world.volumes.ensure_anonymous(world.container("web"), "/own")
            assert mounts == {"/own": own, "/bound": "/src"}
            assert found.record.own_name_only

    simulate(lambda: short(FIRST), scene, range(3))


def test_what_is_for_all_runs_once_and_what_is_for_each_for_each() -> None:
    names = [ContainerId(f"demo-web-init-{number}.{step}") for number in (1, 2, 3) for step in (0, 1)]
    stack = project(stepped("a", "b", each=frozenset({1})))

    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack, scale={"web": 2})).ok
        found = initial(world)
        assert len([name for name in found if name.endswith(".0")]) == 1
        assert sorted(name for name in found if name.endswith(".1")) == [names[1], names[3]]
        assert found[0].endswith(".0"), "those for each wait for that for all"
        assert (await up(engine, stack, scale={"web": 3})).ok
        assert initial(world)[3:] == [names[5]]
        changed = project(stepped("other", "b", each=frozenset({1})))
        assert (await up(engine, changed, scale={"web": 3})).ok
        assert len(initial(world)[4:]) == 4

    simulate(lambda: short(*names), scene)


def test_one_that_fails_keeps_the_service_away_and_is_done_again_the_next_time() -> None:
    stack = project(stepped("a", "b"), service("api", "web"))

    async def scene(engine: Engine, world: World) -> None:
        outcome = await up(engine, stack)
        assert complaint(outcome).startswith("pre_start[0] of web exited with code 3")
        assert outcome.blocked == ("api",)
        assert world.runtime.existing() == ()
        assert initial(world) == [FIRST]
        world.runtime.behaviours.update({name: FakeService(exits_after_s=1) for name in (FIRST, SECOND)})
        assert (await up(engine, stack)).ok
        assert initial(world) == [FIRST, FIRST, SECOND]

    simulate(lambda: short(FIRST, SECOND, code=3), scene)


@pytest.mark.parametrize("end", ["cancel", "stop", "down"])
def test_an_operation_that_ends_takes_its_step_away(end: str) -> None:
    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, project(stepped("a")))
            await trio.sleep(5)
            assert world.runtime.alive() == (FIRST,)
            if end == "cancel":
                nursery.cancel_scope.cancel()
            else:
                await do(engine, Verb.STOP if end == "stop" else Verb.DOWN)
        assert world.runtime.alive() == ()
        assert FIRST not in world.runtime.existing()
        assert starts(world, "web") == []

    simulate(World, scene)


def test_a_supervisor_that_comes_later_begins_the_step_anew() -> None:
    stack = project(stepped("a", "b"))

    async def first(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack)
            await trio.sleep(1.5)
            world.state.frozen = True
            nursery.cancel_scope.cancel()

    async def between(world: World) -> None:
        world.state.frozen = False
        world.runtime.plant(SECOND)

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(10)
        assert initial(world) == [FIRST, SECOND, FIRST, SECOND]
        assert world.runtime.existing() == ("demo-web-1",)
        assert row(engine, "web").phase is Phase.RUNNING

    two_lives(lambda: short(FIRST, SECOND), first, second, between)
