"""`network connect` and `disconnect` on simulated networks: what is recorded, and what a later operation does with it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestrator.contracts.control import Connect, Disconnect, Recreate, Up
from orchestrator.contracts.events import EventKind
from orchestrator.errors import BusyError, InputError
from orchestrator.model.manual import Manual
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.network import Attachment, Network, Subnet
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, row, simulate, starts, two_lives, up
from tests.simulation.test_reconnect import on, tcp

WEB = ContainerId("demo-web-1")
BACK, MEETING = NetworkName("back"), NetworkName("meeting")


def stack(*networks: str, back: str = "10.9.1.0/24", **fields: Any) -> Project:
    web = service("web", networks=networks, ports=(tcp(8080),), **fields)
    made = project(web, service("db", networks=("back",)))
    definition = Network(BACK, "demo_back", subnets=(Subnet(back),))
    return replace(made, networks={**made.networks, BACK: definition})


ONE = stack("default")


async def connect(engine: Engine, network: str = "back", target: str = "web", **fields: Any) -> None:
    outcome = await engine.operate(Connect(network, target, **fields))
    assert outcome.error() is None
    assert outcome.changed == 1


async def disconnect(engine: Engine, network: str, target: str = "web", **fields: Any) -> None:
    assert (await engine.operate(Disconnect(network, target, **fields))).error() is None


def manual(world: World) -> Manual:
    record = world.state.load()
    assert record is not None
    return next(item.manual for item in record.containers if item.container == WEB)


def test_a_connection_is_recorded_told_and_no_business_of_the_hash() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, ONE)
        before = row(engine, "web")
        await connect(engine, aliases=("shop",), ipv4_address="10.9.1.77")
        assert on(engine) == {"default": "eth0", "back": "eth1"}
        assert world.networking.resolve(ContainerId("demo-db-1"), "shop") == ("10.9.1.77",)
        assert row(engine, "web").config_hash == before.config_hash
        assert manual(world).joined == (Attachment(BACK, ("shop",), "10.9.1.77"),)
        told = [event.text for event in world.events if event.kind is EventKind.CONTAINER_RECONNECTED]
        assert told == [f"reconnected {WEB}: networks +back"]
        assert (await engine.plan(Up(ONE))).empty
        await disconnect(engine, "demo_back")
        assert (on(engine), manual(world)) == ({"default": "eth0"}, Manual())
        assert len(starts(world, "web")) == 1

    simulate(World, scene)


def test_a_network_that_nobody_was_on_is_made_for_it_and_a_failure_leaves_nothing() -> None:
    alone = replace(ONE, services={name: item for name, item in ONE.services.items() if name == "web"})

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, alone)
        assert BACK not in world.networking.networks
        wrong = await engine.operate(Connect("back", "web", ipv4_address="10.1.1.1"))
        assert "10.1.1.1" in str(wrong.error())
        assert BACK not in world.networking.networks
        assert (on(engine), manual(world)) == ({"default": "eth0"}, Manual())
        await connect(engine)
        assert on(engine) == {"default": "eth0", "back": "eth1"}
        assert (await do(engine, Verb.DOWN)).ok
        assert world.networking.networks == {}

    simulate(World, scene)


def test_a_shared_network_is_left_when_its_last_container_is_taken_off() -> None:
    async def scene(engine: Engine, world: World) -> None:
        world.networking.host.share("meeting")
        await up(engine, ONE)
        await connect(engine, "meeting", shared=True)
        assert any(world.networking.host.shared["meeting"].values())
        record = world.state.load()
        assert record is not None
        assert MEETING in [network.key for network in record.networks], "whoever removes networks looks there"
        await disconnect(engine, "meeting")
        assert not any(world.networking.host.shared["meeting"].values())
        await connect(engine, "meeting", shared=True)
        await do(engine, Verb.DOWN)
        assert not any(world.networking.host.shared["meeting"].values())

    simulate(World, scene)


def test_up_puts_back_what_was_disconnected_and_leaves_what_was_connected() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, ONE)
        await connect(engine)
        await disconnect(engine, "default")
        assert on(engine) == {"back": "eth1"}
        await up(engine, ONE, recreate=Recreate.NEVER)
        assert on(engine) == {"back": "eth1"}
        plan = (await engine.plan(Up(ONE))).render()
        assert plan == "up demo:\n  reconnect web: networks +default, which it was disconnected from\n"
        await up(engine, ONE)
        assert set(on(engine)) == {"default", "back"}
        assert [item.host_port for item in row(engine, "web").published] == [8080]
        assert (await engine.plan(Up(ONE))).empty
        # What the stack says anew of a network counts, also when it says nothing more of it.
        await up(engine, stack("default", "back"))
        assert manual(world) == Manual()
        await up(engine, ONE)
        assert set(on(engine)) == {"default"}
        assert len(starts(world, "web")) == 1

    simulate(World, scene)


def test_one_that_is_made_anew_is_as_the_stack_says_and_one_that_a_reboot_took_as_it_was() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, stack("default", restart="always"))
        await connect(engine, ipv4_address="10.9.1.9")

    async def reboot(world: World) -> None:
        world.reboot()

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(1)
        assert set(on(engine)) == {"default", "back"}
        assert next(end for end in row(engine, "web").endpoints if end.network == BACK).addresses[0].ip == "10.9.1.9"
        await up(engine, stack("default", restart="always"), "web", recreate=Recreate.ALWAYS)
        assert (set(on(engine)), manual(world)) == ({"default"}, Manual())

    two_lives(World, first, second, reboot)


def test_a_later_supervisor_knows_it_wherever_the_first_was_killed() -> None:
    for steps in range(0, 40, 2):

        async def first(engine: Engine, world: World, steps: int = steps) -> None:
            world.networking.host.share("meeting")
            await up(engine, ONE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.operate, Connect("meeting", "web", shared=True))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                world.state.frozen = True
                nursery.cancel_scope.cancel()

        async def between(world: World) -> None:
            world.state.frozen = False

        async def second(engine: Engine, world: World) -> None:
            assert (await engine.plan(Up(ONE))).empty
            wanted = {"default", *(item.network for item in manual(world).joined)}
            assert set(on(engine)) == wanted == {end.network for end in world.networking.reserved[WEB]}
            await disconnect(engine, "meeting", force=True)
            assert set(on(engine)) == {"default"}
            assert (await do(engine, Verb.DOWN)).ok
            assert world.networking.networks == {}

        two_lives(World, first, second, between)


def test_a_network_that_is_made_anew_takes_whoever_was_connected_with_it() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, ONE)
        await connect(engine, aliases=("shop",))
        new = stack("default", back="10.9.2.0/24")
        assert "disconnect web: network back is made anew" in (await engine.plan(Up(new))).render()
        assert (await up(engine, new)).error() is None
        found = next(end for end in row(engine, "web").endpoints if end.network == BACK)
        assert found.addresses[0].ip.startswith("10.9.2.")
        assert "shop" in found.names
        assert (await engine.plan(Up(new))).empty
        assert len(starts(world, "web")) == 1

    simulate(World, scene)


def test_what_is_stopped_is_connected_for_its_next_run() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, ONE)
        await do(engine, Verb.STOP, "web")
        await connect(engine)
        assert world.networking.rewired == []
        await do(engine, Verb.START, "web")
        assert set(on(engine)) == {"default", "back"}

    simulate(World, scene)


def test_nobodys_up_ends_because_a_container_is_connected() -> None:
    database = service("db", networks=("back",), healthcheck=check())
    waiting = project(service("web", edge("db", HEALTHY)), database)

    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, waiting)
            await trio.sleep(1)
            assert row(engine, "web").phase is Phase.WAITING
            with pytest.raises(BusyError, match=f"{WEB}: an operation is under way"):
                await engine.operate(Connect("back", "web"))
        assert row(engine, "web").phase is Phase.RUNNING
        await connect(engine)

    simulate(lambda: World({"db": FakeService(healthy_after_s=3)}), scene)


@pytest.mark.parametrize("name", ["host", "none", "bridge"])
def test_who_wants_a_network_that_nobody_can_make_is_told_of_the_mode(name: str) -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, ONE)
        with pytest.raises(InputError) as caught:
            await engine.operate(Connect(name, "web"))
        assert caught.value.hint == f"write network_mode: {name} in its service"

    simulate(World, scene)
