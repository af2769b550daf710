"""What `ps`, `events`, `images` and `version` print for scripts that were written for Docker Compose."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.cli.render.statuses import docker_status
from tests.unit.cli.conftest import Bench
from tests.unit.cli.supervisor import Exchange, Script, ok
from tests.unit.cli.test_verbs import BAD, DB

NOW = 1700100000.0
DOCKERS = {
    "Command", "CreatedAt", "ExitCode", "Health", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Name", "Names",
    "Networks", "Ports", "Project", "Publishers", "RunningFor", "Service", "Size", "State", "Status",
}  # fmt: skip
"""The keys of ``docker compose ps --format json``, v5.6.1."""
FULL = DB | {"command": ["redis-server", "--save"], "mounts": ["data", "/srv/x"], "labels": {"tier": "back", "x": ""}}


def test_ps_json_has_every_key_of_docker_compose(bench: Bench) -> None:
    bench.serve(ps=ok([FULL]))
    (row,) = map(json.loads, bench.run("ps", "--format", "json").out.splitlines())
    assert set(row) >= DOCKERS
    assert (row["Command"], row["Mounts"], row["LocalVolumes"]) == ('"redis-server --save"', "data,/srv/x", "1")
    assert (row["Networks"], row["Names"], row["Labels"]) == ("demo_default", "demo-db-1", "tier=back,x=")
    assert row["CreatedAt"] == "2023-11-14 22:13:20 +0000 UTC"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"started_at": NOW - 0.4}, "Up Less than a second (healthy)"),
        ({"started_at": NOW - 1, "health": "none"}, "Up 1 second"),
        ({"started_at": NOW - 59, "health": "starting"}, "Up 59 seconds (health: starting)"),
        ({"started_at": NOW - 60, "health": "unhealthy"}, "Up About a minute (unhealthy)"),
        ({"started_at": NOW - 3599, "health": "none"}, "Up 59 minutes"),
        ({"started_at": NOW - 3600, "health": "none", "phase": "paused"}, "Up About an hour (Paused)"),
        ({"started_at": NOW - 47 * 3600, "health": "none"}, "Up 47 hours"),
        ({"started_at": NOW - 13 * 86400, "health": "none"}, "Up 13 days"),
        ({"started_at": NOW - 21 * 86400, "health": "none"}, "Up 3 weeks"),
        ({"phase": "exited", "exit": {"code": 3, "finished_at": NOW - 5}}, "Exited (3) 5 seconds ago"),
        ({"phase": "failed", "exit": {"signal": 9, "finished_at": NOW - 120}}, "Exited (137) 2 minutes ago"),
        ({"phase": "restarting", "exit": {"code": 1, "finished_at": NOW - 2}}, "Restarting (1) 2 seconds ago"),
        ({"phase": "starting", "exit": {"code": 1, "finished_at": NOW - 2}}, "Restarting (1) 2 seconds ago"),
        ({"phase": "starting", "health": "none"}, "Created"),
        ({"phase": "created", "health": "none"}, "Created"),
        ({"phase": "waiting", "health": "none"}, "Created"),
    ],
)
def test_the_status_is_in_dockers_words(changes: dict[str, Any], words: str) -> None:
    assert docker_status(DB | changes, NOW) == words


@pytest.mark.parametrize(
    ("shape", "printed"),
    [
        ("{{.Name}} {{.State}}", "demo-db-1 running\ndemo-bad-1 exited\n"),
        ('{{.Service}}:{{.Label "tier"}}', "db:back\nbad:\n"),
        ("table {{.Service}}\t{{.Health}}", "SERVICE   HEALTH\ndb        healthy\nbad\n"),
        ("table {{.ID}}", None),
    ],
)
def test_ps_takes_templates(bench: Bench, shape: str, printed: str | None) -> None:
    bench.serve(ps=ok([FULL, BAD]))
    outcome = bench.run("ps", "--format", shape)
    assert outcome.code == 0
    assert outcome.out == printed if printed is not None else outcome.out.startswith("CONTAINER ID\n")


def test_a_shape_that_is_none_is_one_error(bench: Bench) -> None:
    bench.serve(ps=ok([FULL]))
    outcome = bench.run("ps", "--format", "xml")
    assert (outcome.code, '"xml" is no format' in outcome.err) == (2, True)


def test_ps_follows_the_psformat_of_dockers_configuration(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.serve(ps=ok([FULL]))
    monkeypatch.setenv("DOCKER_CONFIG", str(bench.directory))
    file = bench.directory / "config.json"
    file.write_text(json.dumps({"psFormat": "table {{.Names}}\\t{{.Status}}"}))
    assert bench.run("ps").out.splitlines()[0].split() == ["NAMES", "STATUS"]
    assert bench.run("ps", "--format", "{{.Service}}").out == "db\n"
    assert bench.run("ps", "--services").out == "db\n"
    for text in ("{", "[]", '{"psFormat": 3}'):
        file.write_text(text)
        assert bench.run("ps").out.startswith("SERVICE")


EVENTS = [
    {"kind": "operation.started", "text": "up", "at": 1700000000.0, "detail": {"verb": "up"}},
    {"kind": "container.created", "text": "c", "at": 1700000001.0, "service": "db", "container": "demo-db-1"},
    {"kind": "container.started", "text": "s", "at": 1700000002.5, "service": "db", "container": "demo-db-1"},
    {"kind": "health.changed", "text": "h", "at": 1700000003.0, "service": "db", "container": "demo-db-1",
     "detail": {"health": "healthy"}},
    {"kind": "container.exited", "text": "e", "at": 1700000004.0, "service": "bad", "container": "demo-bad-1",
     "detail": {"exit_status": 3}},
    {"kind": "service.ready", "text": "r", "at": 1700000005.0, "service": "db", "container": "demo-db-1"},
]  # fmt: skip


def happened(events: list[dict[str, Any]] = EVENTS) -> Script:
    def script(exchange: Exchange) -> None:
        for event in events:
            exchange.event(event)
        exchange.ok(None)

    return script


def test_events_as_docker_compose_prints_them(bench: Bench) -> None:
    bench.serve(events=happened(), ps=ok([FULL, BAD]), hello=ok({}))
    rows = [json.loads(line) for line in bench.run("events", "--json").out.splitlines()]
    assert [(row["action"], row["service"]) for row in rows] == [
        ("create", "db"), ("start", "db"), ("health_status: healthy", "db"), ("die", "bad"),
    ]  # fmt: skip
    assert set(rows[0]) == {"action", "attributes", "id", "service", "time", "type"}
    assert rows[1]["time"] == "2023-11-14T22:13:22.500000Z"
    assert rows[1]["attributes"] == {"image": "host", "name": "demo-db-1"}
    assert rows[3]["attributes"] == {"image": "host", "name": "demo-bad-1", "exitCode": "3"}
    whole = [json.loads(line) for line in bench.run("events", "--format", "json").out.splitlines()]
    assert whole == EVENTS, "our own events are told whole"


def test_events_of_some_services_until_a_time(bench: Bench) -> None:
    server = bench.serve(events=happened(), hello=ok({}))
    outcome = bench.run("events", "--format", "json", "--since", "1700000000", "--until", "1700000003", "--json=false")
    assert [json.loads(line)["at"] - 1700000000 for line in outcome.out.splitlines()] == [0, 1, 2.5, 3]
    assert server.last("events") == {"since": 1700000000.0, "follow": False}
    refused = bench.run("events", "nosuch")
    assert (refused.code, "no such service: nosuch" in refused.err) == (2, True)


def test_events_end_at_a_time_to_come(bench: Bench) -> None:
    def script(exchange: Exchange) -> None:
        exchange.event(EVENTS[1])
        exchange.wait_closed()

    server = bench.serve(events=script)
    began = time.time()
    outcome = bench.run("events", "--until", f"{began + 0.3:.3f}")
    assert (outcome.code, outcome.out.count("\n")) == (0, 1)
    assert time.time() >= began + 0.3
    assert server.last("events") == {}


def test_the_images_are_one_array(bench: Bench) -> None:
    assert bench.run("images", "--format", "json").out == "[]\n"
    header = bench.run("images").out.split()
    assert header == ["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE", "ID", "SIZE", "CREATED"]


@pytest.mark.parametrize("words", [["--version"], ["-v"], ["-p", "x", "-v"], ["version"], ["version", "-f", "pretty"]])
def test_the_version_in_all_its_spellings(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("pystack ")


def test_publish_is_refused_with_its_reason(bench: Bench) -> None:
    outcome = bench.run("publish", "--app", "--with-env", "-y", "--oci-version", "1.1", "me/stack:1")
    assert (outcome.code, "a stack is not published" in outcome.err) == (2, True)
    assert "--lock-image-digests" in outcome.err


def test_a_file_may_be_a_pipe_and_the_variables_file_nothing(bench: Bench) -> None:
    (bench.directory / ".env").write_text("TAG=3\n")
    (bench.directory / "stack").write_text('services: {a: {image: "x:${TAG:-1}", volumes: ["./here:/there"]}}\n')
    command = shlex.join([sys.executable, "-m", "orchestrator.cli"])

    def printed(words: str) -> str:
        script = f"{command} {words}"
        made = subprocess.run(["bash", "-c", script], cwd=bench.directory, capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        return made.stdout

    assert printed("--env-file /dev/null -f <(cat stack) config --images") == "x:1\n"
    assert printed("--env-file <(echo TAG=7) -f <(cat stack) config --images") == "x:7\n"
    whole = json.loads(printed("-f <(cat stack) config --format json"))
    assert whole["name"] == "work"
    assert whole["services"]["a"]["image"] == "x:3"
    assert whole["services"]["a"]["volumes"][0]["source"] == str(bench.directory / "here")


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("pull",), "pull redis:7\n"),
        (("push",), "push me/web:1\n"),
        (("build",), "build me/web:1 from {0}/web\n"),
        (("build", "web"), "build me/web:1 from {0}/web\n"),
    ],
)
def test_a_dry_run_of_images_asks_no_registry_and_builds_nothing(
    bench: Bench, words: tuple[str, ...], printed: str
) -> None:
    bench.compose("services:\n  db: {image: 'redis:7'}\n  web: {build: ./web, image: 'me/web:1'}\n")
    (bench.directory / "web").mkdir()
    (bench.directory / "web" / "Dockerfile").write_text("FROM scratch\n")
    told = bench.run("--dry-run", *words)
    lines = printed.format(bench.directory).splitlines()
    assert told.code == 0
    assert set(lines) <= set(told.out.splitlines())
    assert not (bench.root / "data" / "images").exists()
