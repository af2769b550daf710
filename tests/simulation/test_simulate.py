"""The simulator that users get: a day in seconds."""

from __future__ import annotations

from time import process_time

import pytest

from orchestrator.contracts.events import EventKind
from orchestrator.model.health import Health
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.simulate import simulate

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def hundred() -> Project:
    """Ten layers of ten; each service waits for one below it to be healthy and for another to be started."""
    services = []
    for layer in range(10):
        for number in range(10):
            below = f"s{layer - 1}{number}", f"s{layer - 1}{(number + 1) % 10}"
            needs = [edge(below[0], HEALTHY), edge(below[1])] if layer else []
            services.append(service(f"s{layer}{number}", *needs, restart="always", healthcheck=check(60)))
    return project(*services)


def test_hours_of_a_hundred_services_of_which_one_never_comes_up_run_in_seconds() -> None:
    behaviours = {
        # A crash loop that ends, a crash every hour, one that falls ill twice, one that ignores its stop signal.
        "s00": FakeService(crashes=[1] * 12),
        "s11": FakeService(exits_after_s=3600, exit_code=1),
        "s22": FakeService(ill_after_s=[7200, 7200]),
        "s33": FakeService(ignores_sigterm=True, ill_after_s=[600]),
        "s44": FakeService(boot_s=2, healthy_after_s=90, probe_s=0.5),
    }
    begun = process_time()
    report = simulate(hundred(), behaviours, duration_s=4 * HOUR_S)
    took_s = process_time() - begun
    assert report.up is not None
    assert report.up.blocked != ()  # s00 crashes more often than anyone waits.
    assert report.restarts["demo-s00-1"] == 12  # type: ignore[index]
    assert took_s < 60
    assert report.down.ok
    assert report.left_over == ()


@pytest.mark.soak
def test_a_day_of_a_hundred_services_with_failures_runs_in_seconds() -> None:
    behaviours = {
        "s11": FakeService(exits_after_s=3600, exit_code=1),
        "s22": FakeService(ill_after_s=[7200, 7200]),
        "s99": FakeService(crashes=[30, 30, 30]),
    }
    begun = process_time()
    report = simulate(hundred(), behaviours, duration_s=DAY_S, seed=7)
    took_s = process_time() - begun
    assert report.up is not None
    assert report.up.ok
    assert report.restarts == {"demo-s11-1": 23, "demo-s22-1": 2, "demo-s99-1": 3}
    assert {status.phase for status in report.statuses} == {Phase.RUNNING}
    assert {status.health for status in report.statuses} == {Health.HEALTHY}
    assert report.probes_passed > 100 * 1400
    assert took_s < 60


def test_the_same_seed_gives_the_same_story_and_the_story_reads_well() -> None:
    stack = project(service("db", healthcheck=check(1), restart="always"), service("web", edge("db", HEALTHY)))
    behaviours = {"db": FakeService(crashes=[100])}
    first = simulate(stack, behaviours, duration_s=200, seed=3)
    assert first == simulate(stack, behaviours, duration_s=200, seed=3)
    assert first.render() == (
        "00:00:00.000  web waits for db (healthy)\n"
        "00:00:00.000  started demo-db-1\n"
        "00:00:01.000  db is healthy: probe 1 passed\n"
        "00:00:01.000  db is healthy after 1 s\n"
        "00:00:01.000  started demo-web-1\n"
        "00:00:01.000  web is running\n"
        "00:01:40.000  db exited with code 1 after 100 s\n"
        "00:01:40.000  db exited with code 1; restart 1 in 100 ms (restart: always)\n"
        "00:01:40.100  started demo-db-1\n"
        "00:01:41.100  db is healthy: probe 1 passed\n"
        "00:01:41.100  db is healthy after 1 s\n"
        "00:03:20.000  web was killed by SIGTERM after 199 s\n"
        "00:03:20.000  db was killed by SIGTERM after 99.9 s\n"
        "in the end:\n"
        "  db: running, 1 restart; healthy\n"
        "  web: running, 0 restarts; running\n"
    )


def test_a_stack_that_never_comes_up_is_reported_as_such() -> None:
    stack = project(service("db", healthcheck=check(30, start_period_s=1e6)))
    report = simulate(stack, {"db": FakeService(healthy_after_s=1e9)}, duration_s=3600)
    assert report.up is None
    assert report.statuses[0].health is Health.STARTING
    assert [event.kind for event in report.events if event.kind is EventKind.SERVICE_READY] == []
