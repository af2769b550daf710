"""`pystack up`: what it asks for, what it shows, and what Ctrl-C does at every moment.

Signals go to a real process; the scripted control server and the process's own output are the gates: nothing sleeps.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from tests.unit.cli.conftest import Bench
from tests.unit.cli.logwriter import LogWriter, recorded
from tests.unit.cli.supervisor import Exchange, FakeSupervisor, after, fails, ok

STACK = """\
services:
  db: {image: host, command: [sleep, "9"]}
  web: {image: host, command: [sleep, "9"], depends_on: [db]}
"""


def status(service: str, phase: str = "running", **more: Any) -> dict[str, Any]:
    row = {"service": service, "container": f"demo-{service}-1", "image": "host", "phase": phase, "health": "none"}
    return {**row, **more}


def event(kind: str, service: str | None = None, text: str = "", **detail: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"kind": kind, "text": text, "at": time.time()}
    if service is not None:
        value |= {"service": service, "container": f"demo-{service}-1"}
    return {**value, "detail": detail} if detail else value


def up_result(*statuses: dict[str, Any], changed: int = 2) -> dict[str, Any]:
    return {"changed": changed, "statuses": list(statuses)}


BOTH = up_result(status("db"), status("web"))


class Told:
    """The script of `events`: tells what the test puts in, until the client leaves."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.open = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.open.set()
        exchange.wait_closed()

    def tell(self, value: dict[str, Any]) -> None:
        assert self.open.wait(20)
        assert self.exchange is not None
        self.exchange.event(value)


@contextmanager
def running(bench: Bench, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process is killed after a while, so that a test that waits for output that never comes fails."""
    process = bench.spawn(*words)
    watchdog = threading.Timer(40, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate()


def both_recorded(bench: Bench) -> None:
    recorded(bench.site, demo_db_1="db", demo_web_1="web")


def line_of(stream: IO[bytes] | None) -> str:
    assert stream is not None
    return stream.readline().decode("utf-8", "surrogateescape").rstrip("\n")


def lines_until(stream: IO[bytes] | None, text: str) -> list[str]:
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        line = line_of(stream)
        assert line, f"the output ended without {text!r}: {lines}"
        lines.append(line)
    return lines


def test_up_detached_sends_the_project_and_sums_up(bench: Bench) -> None:
    bench.compose(STACK)
    events = [
        event("operation.started"),
        event("container.creating", "db", "creating demo-db-1"),
        event("service.waiting", "web", on="db", condition="service_started"),
        event("service.ready", "db", "db is running"),
        event("warning", "web", "web starts without\x07 cache"),
    ]
    server = bench.serve(up=after(events, BOTH))
    outcome = bench.run("up", "-d")
    assert outcome.code == 0
    assert outcome.out == ""
    assert outcome.err.splitlines()[:-1] == [
        "Container demo-db-1 Creating",
        "web: waiting for db (service_started)",
        "db is running",
        "warning: web starts without\\x07 cache",
    ]
    assert outcome.err.splitlines()[-1].startswith("2 services up in ")
    args = server.last("up")
    project, registry = args.pop("project"), args.pop("registry")
    assert registry["HOME"] == os.environ["HOME"]
    assert (project["name"], list(project["services"])) == ("demo", ["db", "web"])
    assert project["services"]["web"]["depends_on"] == {"db": {"service": "db"}}
    assert args == {"named": True, "scale": {}}  # All else is as by default.


def test_the_options_of_up_reach_the_supervisor(bench: Bench) -> None:
    bench.compose(STACK)
    server = bench.serve(up=ok(up_result(status("db"), changed=0)))
    words = ["--wait", "--wait-timeout", "7", "--force-recreate", "--no-deps", "--remove-orphans", "-t", "2", "db"]
    outcome = bench.run("up", *words)
    args = server.last("up")
    del args["project"], args["registry"]
    assert args == {
        "selection": {"services": ["db"], "dependencies": False},
        "recreate": "always",
        "wait": True,
        "wait_timeout_s": 7.0,
        "remove_orphans": True,
        "timeout_s": 2.0,
        "named": True,
        "scale": {},
    }
    assert outcome.err.startswith("1 service up in ")
    assert outcome.err.endswith("s, nothing had to change\n")
    assert bench.run("up", "-d", "--force-recreate", "--no-recreate").code == 2
    assert bench.run("up", "-d", "--abort-on-container-exit").code == 2


def test_a_misspelt_service_is_told_before_anything_is_started(bench: Bench) -> None:
    bench.compose(STACK)
    server = bench.serve()
    outcome = bench.run("up", "-d", "wbe")
    assert outcome.code == 2
    assert "wbe" in outcome.err
    assert 'did you mean "web"?' in outcome.err
    assert server.asked == []


def test_every_error_of_a_compose_file_is_printed_with_its_place(bench: Bench) -> None:
    bench.compose("services:\n  db: {image: host, comand: x}\n  web: {image: host, depends_on: [bd]}\n")
    outcome = bench.run("up", "-d")
    assert outcome.code == 2
    heads = [line for line in outcome.err.splitlines() if line.startswith("error: compose.yaml:")]
    assert heads[0].startswith("error: compose.yaml:2:")
    assert "Traceback" not in outcome.err


def test_the_whole_stack_is_sent_whatever_is_selected(bench: Bench) -> None:
    bench.compose(STACK)
    server = bench.serve(up=ok({"statuses": []}))
    assert bench.run("up", "-d", "--no-deps", "web").code == 0
    ((_, args),) = [asked for asked in server.asked if asked[0] == "up"]
    assert set(args["project"]["services"]) == {"db", "web"}
    assert args["selection"] == {"services": ["web"], "dependencies": False}


def test_a_failed_start_is_explained_with_the_end_of_the_log(bench: Bench) -> None:
    bench.compose(STACK)
    log = LogWriter(bench.site, "demo-db-1")
    log.write(b"".join(b"line %d\n" % number for number in range(20)) + b"FATAL: disk\x1b[2J\n")
    failure = event("service.failed", "db", "db exited with code 3", exit_status=3, probe_output="no\n", blocked=["web"])

    def script(exchange: Exchange) -> None:
        exchange.event(failure)
        exchange.error("db exited with code 3", hint="`pystack logs db` shows its output")

    bench.serve(up=script)
    outcome = bench.run("up", "-d")
    assert outcome.code == 1
    lines = outcome.err.splitlines()
    assert lines[:5] == [
        "db exited with code 3",
        "db exited with code 3",
        "  its last probe said:",
        "    | no",
        "  the last lines of its log:",
    ]
    assert lines[5:15] == [f"    | line {number}" for number in range(11, 20)] + ["    | FATAL: disk\\x1b[2J"]
    assert lines[15:] == [
        "error: db exited with code 3",
        "hint: `pystack logs db` shows its output",
    ]


def test_up_follows_logs_and_ends_when_all_have_ended(bench: Bench) -> None:
    bench.compose(STACK)
    told = Told()
    phases = {"db": "running", "web": "running"}
    first = event("container.started", "db", "started demo-db-1", number=1)

    def up(exchange: Exchange) -> None:
        assert told.open.wait(20)
        exchange.event(first)
        told.tell(first)
        exchange.ok(BOTH)

    bench.serve(up=up, events=told, ps=lambda exchange: exchange.ok([status(s, p) for s, p in phases.items()]))
    both_recorded(bench)
    db, web = LogWriter(bench.site, "demo-db-1"), LogWriter(bench.site, "demo-web-1")
    db.write(b"from before\n", time_ns=1)
    with running(bench, "up") as process:
        assert lines_until(process.stderr, "2 services up")[0] == "Container demo-db-1 Started"
        db.write(b"ready\n")
        assert line_of(process.stdout) == "db-1   | ready"
        web.write(b"GET /\x1b[2J\n")
        assert line_of(process.stdout) == "web-1  | GET /\x1b[2J"
        web.write(b"bye\n")
        phases["db"] = phases["web"] = "exited"
        told.tell(event("container.exited", "web", "web exited with code 1", exit_status=1))
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert out.decode() == "web-1  | bye\n"
        assert err.decode() == "web-1 exited with code 1\n"


def test_lines_are_shown_from_the_first_one_on_while_others_still_wait(bench: Bench) -> None:
    bench.compose(STACK)
    told, shown = Told(), threading.Event()
    both_recorded(bench)
    db = LogWriter(bench.site, "demo-db-1")
    db.write(b"from before\n", time_ns=1)

    def up(exchange: Exchange) -> None:
        exchange.event(event("container.started", "db", "started demo-db-1", number=1))
        assert shown.wait(20)
        exchange.event(event("service.failed", "db", "db exited with code 3", exit_status=3))
        exchange.error("db exited with code 3")

    bench.serve(up=up, events=told)
    with running(bench, "up") as process:
        assert line_of(process.stderr) == "Container demo-db-1 Started"
        db.write(b"first\n")
        assert line_of(process.stdout) == "db-1   | first"
        db.write(b"oops\n", stream=2)
        assert line_of(process.stderr) == "db-1   | oops"
        db.write(b"last")
        shown.set()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == b"db-1   | last\n"
    assert err.decode().splitlines()[-1] == "error: db exited with code 3"


def test_what_several_connections_tell_is_shown_once(bench: Bench) -> None:
    bench.compose(STACK)
    told = Told()
    both_recorded(bench)
    events = [event("container.started", name, f"started demo-{name}-1", number=1) for name in ("db", "web")]

    def up(exchange: Exchange) -> None:
        told.tell(events[0])  # Now one is the first to tell, now the other.
        exchange.event(events[0])
        exchange.event(events[1])
        told.tell(events[1])
        exchange.ok(BOTH)

    def stop(exchange: Exchange) -> None:
        gone = event("container.stopped", "web", exit_status=0)
        exchange.event(gone)
        told.tell(gone)
        exchange.ok({"changed": 2})

    bench.serve(up=up, events=told, ps=ok([status("db"), status("web")]), stop=stop)
    with running(bench, "up") as process:
        lines = lines_until(process.stderr, "2 services up")[:-1]
        assert sorted(lines) == ["Container demo-db-1 Started", "Container demo-web-1 Started"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert err.decode().splitlines() == ["stopping (Ctrl-C again kills)", "web-1 exited with code 0"]


def test_ctrl_c_while_following_stops_and_ends_with_130(bench: Bench) -> None:
    bench.compose(STACK)
    told = Told()
    both_recorded(bench)
    log = LogWriter(bench.site, "demo-web-1")

    def stop(exchange: Exchange) -> None:
        told.tell(event("container.stopped", "web", "web exited with code 0 after 3s", exit_status=0))
        log.write(b"goodbye\n")
        exchange.ok(up_result(status("db", phase="exited"), status("web", phase="exited")))

    server = bench.serve(up=ok(BOTH), events=told, ps=ok([status("db"), status("web")]), stop=stop)
    with running(bench, "up", "-t", "4") as process:
        lines_until(process.stderr, "2 services up")
        log.write(b"hello\n")
        assert line_of(process.stdout) == "web-1  | hello"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert out.decode() == "web-1  | goodbye\n"
        first, *_, db, web = err.decode().splitlines()
        assert first == "stopping (Ctrl-C again kills)"
        assert (db, web) == ("Container demo-db-1 Stopped", "Container demo-web-1 Stopped"), "also who had ended before"
    assert server.last("stop") == {"selection": {"services": ["db", "web"]}, "timeout_s": 4.0}
    assert "kill" not in server.verbs()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills(bench: Bench, number: signal.Signals) -> None:
    bench.compose(STACK)
    told, stopping, killed = Told(), threading.Event(), threading.Event()

    def stop(exchange: Exchange) -> None:
        stopping.set()
        assert killed.wait(20)
        exchange.error('"stop" was interrupted', exit_code=130)

    def kill(exchange: Exchange) -> None:
        killed.set()
        exchange.ok({"changed": 2})

    server = bench.serve(up=ok(BOTH), events=told, ps=ok([status("db"), status("web")]), stop=stop, kill=kill)
    with running(bench, "up") as process:
        lines_until(process.stderr, "2 services up")
        process.send_signal(number)
        assert stopping.wait(20)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.decode().splitlines()[:2] == ["stopping (Ctrl-C again kills)", "killing"]
    assert server.last("kill") == {"selection": {"services": ["db", "web"]}}


def test_ctrl_c_during_the_start_stops_what_was_started(bench: Bench) -> None:
    bench.compose(STACK)
    interrupted = threading.Event()

    def up(exchange: Exchange) -> None:
        exchange.event(event("container.starting", "db", "starting demo-db-1"))
        assert interrupted.wait(20)
        exchange.error('"up" was interrupted', exit_code=130)

    def stop(exchange: Exchange) -> None:
        interrupted.set()
        exchange.event(event("container.stopped", "db", "db stopped"))
        exchange.ok({"changed": 1})

    server = bench.serve(up=up, events=Told(), stop=stop)
    with running(bench, "up", "web") as process:
        lines_until(process.stderr, "Container demo-db-1 Starting")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, b"")
        assert err.decode().splitlines() == ["stopping (Ctrl-C again kills)", "Container demo-db-1 Stopped"]
    assert server.last("stop") == {"selection": {"services": ["db", "web"]}}


def test_a_third_ctrl_c_leaves_at_once(bench: Bench) -> None:
    bench.compose(STACK)
    came = {verb: threading.Event() for verb in ("stop", "kill")}

    def stuck(exchange: Exchange) -> None:
        came[exchange.verb].set()
        exchange.wait_closed()

    bench.serve(up=ok(BOTH), events=Told(), ps=ok([status("db")]), stop=stuck, kill=stuck)
    with running(bench, "up") as process:
        lines_until(process.stderr, "2 services up")
        for verb in ("stop", "kill"):
            process.send_signal(signal.SIGINT)
            assert came[verb].wait(20)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_ctrl_c_of_a_detached_up_leaves_the_start_going_on(bench: Bench) -> None:
    bench.compose(STACK)

    def up(exchange: Exchange) -> None:
        exchange.event(event("container.starting", "db", "starting demo-db-1"))
        exchange.wait_closed()

    server = bench.serve(up=up)
    with running(bench, "up", "-d") as process:
        lines_until(process.stderr, "Container demo-db-1 Starting")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "the start goes on in the background" in err.decode()
    assert server.verbs() == ["up"]


def test_one_container_that_ends_stops_all_when_that_is_asked_for(bench: Bench) -> None:
    bench.compose(STACK)
    told = Told()

    def ended(exchange: Exchange) -> None:
        exchange.ok([status("db"), status("web", "exited")])

    server = bench.serve(up=ok(BOTH), events=told, ps=ended, stop=ok({"changed": 1}))
    with running(bench, "up", "--exit-code-from", "web") as process:
        lines_until(process.stderr, "2 services up")
        told.tell(event("container.exited", "web", "web exited with code 5", exit_status=5))
        process.communicate(timeout=30)
        assert process.returncode == 5
    assert server.last("stop") == {"selection": {"services": ["db", "web"]}}


def test_taking_the_project_down_elsewhere_ends_up(bench: Bench) -> None:
    bench.compose(STACK)
    told = Told()
    server = bench.serve(up=ok(BOTH), events=told, ps=ok([status("db"), status("web")]))
    with running(bench, "up") as process:
        lines_until(process.stderr, "2 services up")
        told.tell(event("container.removed", "db", "removed demo-db-1"))
        lines_until(process.stderr, "demo-db-1 removed")
        server.close()
        bench.servers.remove(server)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_a_killed_supervisor_is_replaced_and_following_goes_on(bench: Bench) -> None:
    bench.compose(STACK)
    told = Told()
    first = bench.serve(up=ok(BOTH), events=told, ps=ok([status("db"), status("web")]))
    log = LogWriter(bench.site, "demo-db-1")
    both_recorded(bench)
    with running(bench, "up") as process:
        lines_until(process.stderr, "2 services up")
        told.tell(event("health.changed", "db", "db is healthy", health="healthy"))
        lines_until(process.stderr, "db-1 healthy")
        again = Told()
        _swap(bench, first, events=again, ps=ok([status("db"), status("web", "exited")]))
        lines_until(process.stderr, "starting another")
        again.tell(event("warning", "db", "adopted"))
        assert line_of(process.stderr) == "adopted"
        log.write(b"still here\n")
        assert line_of(process.stdout) == "db-1   | still here"
        process.kill()


def _swap(bench: Bench, server: FakeSupervisor, **scripts: Any) -> FakeSupervisor:
    """Another control server takes the place of `server`: it is there before the old connections end."""
    os.rename(os.path.join(server.run_dir, "control.sock"), os.path.join(server.run_dir, "old.sock"))
    new = bench.serve(**scripts)
    server.close()
    bench.servers.remove(server)
    return new


def test_output_that_nobody_reads_any_more_ends_quietly(bench: Bench) -> None:
    log = LogWriter(bench.site, "demo-db-1")
    log.write(b"x" * 100 + b"\n")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [*bench.command("logs")], stdout=writer, stderr=subprocess.PIPE, cwd=bench.directory, timeout=30, check=False
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")


def test_a_busy_project_is_told_and_leaves_the_other_alone(bench: Bench) -> None:
    bench.compose(STACK)
    busy = 'project demo is busy: "up" (by process 7) has been running for 3s'
    server = bench.serve(up=fails(busy, hint="wait for it"), events=Told())
    outcome = bench.run("up")
    assert (outcome.code, outcome.err) == (1, f"error: {busy}\nhint: wait for it\n")
    assert server.seen("events").wait(20)
    assert set(server.verbs()) == {"events", "up"}
