"""Every verb's request, what it prints, and its exit code, against a scripted control server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from orchestrator import __version__
from orchestrator.cli.table import VERBS, every_verb
from orchestrator.contracts.state import ProjectRecord
from orchestrator.state.records import FileState
from orchestrator.testing.build import project, service
from tests.unit.cli.conftest import Bench
from tests.unit.cli.supervisor import Exchange, after, fails, ok

DB = {
    "service": "db",
    "container": "demo-db-1",
    "image": "host",
    "phase": "running",
    "health": "healthy",
    "pid": 41,
    "restarts": 2,
    "created_at": 1700000000.0,
    "started_at": 1700000001.0,
    "endpoints": [
        {
            "network": "default",
            "addresses": [{"ip": "172.30.0.2", "prefix": 24, "gateway": "172.30.0.1"}],
            "mac": "m",
            "interface": "eth0",
        }
    ],
    "published": [{"host_ip": "0.0.0.0", "host_port": 8080, "target": 80}],
}
JOB = {
    "service": "job",
    "container": "demo-job-1",
    "image": "host",
    "phase": "exited",
    "health": "none",
    "exit": {"code": 0},
    "reason": "completed",
}
BAD = {
    "service": "bad",
    "container": "demo-bad-1",
    "image": "host",
    "phase": "failed",
    "health": "none",
    "exit": {"signal": 9, "oom_killed": True},
    "reason": "ran out of memory\x1b[2J",
}


def test_version(bench: Bench) -> None:
    assert bench.run("version", "--short").out == f"{__version__}\n"
    assert json.loads(bench.run("version", "--format", "json").out)["version"] == __version__
    assert bench.run("version").out.startswith(f"pystack {__version__} (Python ")


def test_ps_shows_what_runs_or_failed(bench: Bench) -> None:
    bench.serve(ps=ok([DB, JOB, BAD]))
    outcome = bench.run("ps")
    lines = outcome.out.splitlines()
    assert (outcome.code, outcome.err) == (0, "")
    assert lines[0].split() == ["SERVICE", "STATE", "UP", "RESTARTS", "ADDRESS", "PORTS", "NOTE"]
    assert lines[1].startswith("db        running (healthy)")
    assert "172.30.0.2   0.0.0.0:8080->80/tcp" in lines[1]
    assert lines[2].startswith("bad       failed (137, out of memory)   ")
    assert lines[2].endswith("ran out of memory\\x1b[2J")
    assert len(lines) == 3


def test_ps_all_also_shows_what_ended_well(bench: Bench) -> None:
    bench.serve(ps=ok([DB, JOB]))
    assert bench.run("ps", "--services").out == "db\n"
    assert bench.run("ps", "-a", "--services").out == "db\njob\n"
    ids = bench.run("ps", "-aq").out.split()
    assert [len(identity) for identity in ids] == [12, 12]
    assert bench.run("ps", "-aq", "job").out.split() == ids[1:]


def test_ps_json_has_the_keys_of_docker_compose(bench: Bench) -> None:
    bench.serve(ps=ok([DB, BAD]))
    db, bad = [json.loads(line) for line in bench.run("ps", "--format", "json").out.splitlines()]
    assert (db["Name"], db["Service"], db["Project"], db["State"], db["Health"], db["ExitCode"]) == (
        "demo-db-1",
        "db",
        "demo",
        "running",
        "healthy",
        0,
    )
    assert db["Publishers"] == [{"URL": "0.0.0.0", "TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp"}]
    assert (db["Addresses"], db["Restarts"]) == ({"default": "172.30.0.2"}, 2)
    assert (bad["State"], bad["Phase"], bad["ExitCode"], bad["OOMKilled"]) == ("exited", "failed", 137, True)


def test_ps_shows_ports_that_are_exposed_and_not_published(bench: Bench) -> None:
    bench.serve(ps=ok([DB | {"exposed": ["9000/tcp", "53-54/udp"]}]))
    assert "0.0.0.0:8080->80/tcp, 9000/tcp, 53-54/udp" in bench.run("ps").out
    (shown,) = [json.loads(line) for line in bench.run("ps", "--format", "json").out.splitlines()]
    assert shown["Ports"] == "0.0.0.0:8080->80/tcp, 9000/tcp, 53-54/udp"
    assert shown["Publishers"][1:] == [
        {"URL": "", "TargetPort": 9000, "PublishedPort": 0, "Protocol": "tcp"},
        {"URL": "", "TargetPort": 53, "PublishedPort": 0, "Protocol": "udp"},
    ]


@pytest.mark.parametrize(
    ("phase", "ended", "state"),
    [
        ("waiting", None, "created"),
        ("created", None, "created"),
        ("blocked", None, "created"),
        ("starting", None, "created"),
        ("starting", {"code": 1}, "restarting"),
        ("running", {"code": 1}, "running"),
        ("stopping", None, "running"),
        ("restarting", {"code": 1}, "restarting"),
        ("exited", {"signal": 15}, "exited"),
        ("failed", {"code": 1}, "exited"),
        ("failed", None, "created"),
    ],
)
def test_the_states_of_json_are_docker_s_words(
    bench: Bench, phase: str, ended: dict[str, int] | None, state: str
) -> None:
    bench.serve(ps=ok([{**DB, "phase": phase, **({"exit": ended} if ended else {})}]))
    row = json.loads(bench.run("ps", "-a", "--format", "json").out)
    assert (row["State"], row["Phase"]) == (state, phase)
    assert len(bench.run("ps", "--status", state).out.splitlines()) == 2
    assert bench.run("ps", "--filter", "status=paused", "-q").out == ""


def test_containers_are_named_where_a_service_has_several_or_a_one_off(bench: Bench) -> None:
    second = {**DB, "container": "demo-db-2", "number": 2}
    once = {**DB, "container": "demo-db-run-1f", "role": "one-off", "created_at": 1.5}
    bench.serve(ps=ok([DB, second, once]))
    lines = bench.run("ps").out.splitlines()
    assert lines[0].split()[:3] == ["SERVICE", "NAME", "STATE"]
    assert [line.split()[1] for line in lines[1:]] == ["demo-db-1", "demo-db-2", "demo-db-run-1f"]
    assert bench.run("ps", "--services").out == "db\n"
    assert len(set(bench.run("ps", "-q").out.split())) == 3


def test_the_id_of_a_container_that_was_replaced_is_another(bench: Bench) -> None:
    bench.serve(ps=ok([DB]))
    before = bench.run("ps", "-q").out
    assert bench.run("ps", "-q").out == before
    bench.servers.pop().close()
    bench.serve(ps=ok([{**DB, "created_at": 1700000000.5}]))
    assert bench.run("ps", "-q").out != before


def test_ps_can_leave_orphans_out_and_knows_services_without_a_container(bench: Bench) -> None:
    bench.serve(ps=ok([DB, {**JOB, "service": "gone", "container": "demo-gone-1"}]))
    stack = {"project": {"services": {"db": {}, "idle": {}}}, "containers": [], "generation": 1}
    (bench.root / "data" / "projects" / "demo" / "wanted.json").write_text(json.dumps(stack))
    assert bench.run("ps", "-a", "--services").out == "db\ngone\n"
    assert bench.run("ps", "-a", "--services", "--orphans=false").out == "db\n"
    assert bench.run("ps", "-q", "idle").out == ""
    assert bench.run("ps", "-q", "idel").code == 2


@pytest.mark.parametrize("words", [("--filter", "name=x"), ("--filter", "status=up"), ("--status", "up")])
def test_a_filter_of_ps_that_is_none_is_one_error(bench: Bench, words: tuple[str, str]) -> None:
    bench.serve(ps=ok([DB]))
    outcome = bench.run("ps", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")


def test_ps_of_a_misspelt_service_says_what_was_meant(bench: Bench) -> None:
    bench.serve(ps=ok([DB, JOB]))
    outcome = bench.run("ps", "jbo")
    assert outcome.code == 2
    assert outcome.err == (
        'error: no such service: jbo (did you mean "job"?)\nhint: the services of project demo: db, job\n'
    )


def test_ps_without_a_supervisor_shows_what_was_recorded(bench: Bench) -> None:
    os.makedirs(bench.site.data_dir)
    record = {
        "version": 1,
        "generation": 1,
        "project": {"name": "demo", "working_dir": "/w", "services": {"db": {"name": "db", "image": "host"}}},
        "containers": [{"container": "demo-db-1", "service": "db", "config_hash": "h", "last_exit": {"code": 4}}],
    }
    with open(os.path.join(bench.site.data_dir, "wanted.json"), "w") as file:
        json.dump(record, file)
    outcome = bench.run("ps")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1].startswith("db        exited (4)")
    assert "nothing of this project runs" in outcome.err
    why = bench.run("why", "db")
    assert why.out.startswith("db is exited (4): exited with code 4")
    assert bench.run("why", "bd").code == 2


def test_ps_of_a_project_that_does_not_exist_is_empty(bench: Bench) -> None:
    outcome = bench.run("ps", "-q")
    assert (outcome.code, outcome.out) == (0, "")


def test_a_project_name_that_is_a_path_is_refused(bench: Bench) -> None:
    bench.project = "../../etc"
    outcome = bench.run("ps")
    assert outcome.code == 2
    assert '"../../etc" is not a project name' in outcome.err


@pytest.mark.parametrize(
    ("words", "verb", "args", "result", "said"),
    [
        (["start"], "start", {}, {"changed": 2}, "2 containers started in "),
        (
            ["stop", "-t", "3", "db", "web"],
            "stop",
            {"selection": {"services": ["db", "web"]}, "timeout_s": 3.0},
            {"changed": 1},
            "1 container stopped in ",
        ),
        (
            ["restart", "--no-deps", "db"],
            "restart",
            {"selection": {"services": ["db"], "dependencies": False}},
            {"changed": 1},
            "1 container restarted in ",
        ),
        (["stop"], "stop", {}, {}, "nothing to stop"),
        (["kill"], "kill", {}, {"changed": 3}, "3 containers signalled in "),
        (
            ["kill", "-s", "hup", "db"],
            "kill",
            {"selection": {"services": ["db"]}, "signal": "SIGHUP"},
            {"changed": 1},
            "1 container",
        ),
        (["kill", "-s", "15"], "kill", {"signal": "SIGTERM"}, {"changed": 1}, "1 container"),
    ],
)
def test_operations_send_their_request_and_sum_up(
    bench: Bench, words: list[str], verb: str, args: dict[str, Any], result: dict[str, Any], said: str
) -> None:
    event = {"kind": "container.stopped", "text": "stopped\x07", "at": 1.0, "service": "db"}
    server = bench.serve(**{verb: after([event], result)})
    outcome = bench.run(*words)
    assert outcome.code == 0
    assert server.asked == [(verb, args)]
    first, last = outcome.err.splitlines()
    assert first == "db: stopped\\x07"
    assert last.startswith(said)
    assert outcome.out == ""


def test_kill_refuses_what_is_no_signal(bench: Bench) -> None:
    outcome = bench.run("kill", "-s", "SIGFOO")
    assert outcome.code == 2
    assert "SIGFOO" in outcome.err


def test_quiet_shows_nothing_and_json_shows_objects(bench: Bench) -> None:
    event = {"kind": "container.stopped", "text": "stopped", "at": 1.0, "service": "db"}
    bench.serve(stop=after([event], {"changed": 1}))
    assert bench.run("--progress", "quiet", "stop").err == ""
    lines = [json.loads(line) for line in bench.run("--progress", "json", "stop").err.splitlines()]
    assert lines[0] == event
    assert lines[1]["result"] == {"changed": 1}


def test_an_error_is_printed_with_its_hint_and_ends_with_its_code(bench: Bench) -> None:
    bench.serve(start=fails("port 80 is in use\x1b[2J", hint="stop what uses it", exit_code=1))
    outcome = bench.run("start")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "error: port 80 is in use\\x1b[2J\nhint: stop what uses it\n"


def test_an_error_is_json_where_progress_is(bench: Bench) -> None:
    bench.serve(start=fails("port 80 is in use", exit_code=1))
    outcome = bench.run("--progress", "json", "start")
    assert json.loads(outcome.err) == {
        "error": {"kind": "operation", "message": "port 80 is in use", "hint": None, "place": "", "exit_code": 1}
    }


def test_an_output_that_cannot_be_written_is_an_error_and_no_bug(bench: Bench) -> None:
    bench.serve(ps=ok([DB]))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            bench.command("ps"), cwd=bench.directory, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (125, "error: cannot write the output: No space left on device\n")


def test_what_does_not_fit_is_no_less_an_error_with_unbuffered_streams(bench: Bench) -> None:
    """PYTHONUNBUFFERED is set in many images: one write(2) may take a part of what it is given."""
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@" > out', "sh", *bench.command("up", "--help")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(limited, cwd=bench.directory, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (125, "error: cannot write the output: File too large\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_data_is_utf_8_whatever_the_locale(bench: Bench, encoding: str) -> None:
    bench.compose("services: {db: {image: host}}\nx-name: \u2026\n")
    done = subprocess.run(
        bench.command("config"),
        cwd=bench.directory,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "x-name: \"\u2026\"\n".encode() in done.stdout


@pytest.mark.parametrize(("verb", "code"), [("start", 0), ("stop", 1), ("nonsense", 2)])
def test_a_message_that_stderr_does_not_take_changes_nothing(bench: Bench, verb: str, code: int) -> None:
    bench.serve(start=ok({}), stop=fails("it does not end", exit_code=1))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(bench.command(verb), cwd=bench.directory, stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (code, b"")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("image", "prune"), 2, "nobody can be asked"),
        (("volume", "prune"), 2, "nobody can be asked"),
        (("image", "load"), 1, "holds no image"),
        (("-f", "-", "config"), 2, "the file is empty"),
        (("login", "-u", "me"), 2, "there is no terminal"),
    ],
)
def test_a_closed_stdin_is_an_empty_one(bench: Bench, words: tuple[str, ...], code: int, message: str) -> None:
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *bench.command(*words)]
    done = subprocess.run(closed, cwd=bench.directory, capture_output=True, text=True, check=False)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_a_service_of_the_stack_that_has_no_container_is_no_unknown_one(bench: Bench) -> None:
    bench.serve(exec=fails('service "debug" is not running: it has no container', exit_code=1), ps=ok([DB]))
    FileState(bench.site).commit(ProjectRecord(project(service("db"), service("debug"))))
    outcome = bench.run("exec", "debug", "true")
    assert (outcome.code, outcome.err) == (1, 'error: service "debug" is not running: it has no container\n')
    assert bench.run("exec", "nope", "true").code == 2


@pytest.mark.parametrize("given", ["abc", "-1", "nan"])
def test_a_time_that_is_none_is_told_in_plain_words(bench: Bench, given: str) -> None:
    outcome = bench.run("stop", f"--timeout={given}")
    first = f'error: invalid value for \'-t\' / \'--timeout\': "{given}" is not a number of seconds\n'
    assert (outcome.code, outcome.err.partition("hint")[0]) == (2, first)


def test_a_busy_project_is_told_at_once(bench: Bench) -> None:
    bench.serve(stop=fails('project demo is busy: "up" (by process 7) has been running for 3s', hint="wait"))
    outcome = bench.run("stop")
    assert outcome.code == 1
    assert outcome.err.startswith('error: project demo is busy: "up" (by process 7)')


def test_an_unknown_service_of_an_operation_is_explained(bench: Bench) -> None:
    bench.serve(stop=fails("no such service: wbe", exit_code=2), ps=ok([{**DB, "service": "web"}]))
    outcome = bench.run("stop", "wbe")
    assert outcome.code == 2
    assert 'did you mean "web"?' in outcome.err


@pytest.mark.parametrize("verb", ["stop", "kill", "pause", "unpause"])
def test_where_no_container_is_there_is_nothing_to_end_but_a_name_that_is_none_is_told(bench: Bench, verb: str) -> None:
    """As with Docker Compose: a script that stops what may be gone already does not fail."""
    bench.compose("services: {db: {image: host, command: [x]}}")
    outcome = bench.run(verb)
    assert (outcome.code, outcome.err) == (0, f"nothing to {verb}\n")
    assert bench.run(verb, "db").code == 0
    outcome = bench.run(verb, "dbb")
    assert (outcome.code, outcome.err.partition("\n")[0]) == (
        2, 'error: no such service: dbb (did you mean "db"?)'
    )  # fmt: skip


def test_operations_on_a_project_that_does_not_exist_say_so(bench: Bench) -> None:
    outcome = bench.run("restart")
    assert outcome.code == 1
    assert outcome.err.startswith("error: project demo does not exist")
    outcome = bench.run("down")
    assert (outcome.code, outcome.err) == (0, "project demo does not exist: nothing to remove\n")
    for words in (["exec", "db", "true"], ["events"]):
        outcome = bench.run(*words)
        assert outcome.code == 1
        assert "project demo is not running" in outcome.err


def test_why_shows_the_state_the_reason_and_the_history(bench: Bench) -> None:
    history = [
        {"kind": "container.started", "text": "started", "at": 1700000000.25, "service": "db"},
        {"kind": "health.changed", "text": "healthy\x07", "at": 1700000002.5, "service": "db"},
    ]
    status = {**DB, "reason": "healthy after 2 probes", "last_probe": "accepting connections\n"}
    server = bench.serve(why=ok({"statuses": [status], "history": history}))
    outcome = bench.run("why", "db")
    lines = outcome.out.splitlines()
    assert server.asked == [("why", {"service": "db"})]
    assert lines[0] == "db is running (healthy): healthy after 2 probes"
    assert lines[1].endswith("as process 41")
    assert lines[2:-2] == [
        "  restarted 2 times",
        "  on network default: 172.30.0.2",
        "  published: 0.0.0.0:8080->80/tcp",
        "  its last probe said:",
        "    | accepting connections",
        "what happened:",
    ]
    assert lines[-2].split()[1:] == ["container.started", "started"]
    assert lines[-1].endswith("health.changed      healthy\\x07")
    told = json.loads(bench.run("why", "db", "--format", "json").out)
    assert told == {"statuses": [status], "history": history, "causes": []}
    assert "the last 1 of 2" in bench.run("why", "-n", "1", "db").out


@pytest.mark.parametrize(("status", "whose"), [(JOB, "it"), (DB, "its last run")])
def test_why_tells_what_the_last_run_used(bench: Bench, status: dict[str, Any], whose: str) -> None:
    ended = {"code": 3, "oom_kills": 1, "peak_bytes": 64 << 20, "memory_stalled_s": 1.5, "io_stalled_s": 0.01}
    bench.serve(why=ok({"statuses": [{**status, "exit": ended}], "history": []}))
    shown = bench.run("why", status["service"]).out.splitlines()
    assert f"  {whose} used at most 64MiB of memory, waited 1.5s for memory" in shown


def test_events_are_shown_until_the_supervisor_ends(bench: Bench) -> None:
    event = {"kind": "container.exited", "text": "exited with code 1", "at": 1700000000.25, "service": "db"}

    def script(exchange: Exchange) -> None:
        exchange.event(event)
        exchange.event({"kind": "from.the.future", "text": "?", "at": 1.0})
        exchange.connection.shutdown(2)

    server = bench.serve(events=script)
    outcome = bench.run("events", "--since", "2023-11-14T22:13:20Z")
    assert outcome.code == 0
    assert outcome.out.endswith("container.exited    db: exited with code 1\n")
    assert outcome.out.count("\n") == 1
    assert server.last("events") == {"since": 1700000000.0}
    assert json.loads(bench.run("events", "--format", "json").out.splitlines()[0]) == event
    assert server.last("events") == {}
    assert bench.run("events", "--since", "yesterday").code == 2


def test_exec_passes_the_command_as_it_is_and_ends_with_its_code(bench: Bench) -> None:
    server = bench.serve(exec=ok({"status": 137}))
    outcome = bench.run("exec", "-T", "-e", "A=1", "-e", "HOME", "-u", "www", "-w", "/srv", "db", "ls", "-l", "--x", "-e")
    assert outcome.code == 137
    assert server.last("exec") == {
        "service": "db",
        "argv": ["ls", "-l", "--x", "-e"],
        "environment": {"A": "1", "HOME": os.environ["HOME"]},
        "working_dir": "/srv",
        "user": "www",
    }


@pytest.mark.parametrize("code", [126, 127])
def test_a_command_that_cannot_be_run_ends_as_shells_do(bench: Bench, code: int) -> None:
    bench.serve(exec=fails('"nope" cannot be run in db', exit_code=code), ps=ok([DB]))
    outcome = bench.run("exec", "-T", "db", "nope")
    assert (outcome.code, outcome.err) == (code, 'error: "nope" cannot be run in db\n')


def test_plan_prints_the_text_or_the_operations(bench: Bench) -> None:
    operations = [{"kind": "stop", "service": "db", "container": "demo-db-1", "cause": "asked"}]
    server = bench.serve(plan=ok({"text": "stop db: asked\x07\n", "steps": operations}))
    assert bench.run("plan", "stop", "db").out == "stop db: asked\\x07\n"
    assert server.last("plan") == {"stop": {"selection": {"services": ["db"]}}}
    assert json.loads(bench.run("plan", "down", "-v", "--format", "json").out) == operations
    assert server.last("plan") == {"down": {"volumes": True}}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("image: Redis", 'compose.yaml:3:12: services.db.image: image "Redis" has capital letters'),
        ("image: host\n    configs: [a]\nconfigs: {a: {file: ./nosuch}}", 'the file of the config "a" does not exist'),
    ],
)
def test_a_plan_of_what_up_would_refuse_is_refused(bench: Bench, more: str, says: str) -> None:
    server = bench.serve(plan=ok({"text": "", "steps": []}))
    bench.compose(f"services:\n  db:\n    {more}\n")
    outcome = bench.run("plan")
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert "plan" not in server.verbs()


def test_a_misspelt_verb_or_option_is_a_usage_error(bench: Bench) -> None:
    outcome = bench.run("donw")
    assert outcome.code == 2
    assert outcome.err == 'error: "donw" is not a verb (did you mean "down"?)\nhint: `pystack --help` lists what it takes\n'
    outcome = bench.run("ps", "--formt", "json")
    assert outcome.code == 2
    assert outcome.err.startswith("error: no such option")
    assert bench.run("exec", "db").code == 2
    assert bench.run("stop", "-t", "-1").code == 2


def test_an_unexpected_exception_is_called_a_bug(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.serve(stop=ok(["not", "an", "object"]))
    outcome = bench.run("stop")
    assert outcome.code == 125
    assert "Traceback" in outcome.err
    assert "error: this is a bug in pystack: AttributeError" in outcome.err
    assert "PYSTACK_DEBUG=1 shows more" in outcome.err
    monkeypatch.setenv("PYSTACK_DEBUG", "1")
    assert "result = " in bench.run("stop").err


def test_a_dying_supervisor_is_an_error_that_says_what_to_do(bench: Bench) -> None:
    bench.serve(stop=lambda exchange: exchange.connection.shutdown(2))
    outcome = bench.run("stop")
    assert outcome.code == 125
    assert "ended before its answer" in outcome.err
    assert "hint: run the command again" in outcome.err


def test_every_verb_has_a_help_text_that_its_row_begins(bench: Bench) -> None:
    listing = bench.run("--help").out
    for name in VERBS:
        assert f"  {name} " in listing
    for name, _ in every_verb():
        outcome = bench.run(*name.split(), "--help")
        assert outcome.code == 0
        assert outcome.out.startswith(f"Usage: pystack {name}")


@pytest.mark.parametrize(
    "name", [name for name, verb in every_verb() if any(item.required for item in verb.arguments)]
)
def test_a_missing_argument_is_named(bench: Bench, name: str) -> None:
    outcome = bench.run(*name.split())
    assert outcome.code == 2
    assert outcome.err.startswith("error: missing argument '")


def test_a_working_directory_that_was_deleted_is_told_by_what_needs_to_know_it(bench: Bench) -> None:
    gone = bench.directory / "branch"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        told = [bench.run(verb) for verb in ("up", "config", "build", "enable")]
        listed = bench.run("ps")
    finally:
        os.chdir(bench.directory)
    assert {(outcome.code, outcome.out) for outcome in told} == {(2, "")}
    assert {outcome.err.split("\n")[0] for outcome in told} == {"error: the working directory does not exist any more"}
    assert listed.code == 0
