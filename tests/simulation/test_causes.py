"""`pystack why` across services: what the real scheduler's events and statuses tell of how one thing led to another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from orchestrator.cli.causes import Link, chain
from orchestrator.model.codec import to_json
from orchestrator.model.project import Project
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, simulate, up

Told = tuple[str, str, bool]


def links(
    stack: Project,
    behaviours: dict[str, FakeService],
    asked: str,
    *,
    after_s: float = 30,
    then: Callable[[Engine], Awaitable[object]] | None = None,
) -> list[Told]:
    """What is told of `asked` so long after it was begun, the same in every order of tasks."""
    found: list[tuple[Link, ...]] = []

    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack)
            await trio.sleep(after_s)
            if then is not None:
                await then(engine)
            rows = [to_json(row) for row in engine.statuses()]
            events = [to_json(event) for event in world.events]
            nursery.cancel_scope.cancel()

        def ask(name: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
            mine = [row for row in rows if row["service"] == name]
            return mine, [event for event in events if event.get("service") == name]

        found.append(chain(ask, asked, lambda container, at: [f"the end of {container}"]))

    simulate(lambda: World(behaviours), scene, range(4))
    told = [[(link.text, link.follows, link.certain) for link in one] for one in found]
    assert all(one == told[0] for one in told)
    return told[0]


STACK = project(
    service("db", healthcheck=check(1)),
    service("api", edge("db", HEALTHY), healthcheck=check(60)),
    service("web", edge("api", HEALTHY)),
)


def test_a_blocked_service_leads_to_the_one_that_failed_and_to_what_came_before_that() -> None:
    behaviours = {"db": FakeService(crashes=[5]), "api": FakeService(healthy_after_s=100, exits_after_s=6, exit_code=3)}
    assert links(STACK, behaviours, "web") == [
        ("web is blocked: it needs api to be healthy, which it cannot be any more", "", True),
        ("api exited with code 3 after 6 s", "web", True),
        ("db exited with code 1 after 5 s", "api", False),
    ]


def test_what_went_wrong_only_later_is_not_told_as_a_cause() -> None:
    behaviours = {"db": FakeService(crashes=[20]), "api": FakeService(healthy_after_s=100, exits_after_s=6, exit_code=3)}
    assert [service for _, service, _ in links(STACK, behaviours, "web")] == ["", "web"]


def test_a_waiting_service_leads_to_the_one_that_all_wait_for() -> None:
    behaviours = {"db": FakeService(healthy_after_s=1000)}
    stack = project(
        service("db", healthcheck=check(1, start_period_s=2000, start_interval_s=1)),
        service("api", edge("db", HEALTHY)),
        service("web", "api"),
    )
    assert links(stack, behaviours, "web") == [
        ("web waits for api to have started", "", True),
        ("api waits for db to be healthy", "web", True),
        ("db is not healthy yet", "api", True),
    ]


def test_one_that_runs_and_never_did_otherwise_has_no_causes_and_a_restarted_one_its_last_end() -> None:
    stack = project(service("db", restart="always"), service("web", "db", restart="always"))
    assert links(stack, {}, "web") == []
    behaviours = {"web": FakeService(crashes=[10]), "db": FakeService(crashes=[9])}
    assert links(stack, behaviours, "web") == [
        ("web exited with code 1 after 10 s", "", True),
        ("db exited with code 1 after 9 s", "web", False),
    ]


def test_one_that_was_stopped_on_request_has_not_gone_wrong() -> None:
    async def stopped(engine: Engine) -> None:
        await do(engine, Verb.STOP, "web")

    assert links(project(service("web")), {}, "web", then=stopped) == []


def test_services_that_need_one_another_are_told_once_each() -> None:
    """A diamond: both sides lead to the same service."""
    stack = project(
        service("db", healthcheck=check(1, start_period_s=900, start_interval_s=1)),
        service("left", edge("db", HEALTHY)), service("right", edge("db", HEALTHY)), service("web", "left", "right"),
    )  # fmt: skip
    told = links(stack, {"db": FakeService(healthy_after_s=1000)}, "web")
    assert [text.split()[0] for text, _, _ in told] == ["web", "left", "right", "db"]
