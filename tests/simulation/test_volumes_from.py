"""``volumes_from``: whose mounts a container has, in which order they are made, and when it is made anew."""

from __future__ import annotations

import pytest

from orchestrator.contracts.control import Up
from orchestrator.contracts.images import ImageConfig
from orchestrator.errors import OperationError
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind, VolumesFrom
from orchestrator.plan.observed import observe
from orchestrator.plan.plan import Kind
from orchestrator.plan.reconcile import plan_up
from orchestrator.scheduler.engine import Engine
from orchestrator.scheduler.inherited import inherited_mounts
from orchestrator.testing.build import project, service
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import simulate, up

LENDER = replace(
    service("lender"),
    volumes=(
        Mount(MountKind.VOLUME, "/anonymous"),
        Mount(MountKind.VOLUME, "/named", "data", read_only=True),
        Mount(MountKind.BIND, "/bound", "/src"),
        Mount(MountKind.TMPFS, "/scratch"),
    ),
)
OWN = (Mount(MountKind.BIND, "/own", "/mine"),)
MIDDLE = replace(service("middle"), volumes=OWN, volumes_from=(VolumesFrom("lender"),))


def borrower(*entries: VolumesFrom) -> Service:
    return replace(service("web"), volumes=(Mount(MountKind.BIND, "/bound", "/elsewhere"),), volumes_from=entries)


def world() -> World:
    return World(images={"host": ImageConfig(volumes=("/declared",))})


def test_mounts_are_had_but_for_those_at_places_of_its_own() -> None:
    async def body(engine: Engine, here: World) -> None:
        web = borrower(VolumesFrom("lender"))
        await up(engine, project(LENDER, web))
        found = {mount.target: mount for mount in inherited_mounts(engine._state, web)}
        assert found.keys() == {"/anonymous", "/named", "/declared"}
        lender = here.container("lender")
        assert found["/anonymous"].source == here.volumes.ensure_anonymous(lender, "/anonymous")
        assert found["/declared"].source == here.volumes.ensure_anonymous(lender, "/declared")
        assert (found["/named"].source, found["/named"].read_only) == ("data", True)
        assert not found["/anonymous"].read_only

    simulate(world, body, range(2))


def test_they_come_from_the_lenders_lender_too_and_may_be_read_only() -> None:
    async def body(engine: Engine, here: World) -> None:
        web = replace(borrower(VolumesFrom("middle", read_only=True)), volumes=())
        await up(engine, project(LENDER, MIDDLE, web))
        found = {mount.target: mount for mount in inherited_mounts(engine._state, web)}
        assert found.keys() == {"/own", "/anonymous", "/named", "/declared", "/bound"}
        assert all(mount.read_only for mount in found.values())

    simulate(world, body, range(2))


def test_a_container_of_the_project_lends_by_its_name_and_no_other_does() -> None:
    async def body(engine: Engine, here: World) -> None:
        web = borrower(VolumesFrom(here.container("lender"), is_container=True))
        await up(engine, project(LENDER, web))
        assert {mount.target for mount in inherited_mounts(engine._state, web)} >= {"/anonymous", "/named"}
        outcome = await up(engine, project(LENDER, borrower(VolumesFrom("stranger", is_container=True))))
        assert not outcome.ok
        with pytest.raises(OperationError, match='this project has no container "stranger"'):
            inherited_mounts(engine._state, borrower(VolumesFrom("stranger", is_container=True)))

    simulate(world, body, range(2))


def test_the_lender_is_made_first_and_a_change_of_its_mounts_makes_the_borrower_anew() -> None:
    web = borrower(VolumesFrom("lender"))
    plan = plan_up(Up(project(LENDER, web)), observe(None, [], []), images={})
    (create,) = [operation for operation in plan.of(Kind.CREATE) if operation.service == "web"]
    assert any("create" in item and "lender" in item for item in create.after)

    async def body(engine: Engine, here: World) -> None:
        await up(engine, project(LENDER, web))
        assert (await up(engine, project(LENDER, web))).changed == 0
        changed = replace(LENDER, volumes=(*LENDER.volumes, Mount(MountKind.BIND, "/more", "/src")))
        await up(engine, project(changed, web))
        made = [act.container for act in here.runtime.acts if act.what == "create"]
        assert made.count(here.container("web")) == 2

    simulate(world, body, range(2))
