"""Images that services mount: they are obtained first, and a container is replaced when one has changed."""

from __future__ import annotations

import pytest

from orchestrator.contracts.control import Up
from orchestrator.errors import OperationError
from orchestrator.model.volume import Mount, MountKind
from orchestrator.plan.observed import observe
from orchestrator.plan.plan import Kind
from orchestrator.plan.reconcile import plan_up
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import simulate, up

DATA = "rootfs:/data"
WEB = replace(service("web"), volumes=(Mount(MountKind.IMAGE, "/mnt", DATA, True),))
STACK = project(WEB, service("other"))


def test_a_mounted_image_is_obtained_before_the_container_is_made() -> None:
    async def body(engine: Engine, world: World) -> None:
        world.images.unmade.add(DATA)
        outcome = await up(engine, STACK)
        assert outcome.ok
        assert world.images.obtained == [DATA]

    simulate(World, body)


def test_a_container_is_replaced_when_an_image_that_it_mounts_has_changed() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, STACK)
        assert (await up(engine, STACK)).changed == 0
        world.images.identities[DATA] = "another"
        outcome = await up(engine, STACK)
        assert outcome.changed == 1
        assert (await up(engine, STACK)).changed == 0

    simulate(World, body)


def test_a_mounted_image_that_does_not_exist_is_refused_before_anything_is_made() -> None:
    async def body(engine: Engine, world: World) -> None:
        world.images.missing.add(DATA)
        with pytest.raises(OperationError, match=f'image "{DATA}" does not exist'):
            await up(engine, STACK)
        assert world.runtime.acts == []

    simulate(World, body)


def test_the_plan_names_what_is_obtained_and_what_waits_for_it() -> None:
    plan = plan_up(Up(STACK), observe(None, [], []), images={WEB.name: None, service("other").name: "id"})
    obtained = {operation.image for operation in plan.of(Kind.OBTAIN_IMAGE)}
    assert obtained == {"host", DATA}
    (create,) = [operation for operation in plan.of(Kind.CREATE) if operation.service == "web"]
    assert f"obtain image {DATA}" in create.after
