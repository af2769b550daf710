"""`pystack simulate`: a stack on virtual time, judged by what it expects. Needs neither root nor images nor networks."""

from __future__ import annotations

import json
import re
from time import process_time

import pytest

from tests.unit.cli.conftest import Bench, Outcome

STACK = """
services:
  db:
    image: postgres:16
    user: postgres:postgres
    restart: always
    healthcheck: {test: [CMD, pg_isready], interval: 1s, retries: 2, start_period: 30s, start_interval: 1s}
  migrate:
    image: app:1
    depends_on: {db: {condition: service_healthy}}
  web:
    image: app:1
    RESTART
    depends_on: {migrate: {condition: service_completed_successfully}}
    deploy: {replicas: 2}
"""
CURED = STACK.replace("RESTART", "restart: on-failure")
FRAGILE = STACK.replace("RESTART", "restart: 'no'")


def simulated(bench: Bench, stack: str, *words: str) -> Outcome:
    (bench.directory / "compose.yaml").write_text(stack)
    return bench.run("simulate", *words)


def data(bench: Bench, stack: str, *words: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(simulated(bench, stack, *words, "--format", "json").out)
    return found


def at(found: dict[str, list[dict[str, object]]], kind: str, service: str) -> list[object]:
    return [event["at_s"] for event in found["events"] if event["kind"] == kind and event.get("service") == service]


def test_a_day_passes_in_seconds_and_the_story_is_told_with_its_times(bench: Bench) -> None:
    begun = process_time()
    outcome = simulated(bench, CURED.replace("interval: 1s, r", "interval: 10s, r"), "--for", "24h", "--kill", "db@12h")
    assert process_time() - begun < 60
    assert outcome.code == 0
    assert "00:00:01.000  db is healthy: probe 1 passed\n" in outcome.out
    assert "12:00:00.000  (demo-db-1 is killed)\n" in outcome.out
    assert "12:00:00.100  started demo-db-1\n" in outcome.out
    assert "  db: running, 1 restart; healthy\n" in outcome.out
    assert outcome.out.endswith("ok     eventually running: so it is\n")
    assert "so they bring no health check, user or command: app:1, postgres:16" in outcome.err


def test_failures_happen_when_they_are_said_to_and_slowness_is_of_the_right_kind(bench: Bench) -> None:
    found = data(bench, CURED, "--slow", "db=2500ms", "--slow", "web=750ms", "--exit", "migrate=0@2s")
    assert at(found, "service.ready", "db") == [3.0]  # It is probed each second.
    assert at(found, "container.exited", "migrate") == [5.0]
    assert at(found, "container.started", "web") == [5.75, 5.75]
    ill = data(bench, CURED, "--ill", "db@10s")
    assert at(ill, "health.changed", "db")[:2] == [1.0, 12.0]  # Healthy, and then two probes fail.
    assert at(ill, "restart.scheduled", "db") == [12.0]


def test_the_same_seed_is_the_same_story_and_a_dead_supervisor_is_followed_by_another(bench: Bench) -> None:
    words = ("--seed", "7", "--kill-supervisor", "1500ms", "--kill", "web@20s")
    first = simulated(bench, CURED, *words)
    assert first.code == 0
    assert first.out == simulated(bench, CURED, *words).out
    assert "00:00:01.500  (the supervisor is killed)\n00:00:02.500  (another supervisor takes over)\n" in first.out
    assert first.out.count("(demo-web-") == 2


EXPECT = """
x-pystack:
  expect:
    ready_within: 3s
    never: [failed, web restarted]
    eventually: [running, db healthy, migrate completed]
    restarts_at_most: 0
"""


def test_a_stack_that_is_as_it_expects_ends_with_0_and_each_claim_is_shown(bench: Bench) -> None:
    outcome = simulated(bench, CURED + EXPECT)
    assert outcome.code == 0
    assert re.findall("^ok     (.*?):", outcome.out, re.MULTILINE) == [
        "ready within 3s", "never failed", "never web restarted", "eventually running", "eventually db healthy",
        "eventually migrate completed", "at most 0 restarts",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--slow", "db=9s"), r"compose.yaml:19:19: .*ready within 3s; but demo-web-. was ready after 10.000 s"),
        (("--exit", "migrate=3@1s"), r"compose.yaml:19:19: .*ready within 3s; but .*demo-web-. was never ready"),
        (("--kill", "web@20s"), r"compose.yaml:20:21: .*never web restarted; but 00:00:20.000"),
        (("--kill", "db@20s"), r"compose.yaml:22:23: .*at most 0 restarts; but 1"),
        (("--ill", "db@599s"), r""),
    ],
)
def test_what_does_not_hold_ends_with_1_at_its_place(bench: Bench, words: tuple[str, ...], complaint: str) -> None:
    outcome = simulated(bench, CURED + EXPECT, *words)
    assert outcome.code == (1 if complaint else 0)
    assert re.search(complaint, outcome.err)
    assert ("FAILS" in outcome.out) == bool(complaint)


def test_the_search_finds_the_smallest_failure_of_no_return_and_its_command_repeats_it(bench: Bench) -> None:
    outcome = simulated(bench, FRAGILE, "--search", "20")
    assert outcome.code == 1
    found = re.search("again: pystack simulate (.*)", outcome.err)
    assert found is not None
    assert re.fullmatch(r"--seed 0 --kill web@3s --for 1h", found[1])
    again = simulated(bench, FRAGILE, *found[1].split())
    assert again.code == 1
    assert again.out == outcome.out
    assert simulated(bench, CURED, "--search", "20").code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--kill", "db"), '"db" is not SERVICE@TIME'),
        (("--kill", "dbb@3s"), '"dbb" is no service of this stack'),
        (("--kill", "db@soon"), '"db@soon" is not SERVICE@TIME'),
        (("--slow", "db=-1s"), '"db=-1s" is not SERVICE=TIME'),
        (("--exit", "db=256@1s"), "is not SERVICE=CODE@TIME"),
        (("--kill-supervisor", "x"), '"x" is not a TIME'),
        (("--for", "2y"), "--for"),
        (("nobody",), "nobody"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_error(bench: Bench, words: tuple[str, ...], complaint: str) -> None:
    outcome = simulated(bench, CURED, *words)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("error:") == 1


def test_what_the_real_compiler_refuses_is_refused(bench: Bench) -> None:
    outcome = simulated(bench, "services: {web: {image: app, working_dir: app}}\n")
    assert outcome.code == 1
    assert "services.web.working_dir" in outcome.out


def test_hooks_and_init_containers_take_part(bench: Bench) -> None:
    stack = """
services:
  web:
    image: app
    pre_start: [{image: setup, command: [setup]}]
    post_start: [{command: [warm-up]}]
"""
    found = data(bench, stack)
    assert at(found, "container.started", "web")[-1] == pytest.approx(0.1)
    assert [status["phase"] for status in found["statuses"]] == ["running"]


SCRIPTED = (
    CURED
    + """
x-pystack:
  chaos:
    - {at: 40s, do: kill db}
    - {at: 1m, do: cut web db, for: 20s}
    - {at: 80s, do: pause web, for: 5s}
    - {every: 2m, do: oom db-that-is-not-brought-up}
    - {at: 3m, do: lag web 50ms}
""".replace("db-that-is-not-brought-up", "migrate")
)


def test_faults_that_the_stack_says_of_itself_happen_at_their_times_and_those_of_the_network_are_named(
    bench: Bench,
) -> None:
    told = simulated(bench, SCRIPTED, "--for", "5m")
    lines = told.out.splitlines()
    killed = [line for line in lines if "send SIGKILL to db" in line or "db was killed by SIGKILL; restart 1" in line]
    assert [line[:8] for line in killed] == ["00:00:40"] * 3, killed
    paused = [line for line in lines if "pause web" in line]
    assert [line[:8] for line in paused] == ["00:01:20", "00:01:25"], paused
    refused = [line for line in lines if "let migrate run out of memory" in line]
    assert [line[:8] for line in refused] == ["00:02:00", "00:04:00"], "it has ended by then"
    assert "left out of x-pystack.chaos, for nothing here notices its network: cut web from db; 50ms lag of web" in lines
    found = json.loads(simulated(bench, SCRIPTED, "--for", "5m", "--format", "json").out)
    assert found["left_out"] == ["cut web from db", "50ms lag of web"]
    assert found["restarts"] == {"demo-db-1": 1}
    without = simulated(bench, SCRIPTED, "--for", "5m", "--no-chaos")
    assert "SIGKILL" not in without.out
    assert "left out" not in without.out


def test_what_is_due_while_there_is_no_supervisor_comes_to_nothing_and_the_next_one_goes_on(bench: Bench) -> None:
    stack = CURED + "x-pystack: {chaos: [{at: 20500ms, do: kill db}, {at: 30s, do: oom db}, {at: 19s, do: pause web}]}\n"
    lines = simulated(bench, stack, "--for", "1m", "--kill-supervisor", "20s").out.splitlines()
    assert any(line.endswith("(send SIGKILL to db: there was no supervisor)") for line in lines), lines
    assert any(line.startswith("00:00:30") and "ran out of memory" in line for line in lines), lines
    assert "00:00:21.000  pause-1 has ended: pause web" in lines, "who takes over leaves no fault"
