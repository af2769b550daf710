"""``links`` and ``external_links`` on simulated networks."""

from __future__ import annotations

from orchestrator.model.network import Link
from orchestrator.model.service import Service
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import edge, project, service
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import simulate, two_lives, up

DB = service("db")


def linked(target: str, *, external: bool = False) -> Service:
    web = service("web", *(() if external else (edge("db"),)))
    return replace(web, links=(Link("store", target, external, "services.web.external_links[0]"),))


def addresses(here: World, asking: str, name: str) -> tuple[str, ...]:
    return here.networking.resolve(here.container(asking), name)


def test_a_link_is_known_to_whose_it_is_also_to_the_next_supervisor() -> None:
    async def knows(engine: Engine, here: World) -> None:
        assert (await up(engine, project(DB, linked("db")))).ok
        assert addresses(here, "web", "store") == addresses(here, "web", "db") != ()
        assert addresses(here, "db", "store") == ()

    two_lives(World, knows, knows)


def test_an_external_link_leads_to_a_container_of_the_project_and_else_nothing_changes() -> None:
    async def body(engine: Engine, here: World) -> None:
        assert (await up(engine, project(DB))).ok
        assert (await up(engine, project(DB, linked(here.container("db"), external=True)))).ok
        assert addresses(here, "web", "store") == addresses(here, "web", "db") != ()
        outcome = await up(engine, project(DB, linked("stranger-1", external=True)))
        error = outcome.error()
        assert error is not None
        assert 'this project has no container "stranger-1"' in error.message
        assert addresses(here, "web", "store") == addresses(here, "web", "db") != ()

    simulate(World, body, range(4))
