"""`pystack timeline`: what the events of the real scheduler say of each start, in virtual time."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import trio

from orchestrator.cli.timeline.bars import render
from orchestrator.cli.timeline.critical import critical
from orchestrator.cli.timeline.pictures import as_chrome, as_html, as_json, as_svg
from orchestrator.cli.timeline.starts import PHASES, Episode, Start, episodes
from orchestrator.contracts.control import Restart, Selection
from orchestrator.contracts.events import Event, EventKind
from orchestrator.errors import OperationError
from orchestrator.model.hooks import Hook
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.model.updating import Order, UpdateRules
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import COMPLETED, HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import Scene, simulate, two_lives, up


def stack() -> Project:
    """db takes 3 s, migrate 2 s after it; cache 1 s beside them; web waits for all."""
    return project(
        service("db", healthcheck=check(1)),
        service("migrate", edge("db", HEALTHY)),
        service("cache"),
        service("web", edge("migrate", COMPLETED), edge("cache")),
    )


BEHAVIOURS = {
    "db": FakeService(boot_s=0.5, healthy_after_s=2.5, create_s=0.25),
    "migrate": FakeService(exits_after_s=2),
    "cache": FakeService(boot_s=1),
    "web": FakeService(boot_s=0.125),
}


def told(scene: Scene, behaviours: dict[str, FakeService] = BEHAVIOURS, seed: int = 0) -> list[Event]:
    world: list[World] = []

    def made() -> World:
        world.append(World(behaviours))
        return world[-1]

    simulate(made, scene, range(seed, seed + 1))
    return world[-1].events


async def bring_up(engine: Engine, world: World) -> None:
    await up(engine, stack(), wait=True)
    await trio.sleep(1)


def by_service(episode: Episode) -> dict[str, Start]:
    return {item.service: item for item in episode.starts}


def phases(item: Start) -> list[tuple[str, float]]:
    return [(span.phase, round(span.length_s, 3)) for span in item.spans]


def has_no_gaps(item: Start) -> bool:
    spans = item.spans
    return spans[0].begin_s == item.marks["opened"] and all(a.end_s == b.begin_s for a, b in itertools.pairwise(spans))


def test_each_part_of_each_start_is_measured_on_one_clock() -> None:
    for seed in range(6):
        [episode] = episodes(told(bring_up, seed=seed))
        found = by_service(episode)
        assert phases(found["db"]) == [("sandbox", 0.25), ("exec", 0.5), ("ready", 3.0)]
        assert phases(found["migrate"]) == [("wait", 3.75), ("run", 2.0)]
        assert phases(found["cache"]) == [("exec", 1.0)]
        assert phases(found["web"]) == [("wait", 5.75), ("exec", 0.125)]
        assert all(has_no_gaps(item) for item in episode.starts)
        assert {name: item.end for name, item in found.items()} == {
            "db": "ready", "migrate": "completed", "cache": "ready", "web": "ready"
        }  # fmt: skip


def test_the_critical_path_has_no_slack_and_the_rest_has_what_it_could_be_later() -> None:
    [episode] = episodes(told(bring_up))
    found = critical(episode)
    assert [link.container for link in found.path] == ["demo-db-1", "demo-migrate-1", "demo-web-1"]
    assert found.slack_s == {"demo-db-1": 0, "demo-migrate-1": 0, "demo-web-1": 0, "demo-cache-1": 4.75}
    assert sum(link.end_s - link.begin_s for link in found.path) == episode.end_s - episode.begin_s


def test_what_would_shorten_it_is_true() -> None:
    [episode] = episodes(told(bring_up))
    advice = critical(episode).advice
    assert advice is not None
    assert (advice.service, advice.phase, round(advice.length_s, 3)) == ("db", "ready", 3.0)
    faster = {**BEHAVIOURS, "db": FakeService(boot_s=0.5, create_s=0.25)}

    def without_the_condition(seed: int) -> float:
        async def main() -> list[Event]:
            world = World(faster)
            async with world.engine() as engine:
                begun = project(*stack().services.values())
                quick = replace(begun.services[ServiceName("db")], healthcheck=check(0.0001))
                await up(engine, replace(begun, services={**begun.services, ServiceName("db"): quick}), wait=True)
            return world.events

        [other] = episodes(seeds.run(main, seed=seed))
        return other.end_s - other.begin_s

    assert abs(without_the_condition(3) - advice.end_s) < 0.001


def test_a_restarted_service_shows_its_stop_and_a_crashed_one_its_back_off() -> None:
    behaviours = {"db": FakeService(crashes=[10.0], stops_after_s=0.75, boot_s=0.5)}

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(service("db", restart="always")))
        await trio.sleep(20)
        await engine.operate(Restart(Selection((ServiceName("db"),))))

    first, crash, restart = episodes(told(scene, behaviours))
    assert phases(first.starts[0]) == [("exec", 0.5)]
    assert (crash.operation, phases(crash.starts[0])) == (False, [("backoff", 0.1), ("exec", 0.5)])
    assert phases(restart.starts[0]) == [("stop", 0.75), ("exec", 0.5)]


def test_a_start_that_fails_or_is_blocked_says_so_and_is_on_no_path() -> None:
    behaviours = {"db": FakeService(start_error=OperationError("no"), boot_s=1)}

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, project(service("db"), service("web", "db"), service("other")))

    [episode] = episodes(told(scene, behaviours))
    assert {name: item.end for name, item in by_service(episode).items()} == {
        "db": "failed", "web": "blocked", "other": "ready"
    }  # fmt: skip
    assert [link.container for link in critical(episode).path][-1] == "demo-db-1"


def test_no_start_is_measured_with_the_clocks_of_two_supervisors() -> None:
    """The first is killed while db becomes healthy: what the second one says later belongs to no start of the first."""
    logs: list[list[Event]] = []

    def made() -> World:
        events: list[Event] = []
        logs.append(events)
        return World(BEHAVIOURS, emit=events.append)

    async def first(engine: Engine, world: World) -> None:
        with trio.move_on_after(2):
            await up(engine, stack())

    async def second(engine: Engine, world: World) -> None:
        await trio.sleep(30)

    async def between(world: World) -> None:
        logs[-1].append(Event(EventKind.SUPERVISOR_STARTED, "supervisor 2 begins", 0.0))

    two_lives(made, first, second, between)
    for events in logs:
        found = episodes(events)
        assert by_service(found[0])["db"].end in ("cut short", "stopped")
        assert all(item.finish_s - item.marks["opened"] <= 2.0 for item in found[0].starts)
        assert all(has_no_gaps(item) for episode in found for item in episode.starts if item.spans)


def test_a_supervisor_of_another_version_in_between_cuts_the_start_too() -> None:
    events = told(bring_up)
    middle = next(at for at, event in enumerate(events) if event.kind is EventKind.CONTAINER_STARTED)
    mixed = [*events[: middle + 1], *(replace(event, clock_s=None) for event in events[middle + 1 :])]
    [episode] = episodes(mixed)
    assert "cut short" in {item.end for item in episode.starts}
    assert max(item.finish_s for item in episode.starts) < 10


def test_events_of_an_older_version_are_measured_by_the_wall_clock_and_that_is_said() -> None:
    old = [replace(event, clock_s=None) for event in told(bring_up)]
    [episode] = episodes(old)
    assert not episode.steady
    assert phases(by_service(episode)["cache"]) == [("exec", 1.0)]
    assert "wall clock" in "\n".join(render(episode, 80, colour=False))


def test_setting_the_wall_clock_during_a_start_changes_none_of_its_times() -> None:
    events = told(bring_up)
    jumped = [replace(event, at=event.at - 3600) if at > len(events) // 2 else event for at, event in enumerate(events)]
    assert [item.spans for item in episodes(jumped)[0].starts] == [item.spans for item in episodes(events)[0].starts]


def test_the_bars_fit_sixty_columns_and_are_plain_ascii_without_a_terminal() -> None:
    [episode] = episodes(told(bring_up))
    lines = render(episode, 60, colour=False)
    assert all(len(line) <= 60 and line.isascii() and "\x1b" not in line for line in lines)
    assert any(line.startswith("* db") and "=" in line for line in lines)
    assert "\x1b[" in "\n".join(render(episode, 60, colour=True))


def test_the_pictures_and_the_data_can_be_read_by_those_they_are_for() -> None:
    found: Sequence[Episode] = episodes(told(bring_up))
    drawn = ElementTree.fromstring(as_svg(found))
    assert drawn.tag.endswith("svg")
    assert len([box for box in drawn.iter() if box.find("{http://www.w3.org/2000/svg}title") is not None]) == 8
    assert "<pre>up demo at" in as_html(found)
    trace = json.loads(as_chrome(found))["traceEvents"]
    spans = [event for event in trace if event["ph"] == "X"]
    assert {event["name"] for event in spans} <= {words for _, words in PHASES.values()}
    assert sum(event["dur"] for event in spans if event["cat"] == "db") == 3_750_000
    [data] = json.loads(as_json(found))
    assert data["length_s"] == 5.875
    assert [link["container"] for link in data["critical_path"]] == ["demo-db-1", "demo-migrate-1", "demo-web-1"]


def test_what_a_hook_takes_before_a_stop_is_a_part_of_the_stop() -> None:
    made = service("web", healthcheck=check(1))
    made = replace(made, pre_stop=(Hook(("sleep", "2"), place=""),), post_start=(Hook(("sleep", "1"), place=""),))

    async def body(engine: Engine, world: World) -> None:
        await up(engine, project(made), wait=True)
        await engine.operate(Restart(Selection((ServiceName("web"),))))
        await trio.sleep(5)

    again = by_service(episodes(told(body, {}))[-1])["web"]
    assert has_no_gaps(again)
    assert phases(again) == [("stop", 2.0), ("ready", 1.0)]


def test_replicas_of_a_rolling_update_take_turns_on_the_critical_path() -> None:
    """Three replicas one after the other, 2 s between them; another service is updated meanwhile, and has time."""

    def rolled(version: str) -> Project:
        rules = UpdateRules(Order.START_FIRST, delay_s=2.0, monitor_s=0.0)
        environment = {"V": version}
        web = service("web", environment=environment, healthcheck=check(1), replicas=3, update=rules, stop_grace_s=0.5)
        return project(web, service("cache", environment=environment))

    async def scene(engine: Engine, world: World) -> None:
        await up(engine, rolled("1"), wait=True)
        world.events.clear()
        assert (await up(engine, rolled("2"))).ok

    behaviours = {"web": FakeService(boot_s=0.5, healthy_after_s=0.5), "cache": FakeService(boot_s=1)}
    [episode] = episodes(told(scene, behaviours))
    starts = {item.container: item for item in episode.starts}
    one, two, three = (f"demo-web-{number}-b" for number in (1, 2, 3))
    assert [starts[name].after for name in (one, two, three)] == ["", one, two]
    assert phases(starts[two])[0] == ("turn", 3.5)
    found = critical(episode)
    assert [link.container for link in found.path] == [one, two, three]
    assert [round(link.end_s - link.begin_s, 3) for link in found.path] == [3.5, 3.5, 1.5]
    assert (found.slack_s[one], found.slack_s[two], found.slack_s[three]) == (0, 0, 0)
    assert found.slack_s["demo-cache-1"] > 7
    assert found.advice is not None
    assert (found.advice.phase, found.advice.length_s) == ("ready", 1.0)
    assert round(found.advice.before_s - found.advice.end_s, 3) == 1.0
