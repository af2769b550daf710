"""A second `up` of which only networks and published ports have changed: no new container."""

from __future__ import annotations

from typing import Any

import trio

from orchestrator.contracts.control import Recreate, Up
from orchestrator.contracts.events import EventKind
from orchestrator.model.limits import Limits
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.network import Attachment, Link, Network, PortMapping, Subnet
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, row, simulate, starts, two_lives, up

WEB = ContainerId("demo-web-1")
DB_ID = ContainerId("demo-db-1")
SERVICE, DEFAULT = ServiceName("web"), NetworkName("default")
DB = service("db")


def stack(*networks: str, ports: tuple[PortMapping, ...] = (), **fields: Any) -> Project:
    web = service("web", "db", networks=networks, ports=ports, **fields)
    return project(web, service("api", edge("web", restart=True)), DB)


def tcp(published: int, target: int = 80) -> PortMapping:
    return PortMapping(target, (published, published), place="services.web.ports[0]")


def on(engine: Engine, name: str = "web") -> dict[str, str]:
    """Interface by network."""
    return {endpoint.network: endpoint.interface for endpoint in row(engine, name).endpoints}


FRONT = stack("default", "front")
BACK = stack("default", "back")


def test_networks_are_joined_and_left_by_what_runs_and_nobody_is_restarted_for_it() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        before = row(engine, "web")
        assert on(engine) == {"default": "eth0", "front": "eth1"}
        assert (await engine.plan(Up(BACK))).render() == (
            "up demo:\n  create network back: does not exist yet\n"
            "  reconnect web: networks +back -front [after create network back]\n"
        )
        outcome = await up(engine, BACK)
        assert (outcome.error(), outcome.changed) == (None, 1)
        assert world.networking.rewired == [WEB]
        assert len(starts(world, "web")) == len(starts(world, "api")) == 1
        after = row(engine, "web")
        assert on(engine) == {"default": "eth0", "back": "eth1"}
        assert after.endpoints[0] == before.endpoints[0], "what stays is not touched"
        assert world.networking.resolve(DB_ID, "web") == (after.endpoints[0].addresses[0].ip,)
        assert after.config_hash != before.config_hash
        told = [event.text for event in world.events if event.kind is EventKind.CONTAINER_RECONNECTED]
        assert told == [f"reconnected {WEB}: networks +back -front"]
        assert (await engine.plan(Up(BACK))).empty, "it is as if it had been made so"

    simulate(World, scene)


def test_each_thing_that_can_change_is_said() -> None:
    def attached(**fields: Any) -> Service:
        changed = Attachment(DEFAULT, **fields)
        return replace(FRONT.services[SERVICE], networks={**FRONT.services[SERVICE].networks, DEFAULT: changed})

    web = FRONT.services[SERVICE]
    cases = {
        "networks default (aliases)": attached(aliases=("www",)),
        "networks default (ipv4_address, gw_priority)": attached(ipv4_address="10.201.0.9", gw_priority=3),
        "networks -front": replace(web, networks={DEFAULT: web.networks[DEFAULT]}),
        "ports +8080:80": replace(web, ports=(tcp(8080),)),
        "ports +127.0.0.1:9-12:80/udp": replace(web, ports=(PortMapping(80, (9, 12), "127.0.0.1", "udp"),)),
        "ports +[::1]:80": replace(web, ports=(PortMapping(80, None, "::1"),)),
        "links": replace(web, links=(Link("base", "db"),)),
        "networks -front; ports +80": replace(
            web, networks={DEFAULT: web.networks[DEFAULT]}, ports=(PortMapping(80),)
        ),
    }

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        for cause, changed in cases.items():
            plan = await engine.plan(Up(replace(FRONT, services={**FRONT.services, SERVICE: changed})))
            assert plan.render() == f"up demo:\n  reconnect web: {cause}\n"

    simulate(World, scene, range(1))


def test_a_place_in_the_file_is_no_change() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack("default", ports=(tcp(8080),)))
        moved = replace(tcp(8080), place="services.web.ports[7]")
        assert (await engine.plan(Up(stack("default", ports=(moved,))))).empty

    simulate(World, scene, range(1))


def test_ports_change_and_what_is_refused_leaves_all_as_it_was() -> None:
    async def scene(engine: Engine, world: World) -> None:
        old, taken, new = (stack("default", ports=(tcp(8080), tcp(port, 81))) for port in (8081, 9000, 9001))
        both = stack("default", "front", ports=(tcp(9000),))
        await up(engine, old)
        before = row(engine, "web")
        for refused in (taken, both):
            outcome = await up(engine, refused)
            assert outcome.failures
            assert "9000" in str(outcome.error())
            assert row(engine, "web") == before
            assert world.networking.reserved[WEB] == before.endpoints
            assert not (await engine.plan(Up(refused))).empty
        assert (await engine.plan(Up(old))).empty
        assert (await up(engine, new)).error() is None
        assert [item.host_port for item in row(engine, "web").published] == [8080, 9001]
        assert len(starts(world, "web")) == 1

    simulate(lambda: World(taken_ports=[9000]), scene)


def test_with_new_limits_it_gets_both_and_with_anything_else_it_is_replaced() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        limited = stack("default", "back", limits=Limits(pids=7))
        plan = await engine.plan(Up(limited))
        assert [item.kind.value for item in plan.operations] == ["create network", "update", "reconnect"]
        await up(engine, limited)
        assert len(starts(world, "web")) == 1
        other = stack("default", "front", command=("x",))
        text = (await engine.plan(Up(other))).render()
        assert "reconnect" not in text
        assert "stop web: config hash changed: command, limits, networks" in text
        await up(engine, other)
        assert len(starts(world, "web")) == 2

    simulate(World, scene)


def test_another_network_mode_replaces_it_and_the_plan_says_so() -> None:
    alone = Namespaces(network=Namespace(Sharing.NONE))
    without = replace(FRONT.services[SERVICE], namespaces=alone, networks={})

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        changed = replace(FRONT, services={**FRONT.services, SERVICE: without})
        text = (await engine.plan(Up(changed))).render()
        assert "stop web: config hash changed: network_mode, networks" in text
        assert "reconnect" not in text

    simulate(World, scene, range(1))


def test_when_it_is_to_be_replaced_or_kept_in_any_case_that_is_done() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        await up(engine, BACK, recreate=Recreate.NEVER)
        assert (world.networking.rewired, len(starts(world, "web"))) == ([], 1)
        await up(engine, BACK, "web", recreate=Recreate.ALWAYS)
        assert (world.networking.rewired, len(starts(world, "web"))) == ([], 2)

    simulate(World, scene)


def test_what_is_stopped_is_started_on_its_new_networks() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        await do(engine, Verb.STOP, "web")
        await up(engine, BACK)
        assert world.networking.rewired == []
        assert row(engine, "web").phase is Phase.RUNNING
        assert set(on(engine)) == {"default", "back"}
        assert (await engine.plan(Up(BACK))).empty

    simulate(World, scene)


def test_a_later_supervisor_knows_what_was_reconnected() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        await up(engine, BACK)

    async def second(engine: Engine, world: World) -> None:
        assert set(on(engine)) == {"default", "back"}
        assert (await engine.plan(Up(BACK))).empty
        assert world.networking.rewired == [WEB], "it was not in the middle of anything"
        await up(engine, FRONT)
        assert set(on(engine)) == {"default", "front"}
        assert len(starts(world, "web")) == 1

    two_lives(World, first, second)


def test_a_supervisor_killed_anywhere_in_between_leaves_what_the_next_one_completes() -> None:
    for steps in range(0, 60, 3):

        async def first(engine: Engine, world: World, steps: int = steps) -> None:
            await up(engine, FRONT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up, engine, BACK)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                world.state.frozen = True
                nursery.cancel_scope.cancel()

        async def between(world: World) -> None:
            world.state.frozen = False

        async def second(engine: Engine, world: World) -> None:
            assert set(on(engine)) in ({"default", "front"}, {"default", "back"})
            await up(engine, BACK)
            assert set(on(engine)) == {"default", "back"}
            assert {end.network for end in world.networking.reserved[WEB]} == {"default", "back"}
            assert len(starts(world, "web")) == 1
            record = world.state.load()
            assert record is not None
            assert not any(item.reconnecting for item in record.containers)

        two_lives(World, first, second, between)


def test_a_container_that_ends_while_it_is_reconnected_is_started_on_its_new_networks() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, stack("default", "front", restart="always"))
        await trio.sleep(5)
        await up(engine, stack("default", "back", restart="always"))
        await trio.sleep(1)
        assert set(on(engine)) == {"default", "back"}
        assert row(engine, "web").phase is Phase.RUNNING

    simulate(lambda: World({"web": FakeService(crashes=[5])}), scene)


def front(subnet: str, **fields: Any) -> dict[str, Network]:
    return {"front": Network(FRONT_KEY, "demo_front", subnets=(Subnet(subnet),), **fields)}


FRONT_KEY = NetworkName("front")
OLD, NEW = front("10.9.1.0/24"), front("10.9.2.0/24")


def on_front(definitions: dict[str, Network], **fields: Any) -> Project:
    web = service("web", "db", networks=("default", "front"), **fields)
    api = service("api", networks=("front",), ports=(tcp(8080),))
    return project(web, api, DB, networks=definitions)


def address_on_front(engine: Engine, name: str) -> str:
    return next(end.addresses[0].ip for end in row(engine, name).endpoints if end.network == "front")


def test_a_changed_network_is_made_anew_and_whoever_is_on_it_is_reconnected() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, on_front(OLD))
        kept = row(engine, "web").endpoints[0]
        assert (await engine.plan(Up(on_front(NEW)))).render() == (
            "up demo:\n"
            "  disconnect web: network front is made anew\n"
            "  disconnect api: network front is made anew\n"
            "  remove network front: made anew: ipam changed [after disconnect api, disconnect web]\n"
            "  create network front: made anew: ipam changed [after remove network front]\n"
            "  reconnect api: network front is made anew [after disconnect api, create network front]\n"
            "  reconnect web: network front is made anew [after disconnect web, create network front]\n"
        )
        assert (await up(engine, on_front(NEW))).error() is None
        assert len(starts(world, "web")) == len(starts(world, "api")) == 1
        assert row(engine, "web").endpoints[0] == kept
        for name in ("web", "api"):
            assert address_on_front(engine, name).startswith("10.9.2.")
        assert [item.host_port for item in row(engine, "api").published] == [8080]
        assert (await engine.plan(Up(on_front(NEW)))).empty

    simulate(World, scene)


def test_beside_one_that_is_replaced_and_one_that_is_stopped_too() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, on_front(OLD))
        await do(engine, Verb.STOP, "api")
        assert (await up(engine, on_front(NEW, command=("x",)))).error() is None
        assert (len(starts(world, "web")), len(starts(world, "api"))) == (2, 2)
        for name in ("web", "api"):
            assert address_on_front(engine, name).startswith("10.9.2.")
        assert (await engine.plan(Up(on_front(NEW, command=("x",))))).empty

    simulate(World, scene)


def test_others_on_the_network_are_reconnected_as_they_are() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, on_front(OLD))
        await up(engine, on_front(NEW, command=("x",)), "api")
        assert len(starts(world, "web")) == len(starts(world, "api")) == 1
        assert address_on_front(engine, "web").startswith("10.9.2.")
        text = (await engine.plan(Up(on_front(NEW, command=("x",))))).render()
        assert "stop web: config hash changed: command" in text

    simulate(World, scene)


def test_what_does_not_fit_the_new_network_is_left_off_it_until_it_does() -> None:
    async def scene(engine: Engine, world: World) -> None:
        await up(engine, on_front(OLD))
        wrong = on_front(NEW)
        fixed = {FRONT_KEY: Attachment(FRONT_KEY, ipv4_address="10.9.1.7")}
        api = replace(wrong.services[ServiceName("api")], networks=fixed)
        outcome = await up(engine, replace(wrong, services={**wrong.services, api.name: api}))
        assert "10.9.1.7" in str(outcome.error())
        assert (row(engine, "api").endpoints, row(engine, "api").published) == ((), ())
        assert row(engine, "api").phase is Phase.RUNNING
        assert address_on_front(engine, "web").startswith("10.9.2.")
        assert "reconnect api: networks +front; ports +8080:80" in (await engine.plan(Up(on_front(NEW)))).render()
        assert (await up(engine, on_front(NEW))).error() is None
        assert address_on_front(engine, "api").startswith("10.9.2.")
        assert len(starts(world, "api")) == 1

    simulate(World, scene)


def test_a_supervisor_killed_while_a_network_is_made_anew_is_followed_by_one_that_completes_it() -> None:
    for steps in range(0, 120, 5):

        async def first(engine: Engine, world: World, steps: int = steps) -> None:
            await up(engine, on_front(OLD))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up, engine, on_front(NEW))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                world.state.frozen = True
                nursery.cancel_scope.cancel()

        async def between(world: World) -> None:
            world.state.frozen = False

        async def second(engine: Engine, world: World) -> None:
            assert (await up(engine, on_front(NEW))).error() is None
            for name in ("web", "api"):
                assert address_on_front(engine, name).startswith("10.9.2.")
                assert row(engine, name).phase is Phase.RUNNING
            assert (await engine.plan(Up(on_front(NEW)))).empty

        two_lives(World, first, second, between)


def test_a_network_that_everybody_has_left_goes_with_the_project_whoever_takes_that_down() -> None:
    async def first(engine: Engine, world: World) -> None:
        await up(engine, FRONT)
        await up(engine, BACK)

    async def second(engine: Engine, world: World) -> None:
        assert (await do(engine, Verb.DOWN)).ok
        assert world.networking.networks == {}

    two_lives(World, first, second)


def fixed(**last: int | None) -> Project:
    """Services with their addresses on `front`; None: as it comes."""
    found = []
    for name, number in last.items():
        attached = Attachment(FRONT_KEY, ipv4_address=f"10.9.1.{number}" if number else None)
        found.append(replace(service(name), networks={FRONT_KEY: attached}))
    return replace(project(*found), networks={**OLD})


def test_what_one_gives_up_another_takes_in_the_same_up_whatever_the_order() -> None:
    """Swapped, in a ring, given up without a new one, and taken by one that is new."""
    cases = (
        ({"web": 10, "api": 20}, {"web": 20, "api": 10}),
        ({"web": 10, "api": 20, "db": 30}, {"web": 20, "api": 30, "db": 10}),
        ({"web": 10, "api": None}, {"web": None, "api": 10}),
        ({"api": None, "web": 10}, {"api": 10, "web": 11}),
        ({"web": 10}, {"web": 11, "api": 10}),
        ({"web": 10}, {"api": 10, "web": None}),
    )

    async def scene(engine: Engine, world: World) -> None:
        for before, after in cases:
            assert (await up(engine, fixed(**before))).error() is None
            outcome = await up(engine, fixed(**after))
            assert outcome.error() is None, (before, after)
            for name, number in after.items():
                assert number is None or address_on_front(engine, name) == f"10.9.1.{number}"
                assert len(starts(world, name)) == 1
            addresses = [address_on_front(engine, name) for name in after]
            assert len(set(addresses)) == len(addresses)
            assert (await engine.plan(Up(fixed(**after)))).empty
            await do(engine, Verb.DOWN)
            world.runtime.acts.clear()

    simulate(World, scene)


def test_so_it_is_with_containers_that_are_replaced_and_stopped() -> None:
    def made(web: int, api: int, command: str) -> Project:
        found = fixed(web=web, api=api)
        other = replace(found.services[SERVICE], command=(command,))
        return replace(found, services={**found.services, SERVICE: other})

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, made(10, 20, "x"))
        assert (await up(engine, made(20, 10, "y"))).error() is None
        assert (address_on_front(engine, "web"), address_on_front(engine, "api")) == ("10.9.1.20", "10.9.1.10")
        assert (len(starts(world, "web")), len(starts(world, "api"))) == (2, 1)
        await do(engine, Verb.STOP, "api")
        assert (await up(engine, made(10, 20, "y"))).error() is None
        assert (address_on_front(engine, "web"), address_on_front(engine, "api")) == ("10.9.1.10", "10.9.1.20")
        await do(engine, Verb.STOP)
        assert (await up(engine, made(20, 10, "y"))).error() is None
        assert (address_on_front(engine, "web"), address_on_front(engine, "api")) == ("10.9.1.20", "10.9.1.10")

    simulate(World, scene)


def publishing(**ports: int | tuple[int, int]) -> Project:
    mappings = {name: port if isinstance(port, tuple) else (port, port) for name, port in ports.items()}
    return project(*(service(name, ports=(PortMapping(80, port),)) for name, port in mappings.items()))


def test_a_port_moves_to_another_service_and_two_swap_theirs() -> None:
    async def scene(engine: Engine, world: World) -> None:
        def host_port(name: str) -> int:
            return row(engine, name).published[0].host_port

        await up(engine, publishing(web=8080))
        moved = publishing(api=8080, web=8081)
        assert (await engine.plan(Up(moved))).render() == (
            "up demo:\n"
            "  reconnect web: ports +8081:80 -8080:80\n"
            "  create api: not created yet [after reconnect web]\n"
            "  start api: created [after create api]\n"
        )
        assert (await up(engine, moved)).error() is None
        assert (host_port("web"), host_port("api")) == (8081, 8080)
        swapped = publishing(api=8081, web=8080)
        plan = (await engine.plan(Up(swapped))).render()
        assert "disconnect web: port 8081 is for api" in plan
        assert "disconnect api: port 8080 is for web" in plan
        assert (await up(engine, swapped)).error() is None
        assert (host_port("web"), host_port("api")) == (8080, 8081)
        # A range that has room only where somebody leaves.
        assert (await up(engine, publishing(api=(8080, 8080), web=(8090, 8091)))).error() is None
        assert (host_port("web"), host_port("api")) == (8090, 8080)
        # To one that was stopped; and from a service that is gone.
        await do(engine, Verb.STOP, "api")
        assert (await up(engine, publishing(api=8090, web=8080))).error() is None
        assert (host_port("web"), host_port("api")) == (8080, 8090)
        assert (await up(engine, publishing(web=8090), remove_orphans=True)).error() is None
        assert host_port("web") == 8090
        assert len(starts(world, "web")) == 1

    simulate(World, scene)


def test_a_swap_in_whose_middle_the_supervisor_is_killed_is_completed_by_the_next_up() -> None:
    for steps in range(0, 120, 5):

        async def first(engine: Engine, world: World, steps: int = steps) -> None:
            await up(engine, fixed(web=10, api=20))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up, engine, fixed(web=20, api=10))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                world.state.frozen = True
                nursery.cancel_scope.cancel()

        async def between(world: World) -> None:
            world.state.frozen = False

        async def second(engine: Engine, world: World) -> None:
            assert (await up(engine, fixed(web=20, api=10))).error() is None
            assert (address_on_front(engine, "web"), address_on_front(engine, "api")) == ("10.9.1.20", "10.9.1.10")
            assert len(starts(world, "web")) == len(starts(world, "api")) == 1

        two_lives(World, first, second, between)
