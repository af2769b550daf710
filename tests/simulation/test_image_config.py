"""What an image brings along, seen from outside: health check, exposed ports, anonymous volumes."""

from __future__ import annotations

import pytest
import trio

from orchestrator.contracts.images import ImageConfig
from orchestrator.model.health import Health, HealthCheck
from orchestrator.model.network import PortMapping
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.fake_state import FakeVolumes, FakeVolumeStore
from orchestrator.testing.world import World
from tests.simulation.stage import do, row, simulate, up

CONFIG = ImageConfig(
    healthcheck=HealthCheck(("probe",), interval_s=2.0),
    exposed_ports=("80/tcp", "81/tcp", "53/udp"),
    volumes=("/data/", "/cache"),
)


def world(**behaviours: FakeService) -> World:
    return World(behaviours, images={"app": CONFIG})


@pytest.mark.parametrize(
    ("own", "healthy_at_s"),
    [(None, 2.0), (HealthCheck(interval_s=7.0), 7.0), (HealthCheck(retries=9), 2.0), (HealthCheck(("probe",)), 2.0)],
)
def test_a_service_is_healthy_by_the_check_of_its_image_and_what_it_says_itself_goes_before(
    own: HealthCheck | None, healthy_at_s: float
) -> None:
    stack = project(service("web", image="app", healthcheck=own))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(healthy_at_s - 0.1)
        assert row(engine, "web").health is Health.STARTING
        await trio.sleep(0.2)
        assert row(engine, "web").health is Health.HEALTHY

    simulate(world, body)


def test_a_stack_can_do_without_the_check_of_its_image() -> None:
    stack = project(service("web", image="app", healthcheck=HealthCheck(disabled=True)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        await trio.sleep(10)
        assert row(engine, "web").health is Health.NONE

    simulate(world, body)


def test_ports_that_are_only_exposed_are_shown_while_it_runs() -> None:
    stack = project(service("web", image="app", expose=("9000", "81"), ports=(PortMapping(80, (8080, 8080)),)))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert row(engine, "web").exposed == ("9000/tcp", "81/tcp", "53/udp")
        await do(engine, Verb.STOP)
        assert row(engine, "web").exposed == ()

    simulate(world, body)


def test_its_volumes_are_the_container_s_own_unless_the_stack_mounts_something_there() -> None:
    stack = project(service("web", image="app", volumes=("kept:/cache",)))

    stores: list[FakeVolumeStore] = []

    def made() -> World:
        here = world()
        stores.append(FakeVolumeStore())
        here.volumes = FakeVolumes(store=stores[-1])
        return here

    async def body(engine: Engine, world: World) -> None:
        await up(engine, stack)
        assert {target for _, _, target in stores[-1].anonymous} == {"/data"}

    simulate(made, body)


def test_new_anonymous_volumes_are_had_by_what_has_some_and_by_what_is_made_anew() -> None:
    stack = project(service("web", image="app"), service("plain"))

    async def body(engine: Engine, world: World) -> None:
        web = world.container("web")
        for down in (False, True):
            await up(engine, stack)
            before = {name: row(engine, name).created_at for name in ("web", "plain")}
            world.volumes.ensure_anonymous(web, "/of/before")
            await trio.sleep(1)
            if down:
                await do(engine, Verb.DOWN)
                assert world.volumes.with_anonymous([web]) == {web}, "they wait for the next container of the name"
            await up(engine, stack, renew_volumes=True)
            assert row(engine, "web").created_at > before["web"]
            assert (row(engine, "plain").created_at == before["plain"]) is not down
            assert "/of/before" not in {target for _, _, target in store.anonymous}

    store = FakeVolumeStore()

    def made() -> World:
        here = world()
        store.anonymous.clear()
        here.volumes = FakeVolumes(store=store)
        return here

    simulate(made, body)
