"""A stack on a network that is not its own, on simulated networks."""

from __future__ import annotations

from orchestrator.contracts.control import Down
from orchestrator.contracts.events import EventKind
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Attachment, Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import simulate, up

MEET = NetworkName("meet")


def on_shared(*services: Service) -> Project:
    made = project(*(replace(each, networks={MEET: Attachment(MEET)}) for each in services))
    return replace(made, networks={MEET: Network(MEET, "meeting", external=True)})


def test_a_shared_network_is_neither_made_nor_removed_but_joined_and_left() -> None:
    async def body(engine: Engine, here: World) -> None:
        here.networking.host.share("meeting")
        assert (await up(engine, on_shared(service("web"), service("db")))).ok
        assert here.networking.resolve(here.container("web"), "db") != ()
        assert any(here.networking.host.shared["meeting"].values())
        assert (await engine.operate(Down())).ok
        assert not any(here.networking.host.shared["meeting"].values())
        kinds = {event.kind for event in here.events}
        assert EventKind.NETWORK_CREATED not in kinds
        assert EventKind.NETWORK_REMOVED not in kinds

    simulate(World, body, range(4))


def test_without_the_network_nothing_of_its_services_is_left_and_one_error_says_what_to_do() -> None:
    async def body(engine: Engine, here: World) -> None:
        outcome = await up(engine, on_shared(service("web")))
        error = outcome.error()
        assert error is not None
        assert "pystack network create meeting" in (error.hint or "")
        assert here.container("web") not in here.runtime.existing()

    simulate(World, body, range(4))
