"""Containers that are in namespaces of others: made after them, ended with them, started again and replaced with them."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.control import Selection, Up
from orchestrator.contracts.events import EventKind
from orchestrator.model.names import ServiceName
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Cascade
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, row, simulate, starts, two_lives, up

OF_DB = Namespace(Sharing.SERVICE, "db")


def stack(kind: str, *, command: tuple[str, ...] = ("x",), restart: str = "no") -> Project:
    """`web` is in a namespace of `db`, as the loader has it: with the dependency that this implies."""
    dependency = edge("db", restart=True, cascade=Cascade.IGNORE)
    db = service("db", command=command, restart=restart)
    web = service("web", dependency, namespaces=replace(Namespaces(), **{kind: OF_DB}))
    return project(db, replace(web, networks={} if kind == "network" else web.networks))


def order(world: World, what: str) -> list[str]:
    return [act.container for act in world.runtime.acts if act.what == what]


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_who_shares_is_made_and_started_after_the_other(kind: str) -> None:
    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack(kind))).ok
        assert order(world, "create") == order(world, "start") == ["demo-db-1", "demo-web-1"]
        assert ("demo-web-1" in world.networking.attached) == (kind != "network")
        assert not (await up(engine, stack(kind))).changed
        assert (await do(engine, Verb.DOWN)).ok
        assert world.runtime.existing() == ()

    simulate(World, body)


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_who_shares_is_replaced_when_the_other_is(kind: str) -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(kind))
        changed = stack(kind, command=("y",))
        outcome = await up(engine, changed, "db")
        assert outcome.ok
        assert order(world, "create") == ["demo-db-1", "demo-web-1"] * 2
        assert world.runtime.alive() == ("demo-db-1", "demo-web-1")
        assert not (await up(engine, changed)).changed

    simulate(World, body)


@pytest.mark.parametrize("kind", ["pid", "ipc"])
def test_a_run_in_anothers_namespace_ends_with_it_and_is_started_in_the_next(kind: str) -> None:
    """Although its own restart policy is "no"."""

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack(kind, restart="always"))
        await trio.sleep(30)
        assert len(starts(world, "db")) == len(starts(world, "web")) == 3
        assert row(engine, "web").phase is Phase.RUNNING
        assert row(engine, "web").restarts == 2
        why = [event.text for event in world.events if event.kind is EventKind.RESTART_SCHEDULED]
        assert f"web the run of db, whose {kind} namespace it was in, has ended" in why

    simulate(lambda: World({"db": FakeService(crashes=[5, 5])}), body)


@pytest.mark.parametrize("whose", ["db", "web"])
@pytest.mark.parametrize("capability", ["CAP_NET_ADMIN", "CAP_NET_RAW"])
def test_who_may_administer_a_network_is_not_guarded_on_it(whose: str, capability: str) -> None:
    """`web` is in the network of `db`."""

    async def body(engine: Engine, world: World) -> None:
        shared = stack("network")
        given = {whose: replace(shared.services[ServiceName(whose)], cap_add=(capability,))}
        await up(engine, replace(shared, services={**shared.services, **given}))
        assert world.networking.unguarded == ({"demo-db-1"} if capability == "CAP_NET_ADMIN" else set())

    simulate(World, body)


def test_a_network_outlives_the_runs_of_whose_it_is() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack("network", restart="always"))
        await trio.sleep(30)
        assert (len(starts(world, "db")), len(starts(world, "web"))) == (3, 1)

    simulate(lambda: World({"db": FakeService(crashes=[5, 5])}), body)


def test_who_is_in_the_pid_namespace_of_what_was_stopped_stays_down() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack("pid"))
        await do(engine, Verb.STOP, "db")
        await trio.sleep(10)
        assert world.runtime.alive() == ()
        assert row(engine, "web").phase in (Phase.EXITED, Phase.FAILED)
        assert len(starts(world, "web")) == 1
        assert (await up(engine, stack("pid"))).ok
        assert world.runtime.alive() == ("demo-db-1", "demo-web-1")

    simulate(World, body)


def test_who_shares_with_what_is_not_there_is_one_error() -> None:
    async def body(engine: Engine, world: World) -> None:
        request = Up(stack("pid"), Selection((ServiceName("web"),), dependencies=False))
        outcome = await engine.operate(request)
        assert "no container whose pid namespace" in str(outcome.failures[0])
        assert world.runtime.existing() == ()

    async def stranger(engine: Engine, world: World) -> None:
        web = service("web", namespaces=replace(Namespaces(), network=Namespace(Sharing.CONTAINER, "other-1")))
        outcome = await up(engine, project(replace(web, networks={})))
        assert 'there is no container "other-1"' in str(outcome.failures[0])
        assert world.runtime.existing() == ()

    simulate(World, body)
    simulate(World, stranger)


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_another_supervisor_knows_who_shares_with_whom(kind: str) -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack(kind, restart="always"))

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(20)
        assert row(engine, "web").phase is Phase.RUNNING
        assert len(starts(world, "web")) == (1 if kind == "network" else 2)
        assert not (await up(engine, stack(kind, restart="always"))).changed

    two_lives(lambda: World({"db": FakeService(crashes=[5])}), first, second)


@pytest.mark.parametrize("kind", ["pid", "ipc"])
def test_what_ended_while_nobody_watched_takes_along_who_was_in_it(kind: str) -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack(kind, restart="always"))

    async def between(world: World) -> None:
        await trio.sleep(7)

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(20)
        assert world.runtime.alive() == ("demo-db-1", "demo-web-1")
        assert (len(starts(world, "db")), len(starts(world, "web"))) == (2, 2)

    two_lives(lambda: World({"db": FakeService(crashes=[5])}), first, second, between)
