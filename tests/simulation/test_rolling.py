"""Rolling updates in virtual time: what serves meanwhile, what a failure does, and what is left whatever happens."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contracts.control import Down, Operation, Recreate, Remove, Scale, Selection, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.state import Wanted
from orchestrator.errors import InputError
from orchestrator.model.chaos import FaultKind, Injection
from orchestrator.model.health import Health
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.network import Attachment, PortMapping
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.updating import FailureAction, Order, UpdateRules
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Adapters, Engine, Outcome
from orchestrator.testing import seeds
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, simulate, two_lives, up

START_FIRST = UpdateRules(Order.START_FIRST)
STOP_FIRST = UpdateRules(Order.STOP_FIRST)
WEB_ALONE = Selection((ServiceName("web"),))
WEB = FakeService(boot_s=0.3, healthy_after_s=1.5, stops_after_s=0.5)


def web(version: int, rules: UpdateRules | None = START_FIRST, replicas: int = 3, **fields: Any) -> Service:
    fields = {"healthcheck": check(1), "restart": "always", **fields}
    return service("web", environment={"V": str(version)}, replicas=replicas, update=rules, **fields)


def stack(version: int, rules: UpdateRules | None = START_FIRST, replicas: int = 3, **fields: Any) -> Project:
    return project(web(version, rules, replicas, **fields), service("client"))


def versions(world: World) -> dict[str, str]:
    """What is there of `web`, and of which version."""
    record = world.state.load()
    assert record is not None
    found = (item for item in record.containers if item.instance.service == "web")
    return {item.container: item.definition.service.environment["V"] for item in found}


def usual(*numbers: int, suffix: str = "") -> set[str]:
    return {f"demo-web-{number}{suffix}" for number in numbers}


def in_order(engine: Engine, world: World, version: str, count: int = 3) -> None:
    """`count` replicas of that version run, are answered with, and there is nothing else."""
    found = versions(world)
    assert sorted(found.values()) == [version] * count, found
    rows = [row for row in engine.statuses() if row.service == "web"]
    assert [row.number for row in rows] == list(range(1, count + 1))
    assert {row.phase for row in rows} == {Phase.RUNNING}
    assert {name for name in world.runtime.existing() if "web" in name} == found.keys()
    assert serving(world) == found.keys()
    record = world.state.load()
    assert record is not None
    assert not any(item.succeeds or item.took_over for item in record.containers)
    assert not engine._state.rolling


def serving(world: World) -> set[str]:
    """Who is answered with when the client asks for the service."""
    answers = set(world.networking.resolve(ContainerId("demo-client-1"), "web"))
    return {
        name
        for name, endpoints in world.networking.reserved.items()
        if any(address.ip in answers for endpoint in endpoints for address in endpoint.addresses)
    }


@asynccontextmanager
async def watched(engine: Engine, world: World) -> AsyncIterator[list[int]]:
    """How many of those that are answered with run and are healthy, at each moment meanwhile."""
    counts: list[int] = []

    async def look() -> None:
        while True:
            # Those that are asked to end have got no signal yet, or go on with what they have.
            rows = {row.container: row for row in engine.statuses()}
            well = [rows[name] for name in map(ContainerId, serving(world)) if name in rows]
            counts.append(sum(row.phase is Phase.RUNNING and row.health in (Health.NONE, Health.HEALTHY) for row in well))
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        yield counts
        nursery.cancel_scope.cancel()


async def update(engine: Engine, to: Project, *names: str, **options: Any) -> Outcome:
    with trio.fail_after(600):
        return await up(engine, to, *names, **options)


def test_start_first_keeps_all_replicas_serving_and_the_names_take_turns() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1), wait=True)
        for version, suffix in ((2, "-b"), (3, "")):
            async with watched(engine, world) as counts:
                outcome = await update(engine, stack(version))
            assert outcome.ok, outcome
            assert min(counts) == 3
            in_order(engine, world, str(version))
            assert set(versions(world)) == usual(1, 2, 3, suffix=suffix)
            assert serving_as(world, "demo-web-2") == {f"demo-web-2{suffix}"}

    def serving_as(world: World, name: str) -> set[str]:
        answers = set(world.networking.resolve(ContainerId("demo-client-1"), name))
        return {who for who, ends in world.networking.reserved.items() if ends and ends[0].addresses[0].ip in answers}

    simulate(lambda: World({"web": WEB}), body)


def test_stop_first_takes_as_many_as_it_says_away_at_a_time_and_without_rules_all() -> None:
    two, all_of_them = replace(STOP_FIRST, parallelism=2), replace(STOP_FIRST, parallelism=0)
    for rules, least in ((STOP_FIRST, 2), (two, 1), (all_of_them, 0), (None, 0)):

        async def body(engine: Engine, world: World, rules: UpdateRules | None = rules, least: int = least) -> None:
            await up(engine, stack(1), wait=True)
            async with watched(engine, world) as counts:
                assert (await update(engine, stack(2, rules), wait=True)).ok
            assert min(counts) == least
            in_order(engine, world, "2")
            assert set(versions(world)) == usual(1, 2, 3)

        simulate(lambda: World({"web": WEB}), body, range(4))


def test_the_delay_is_between_two_and_the_monitored_time_at_the_end() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1), wait=True)
        begun_s = trio.current_time()
        rules = replace(START_FIRST, delay_s=20, monitor_s=30)
        assert (await update(engine, stack(2, rules))).ok
        made = [act.at_s - begun_s for act in world.runtime.acts if act.what == "start" and act.container.endswith("-b")]
        assert [round(later - earlier) for earlier, later in pairwise(made)] == [22, 22]
        # Started, healthy with the second probe, watched.
        assert round(trio.current_time() - begun_s - made[-1]) == 2 + 30

    simulate(lambda: World({"web": WEB}), body, range(3))


def test_a_new_one_that_never_gets_ready_changes_nothing_and_the_next_up_goes_on() -> None:
    crashes, never_well = FakeService(crashes=[0.2] * 9), FakeService(healthy_after_s=1e9)
    for sick in (crashes, never_well, FakeService(start_error=InputError("no"))):

        async def body(engine: Engine, world: World, sick: FakeService = sick) -> None:
            await up(engine, stack(1), wait=True)
            world.runtime.behaviours[ContainerId("demo-web-2-b")] = sick
            async with watched(engine, world) as counts:
                outcome = await update(engine, stack(2))
            assert min(counts) == 3
            error = outcome.error()
            assert error is not None
            assert "update of web paused: 1 of 3 replicas have it" in error.message
            assert sorted(versions(world).values()) == ["1", "1", "2"]
            assert serving(world) == {"demo-web-1-b", "demo-web-2", "demo-web-3"}
            assert {name for name in world.runtime.existing() if "web" in name} == serving(world)
            world.runtime.behaviours[ContainerId("demo-web-2-b")] = WEB
            assert (await update(engine, stack(2))).ok
            in_order(engine, world, "2")

        simulate(lambda: World({"web": WEB}), body, range(4))


def test_continue_leaves_those_that_fail_and_ends_with_their_error() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1), wait=True)
        world.runtime.behaviours[ContainerId("demo-web-1-b")] = FakeService(crashes=[0.1] * 9)
        outcome = await update(engine, stack(2, replace(START_FIRST, on_failure=FailureAction.CONTINUE)))
        assert not outcome.ok
        assert versions(world) == {"demo-web-1": "1", "demo-web-2-b": "2", "demo-web-3-b": "2"}

    simulate(lambda: World({"web": WEB}), body)


def test_as_many_failures_as_the_ratio_says_are_borne() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1), wait=True)
        world.runtime.behaviours[ContainerId("demo-web-1-b")] = FakeService(crashes=[0.1] * 9)
        await update(engine, stack(2, replace(START_FIRST, max_failure_ratio=0.34)))
        assert sorted(versions(world).values()) == ["1", "2", "2"]

    simulate(lambda: World({"web": WEB}), body, range(3))


def test_a_failure_in_the_monitored_time_pauses_and_a_later_one_does_not() -> None:
    for monitor_s, done in ((10.0, 2), (1.0, 3)):

        async def body(engine: Engine, world: World, monitor_s: float = monitor_s, done: int = done) -> None:
            await up(engine, stack(1), wait=True)
            world.runtime.behaviours[ContainerId("demo-web-1-b")] = replace(WEB, crashes=[6.0])
            outcome = await update(engine, stack(2, replace(START_FIRST, delay_s=3, monitor_s=monitor_s)))
            assert outcome.ok is (done == 3)
            assert sorted(versions(world).values()).count("2") == done

        simulate(lambda: World({"web": WEB}), body, range(3))


def test_rollback_restores_the_former_definition_and_image() -> None:
    for rules in (START_FIRST, STOP_FIRST):

        async def body(engine: Engine, world: World, rules: UpdateRules = rules) -> None:
            rules = replace(rules, on_failure=FailureAction.ROLLBACK)
            await up(engine, stack(1), wait=True)
            sick = replace(WEB, crashes=[4.0] * 9)
            for name in ("demo-web-2-b", "demo-web-2"):
                world.runtime.behaviours[ContainerId(name)] = sick
            to = stack(2, rules, rollback=replace(STOP_FIRST, parallelism=0, monitor_s=0))
            async with trio.open_nursery() as nursery:
                outcomes: list[Outcome] = []

                async def run() -> None:
                    outcomes.append(await update(engine, to))

                nursery.start_soon(run)
                while not any("it is rolled back" in event.text for event in world.events):
                    await trio.sleep(0.1)
                world.runtime.behaviours[ContainerId("demo-web-2")] = WEB
            error = outcomes[0].error()
            assert error is not None
            assert error.message.endswith("(update of web rolled back)")
            in_order(engine, world, "1")
            assert engine.project.services[ServiceName("web")].environment["V"] == "1"
            for name in ("demo-web-2-b", "demo-web-2"):
                world.runtime.behaviours[ContainerId(name)] = WEB
            assert (await update(engine, stack(2, rules))).ok
            in_order(engine, world, "2")

        simulate(lambda: World({"web": WEB}), body, range(4))


def test_who_depends_on_it_waits_for_the_update_and_is_restarted_after_it() -> None:
    def both(version: int) -> Project:
        needs = edge("web", HEALTHY, restart=True)
        return project(web(version), service("client"), service("front", needs, restart="always"))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, both(1), wait=True)
        assert (await update(engine, both(2))).ok
        acts = [(act.what.partition(" ")[0], act.container, act.at_s) for act in world.runtime.acts]
        announced_s = max(at_s for what, name, at_s in acts if what == "start" and name.endswith("-b"))
        stopped = [at_s for what, name, at_s in acts if what == "signal" and name == "demo-front-1"]
        started = [at_s for what, name, at_s in acts if what == "start" and name == "demo-front-1"]
        assert len(stopped) == 1
        assert announced_s < stopped[0] <= started[-1]

    simulate(lambda: World({"web": WEB}), body, range(4))


def test_two_services_that_need_each_other_are_updated_one_after_the_other() -> None:
    def both(version: int, rules: UpdateRules) -> Project:
        api = service(
            "api", edge("web", HEALTHY), environment={"V": str(version)}, replicas=2, update=rules, restart="always"
        )
        return project(web(version, rules), api, service("client"), service("db", environment={"V": str(version)}))

    for rules in (START_FIRST, STOP_FIRST):

        async def body(engine: Engine, world: World, rules: UpdateRules = rules) -> None:
            await up(engine, both(1, rules), wait=True)
            assert (await update(engine, both(2, rules), wait=True)).ok
            in_order(engine, world, "2")

        simulate(lambda: World({"web": WEB}), body, range(4))


def test_host_ports_go_from_each_to_its_successor() -> None:
    ports = (PortMapping(80, (8080, 8082), None, "tcp", "services.web.ports[0]"),)

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1, ports=ports), wait=True)
        before = {row.number: row.published for row in engine.statuses() if row.service == "web"}
        assert (await update(engine, stack(2, ports=ports))).ok
        assert {row.number: row.published for row in engine.statuses() if row.service == "web"} == before
        pairs = {(old, new) for old, new in world.networking.handed_over}
        assert pairs == {(f"demo-web-{number}", f"demo-web-{number}-b") for number in (1, 2, 3)}

    simulate(lambda: World({"web": WEB}), body, range(4))


def test_the_old_one_goes_on_while_somebody_is_connected_but_no_longer_than_its_grace() -> None:
    for held_s, ended_s in ((0.0, 5.0), (8.0, 8.0), (1e9, 30.0)):

        async def body(engine: Engine, world: World, held_s: float = held_s, ended_s: float = ended_s) -> None:
            await up(engine, stack(1, replicas=1, stop_grace_s=30.0), wait=True)
            old = ContainerId("demo-web-1")
            world.networking.connections[old] = 1

            async def let_go() -> None:
                while not world.networking.handed_over:
                    await trio.sleep(0.01)
                announced.append(trio.current_time())
                with trio.move_on_after(held_s):
                    await trio.sleep_forever()
                world.networking.connections[old] = 0

            announced: list[float] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(let_go)
                assert (await update(engine, stack(2, replicas=1, stop_grace_s=30.0))).ok
                nursery.cancel_scope.cancel()
            signals = [act for act in world.runtime.acts if act.what.startswith("signal") and act.container == old]
            (signalled_s,) = [act.at_s for act in signals]
            assert abs(signalled_s - announced[0] - ended_s) < 0.3

        simulate(lambda: World({"web": WEB}), body, range(3))


def test_start_first_is_refused_where_there_cannot_be_two() -> None:
    one = web(1, replicas=1)
    (network,) = one.networks
    fixed = Attachment(network, ipv4_address="10.1.1.9")
    sharer = service("sharer", namespaces=Namespaces(network=Namespace(Sharing.SERVICE, "web")), networks=())
    for refused, text in (
        (project(replace(one, container_name="www")), "container names are unique"),
        (project(replace(one, networks={network: fixed})), "ipv4_address 10.1.1.9"),
        (project(one, sharer), "sharer is in the network namespace"),
    ):

        async def body(engine: Engine, world: World, refused: Project = refused, text: str = text) -> None:
            with pytest.raises(InputError, match=f"cannot be updated start-first: .*{text}"):
                await up(engine, refused)

        simulate(World, body, range(1))


def test_scale_takes_only_those_that_go_and_the_update_of_the_others_goes_on() -> None:
    for moment_s in (0.1, 1.0, 2.5, 6.0, 9.0):
        for rules in (START_FIRST, STOP_FIRST):

            async def body(engine: Engine, world: World, moment_s: float = moment_s, rules: UpdateRules = rules) -> None:
                await up(engine, stack(1), wait=True)
                to = stack(2, rules)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(update, engine, to)
                    await trio.sleep(moment_s)
                    await engine.operate(Scale(to, {ServiceName("web"): 2}))
                await trio.sleep(60)
                if rules is STOP_FIRST:  # What was just being stopped was started again as it was.
                    assert (await update(engine, to, scale={"web": 2})).ok
                in_order(engine, world, "2", 2)

            simulate(lambda: World({"web": WEB}), body, range(3))


def test_another_up_ends_the_update_and_has_the_last_word() -> None:
    for moment_s in (0.05, 1.0, 2.2, 2.4, 5.0, 8.0, 13.0):
        for last in (1, 2, 3):
            for rules in (replace(START_FIRST, delay_s=2), replace(STOP_FIRST, delay_s=2)):

                async def body(
                    engine: Engine, world: World, moment_s: float = moment_s, last: int = last, rules: UpdateRules = rules
                ) -> None:
                    await up(engine, stack(1), wait=True)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(update, engine, stack(2, rules))
                        await trio.sleep(moment_s)
                        assert (await update(engine, stack(last, rules), wait=True)).ok
                    await trio.sleep(60)
                    in_order(engine, world, str(last))

                simulate(lambda: World({"web": WEB}), body, range(2))


def test_who_takes_over_an_update_that_is_just_failing_has_the_last_word() -> None:
    """It is not rolled back then: not what another `up` has brought, and not what was stopped."""
    rules = UpdateRules(Order.START_FIRST, monitor_s=6.0, on_failure=FailureAction.ROLLBACK)
    shaky = FakeService(healthy_after_s=0.0, crashes=(3.0,), stops_after_s=0.5)
    for stopped in (False, True):

        async def body(engine: Engine, world: World, stopped: bool = stopped) -> None:
            await up(engine, stack(1, rules, replicas=1, restart="no"), wait=True)
            world.behave("web", shaky)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(update, engine, stack(2, rules, replicas=1, restart="no"))
                await trio.sleep(3)
                world.behave("web", WEB)
                if stopped:
                    await do(engine, Verb.STOP, "web")
                else:
                    await update(engine, stack(3, rules, replicas=1, restart="no"))
            assert list(versions(world).values()) == ["2" if stopped else "3"]
            assert not (stopped and any("web" in name for name in world.runtime.alive()))

        simulate(lambda: World({"web": WEB}), body)


def test_three_ups_at_once_remove_a_new_one_once() -> None:
    """And not the one of the same name that the last of them makes."""

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1, replicas=1), wait=True)
        async with trio.open_nursery() as nursery:
            for version in (2, 1, 2):
                nursery.start_soon(update, engine, stack(version, replicas=1))
                await trio.sleep(0.125)
        await trio.sleep(60)
        assert {name for name in world.runtime.existing() if "web" in name} == serving(world)
        assert (await update(engine, stack(2, replicas=1), wait=True)).ok
        await trio.sleep(60)
        in_order(engine, world, "2", 1)

    simulate(lambda: World({"web": replace(WEB, boot_s=0.4)}), body, range(40))


def test_an_up_that_has_given_an_update_up_does_nothing_for_it_when_it_ends_later() -> None:
    """The new container of a slot has the same name in both updates. The first one ends while the second one starts it."""

    def both(version: int, other: int) -> Project:
        return project(web(version, replicas=2), service("client"), service("other", environment={"V": str(other)}))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, both(1, 1), wait=True)
        world.behave("other", FakeService(boot_s=2.0))  # The first one is under way for so long.
        world.behave("web", replace(WEB, healthy_after_s=2.5))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(update, engine, both(2, 2))
            await trio.sleep(0.5)
            assert (await update(engine, both(3, 2), "web")).ok
        in_order(engine, world, "3", 2)
        assert starts_of(world, "demo-web-1-b") == 2
        assert starts_of(world, "demo-web-2-b") == 1

    def starts_of(world: World, name: str) -> int:
        return sum(act.what == "start" and act.container == name for act in world.runtime.acts)

    simulate(lambda: World({"web": WEB}), body, range(4))


def test_of_several_that_wait_for_an_update_the_last_asked_has_the_last_word() -> None:
    """Each of them has to wait until the first one has let go of what it has begun."""
    slow = replace(WEB, boot_s=0.4, stops_after_s=2.0)
    for moment_s in (0.2, 2.5):
        for last in (Up(stack(1)), Up(stack(3)), Stop(WEB_ALONE), Down(), Remove(WEB_ALONE, stop=True)):

            async def body(
                engine: Engine, world: World, moment_s: float = moment_s, last: Operation = last
            ) -> None:
                await up(engine, stack(1), wait=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(update, engine, stack(2))
                    await trio.sleep(moment_s)
                    for request in (Up(stack(3)), Stop(WEB_ALONE), Up(stack(2)), last):
                        nursery.start_soon(engine.operate, request)
                        await trio.lowlevel.checkpoint()
                await trio.sleep(60)
                if isinstance(last, Up):
                    in_order(engine, world, last.project.services[ServiceName("web")].environment["V"])
                else:
                    assert not any("web" in name for name in world.runtime.alive())
                    assert len(world.runtime.existing()) == {Stop: 4, Remove: 1}.get(type(last), 0)

            simulate(lambda: World({"web": slow}), body, range(4))


def test_what_waits_for_an_update_to_be_let_go_keeps_nobody_back_who_is_about_something_else() -> None:
    """The old container has the name that the next one is to have, and goes on for as long as it is used."""
    used = replace(WEB, stops_after_s=20.0)

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1, stop_grace_s=30.0), wait=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(update, engine, stack(2, stop_grace_s=30.0))
            await trio.sleep(3)
            nursery.start_soon(update, engine, stack(3, stop_grace_s=30.0), "web")
            await trio.sleep(1)
            begun_s = trio.current_time()
            assert (await do(engine, Verb.RESTART, "client")).ok
            assert trio.current_time() - begun_s < 1
        in_order(engine, world, "3")

    simulate(lambda: World({"web": used}), body, range(3))


def test_stop_and_down_amid_an_update_leave_what_they_always_leave() -> None:
    for moment_s in (0.05, 1.0, 2.2, 4.0, 7.0, 12.0):
        for verb in (Verb.STOP, Verb.DOWN, Verb.RESTART):

            async def body(engine: Engine, world: World, moment_s: float = moment_s, verb: Verb = verb) -> None:
                await up(engine, stack(1), wait=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(update, engine, stack(2))
                    await trio.sleep(moment_s)
                    assert (await do(engine, verb)).ok
                await trio.sleep(60)
                names = {name for name in world.runtime.existing() if "web" in name}
                if verb is Verb.DOWN:
                    assert not world.runtime.existing()
                    assert not world.networking.networks
                    assert world.state.load() is None
                else:
                    assert len(names) == 3
                    assert bool(world.runtime.alive()) is (verb is Verb.RESTART)
                    assert (await update(engine, stack(2))).ok
                    in_order(engine, world, "2")

            simulate(lambda: World({"web": WEB}), body, range(2))


def test_an_old_one_that_crashes_before_its_turn_or_after_a_paused_update_comes_back() -> None:
    """It is wanted until there is another one in its place."""
    for rules in (START_FIRST, STOP_FIRST):
        for signal in (None, "SIGKILL"):  # What ends it is what would stop it.

            async def body(
                engine: Engine, world: World, rules: UpdateRules = rules, signal: str | None = signal
            ) -> None:
                await up(engine, stack(1, stop_signal=signal), wait=True)
                for name in ("demo-web-2", "demo-web-2-b"):  # Its second run here.
                    world.runtime.behaviours[ContainerId(name)] = replace(WEB, crashes=[0.2] * 9)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(update, engine, stack(2, rules, stop_signal=signal))
                    await trio.sleep(1)
                    await engine.inject(Injection(FaultKind.KILL, on="demo-web-3"))
                    await trio.sleep(0.5)
                    assert "demo-web-3" in world.runtime.alive()
                await trio.sleep(10)
                assert versions(world)["demo-web-3"] == "1"
                record = world.state.load()
                assert record is not None
                assert {item.wanted for item in record.containers} == {Wanted.RUNNING}
                await engine.inject(Injection(FaultKind.KILL, on="demo-web-3"))
                await trio.sleep(10)
                assert "demo-web-3" in world.runtime.alive()

            simulate(lambda: World({"web": WEB}), body, range(3))


def test_a_cancelled_update_leaves_one_container_in_each_place() -> None:
    for moment_s in (0.05, 0.4, 1.0, 2.2, 4.0, 7.0, 12.0):

        async def body(engine: Engine, world: World, moment_s: float = moment_s) -> None:
            await up(engine, stack(1), wait=True)
            with trio.move_on_after(moment_s):
                await update(engine, stack(2))
            await trio.sleep(60)
            assert len(versions(world)) == 3
            assert len(serving(world)) == 3
            assert (await update(engine, stack(2))).ok
            in_order(engine, world, "2")

        simulate(lambda: World({"web": WEB}), body, range(3))


def test_a_supervisor_that_is_killed_amid_an_update_leaves_one_container_in_each_place() -> None:
    for moment_s in (0.0, 0.1, 0.35, 1.0, 2.3, 2.35, 4.0, 7.0, 12.0):
        for rules in (START_FIRST, STOP_FIRST):
            to = stack(2, rules)

            async def first(engine: Engine, world: World, moment_s: float = moment_s, to: Project = to) -> None:
                await up(engine, stack(1), wait=True)
                assert engine._state.nursery is not None
                engine._state.nursery.start_soon(update, engine, to)
                await trio.sleep(moment_s)

            async def second(engine: Engine, world: World, to: Project = to) -> None:
                await trio.sleep(30)
                found = versions(world)
                assert len(found) == 3
                assert serving(world) == found.keys() == {name for name in world.runtime.existing() if "web" in name}
                assert (await update(engine, to)).ok
                in_order(engine, world, "2")
                assert (await engine.operate(Down())).ok
                ends = (EventKind.CONTAINER_EXITED, EventKind.CONTAINER_STOPPED)
                told = Counter(event.container for event in world.events if event.kind in ends)
                assert told == Counter(act.container for act in world.runtime.acts if act.what == "start")

            two_lives(lambda: World({"web": WEB}), first, second)


class Mortal:
    """An adapter whose owner may die: what it is asked for afterwards is never done, what was under way never returns."""

    def __init__(self, real: Any, dead: Callable[[], bool]) -> None:
        self._real = real
        self._dead = dead

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def until_it_dies(*args: Any, **options: Any) -> Any:
            if self._dead():
                await trio.sleep_forever()
            result = await found(*args, **options)
            if self._dead():
                await trio.sleep_forever()
            return result

        return until_it_dies


class MortalWorld(World):
    """Its supervisor is killed by `frozen`: not even what it does when it is cancelled is done."""

    def adapters(self) -> Adapters:
        made = super().adapters()

        def dead() -> bool:
            return self.state.frozen

        return replace(made, runtime=Mortal(made.runtime, dead), networking=Mortal(made.networking, dead))


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(Order), st.floats(0, 15), st.integers(0, 40), st.integers(0, 11))
def test_killed_between_any_two_steps_of_it_a_supervisor_leaves_one_container_in_each_place(
    order: Order, moment_s: float, steps: int, seed: int
) -> None:
    to = stack(2, UpdateRules(order))

    async def main() -> None:
        world = MortalWorld({"web": WEB})
        async with world.engine() as engine:
            await up(engine, stack(1), wait=True)
            assert engine._state.nursery is not None
            engine._state.nursery.start_soon(update, engine, to)
            await trio.sleep(moment_s)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            world.state.frozen = True
        world.state.frozen = False
        async with world.engine() as engine:
            await trio.sleep(30)
            found = versions(world)
            assert len(found) == 3
            assert serving(world) == found.keys() == {name for name in world.runtime.existing() if "web" in name}
            assert (await update(engine, to)).ok
            in_order(engine, world, "2")

    seeds.run(main, seed=seed)


def test_of_two_in_one_place_that_is_shown_first_which_is_answered_with() -> None:
    """`exec --index`, `port --index` and `cp --index` take the first."""

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1, replicas=1, stop_grace_s=10.0), wait=True)
        firsts: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(update, engine, stack(2, replicas=1, stop_grace_s=10.0))
            for _ in range(200):
                rows = [row.container for row in engine.statuses() if row.service == "web"]
                if len(rows) == 2:
                    assert {rows[0]} == serving(world)
                    firsts.append(rows[0])
                await trio.sleep(0.05)
        assert set(firsts) == {"demo-web-1", "demo-web-1-b"}

    simulate(lambda: World({"web": WEB}), body, range(3))


def test_force_recreate_goes_by_the_rules_and_no_recreate_does_nothing() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1), wait=True)
        assert (await update(engine, stack(2), recreate=Recreate.NEVER)).changed == 0
        async with watched(engine, world) as counts:
            assert (await update(engine, stack(1), recreate=Recreate.ALWAYS)).ok
        assert min(counts) == 3
        assert set(versions(world)) == usual(1, 2, 3, suffix="-b")

    simulate(lambda: World({"web": WEB}), body, range(3))


def test_the_plan_shows_the_order_and_changes_nothing() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(1, replicas=2), wait=True)
        plan = await engine.plan(Up(stack(2, replicas=2)))
        assert plan.render().splitlines() == [
            "up demo:",
            "  create new web-1: config hash changed: environment (update 1 of 2)",
            "  start new web-1: created [after create new web-1]",
            "  announce new web-1: in the place of demo-web-1, when it is ready [after start new web-1]",
            "  watch new web-1: for 5s [after announce new web-1]",
            "  stop web-1: demo-web-1-b is in its place [after announce new web-1]",
            "  remove web-1: demo-web-1-b is in its place [after stop web-1]",
            "  create new web-2: config hash changed: environment (update 2 of 2)",
            "  start new web-2: created [after create new web-2]",
            "  announce new web-2: in the place of demo-web-2, when it is ready [after start new web-2]",
            "  watch new web-2: for 5s [after announce new web-2]",
            "  stop web-2: demo-web-2-b is in its place [after announce new web-2]",
            "  remove web-2: demo-web-2-b is in its place [after stop web-2]",
            "  update web: 2 replicas, start-first, 1 at a time; when more than 0% fail: pause",
        ]
        assert not [event for event in world.events if event.kind is EventKind.CONTAINER_ANNOUNCED]

    simulate(lambda: World({"web": WEB}), body, range(1))


CASES = st.fixed_dictionaries(
    {
        "order": st.sampled_from(Order),
        "parallelism": st.integers(0, 3),
        "delay_s": st.sampled_from([0.0, 0.5, 4.0]),
        "monitor_s": st.sampled_from([0.0, 1.0, 6.0]),
        "on_failure": st.sampled_from(FailureAction),
        "max_failure_ratio": st.sampled_from([0.0, 0.4, 1.0]),
    }
)
FATES = st.builds(
    FakeService,
    boot_s=st.sampled_from([0.0, 0.4]),
    healthy_after_s=st.sampled_from([0.0, 2.0, 1e9]),
    crashes=st.lists(st.sampled_from([0.0, 0.3, 3.0, 20.0]), max_size=2).map(tuple),
    create_error=st.none() | st.just(InputError("no room")),
    stops_after_s=st.sampled_from([0.0, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    CASES,
    st.integers(1, 4),
    st.dictionaries(st.integers(1, 4), FATES, max_size=3),
    st.floats(0, 40),
    st.booleans(),
    st.integers(0, 99),
)
def test_whatever_fails_and_whenever_the_supervisor_is_killed_each_place_has_one_container_and_the_next_up_is_right(
    rules: dict[str, Any], replicas: int, fates: dict[int, FakeService], moment_s: float, killed: bool, seed: int
) -> None:
    made = UpdateRules(**rules)

    async def main() -> None:
        world = World({"web": WEB})
        names = [name for number in fates for name in (f"demo-web-{number}", f"demo-web-{number}-b")]
        async with world.engine() as engine:
            assert (await up(engine, stack(1, replicas=replicas), wait=True)).ok
            world.runtime.behaviours |= {
                ContainerId(name): fates[number]
                for number in fates
                for name in (f"demo-web-{number}", f"demo-web-{number}-b")
            }
            if killed:
                assert engine._state.nursery is not None
                engine._state.nursery.start_soon(update, engine, stack(2, made, replicas))
                await trio.sleep(moment_s)
            else:
                await update(engine, stack(2, made, replicas))
                await trio.sleep(60)
                assert len(versions(world)) == replicas
        for name in names:
            world.runtime.behaviours[ContainerId(name)] = WEB
        async with world.engine() as engine:
            await trio.sleep(60)
            assert len(versions(world)) == replicas
            assert (await update(engine, stack(2, made, replicas), wait=True)).ok
            await trio.sleep(60)
            in_order(engine, world, "2", replicas)

    seeds.run(main, seed=seed)


def test_nobody_waits_for_a_port_that_a_replica_has_until_its_turn() -> None:
    """Who wants it meanwhile is refused, also who the replica waits for, and gets it with a later `up`."""

    def publishing(version: int, own: int, *clients: int, waits: bool = False) -> Project:
        def mapped(number: int) -> PortMapping:
            return PortMapping(80, (number, number))

        rolled = web(version, replicas=1, ports=(mapped(own),))
        needs = {ServiceName("client"): edge("client")} if waits else {}
        client = service("client", ports=tuple(map(mapped, clients)), command=(str(version),))
        return project(replace(rolled, depends_on=needs), client)

    async def body(engine: Engine, world: World) -> None:
        await up(engine, publishing(1, 8080), wait=True)
        for waits in (True, False):
            outcome = await update(engine, publishing(2, 8081, 8080, waits=waits))
            assert "8080" in str(outcome.error())
        assert (await update(engine, publishing(2, 8081, 8080))).error() is None
        rows = {str(row.service): row for row in engine.statuses()}
        assert [item.host_port for name in ("web", "client") for item in rows[name].published] == [8081, 8080]

    simulate(lambda: World({"web": WEB}), body)
