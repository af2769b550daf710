"""`pystack logs`: from the files alone, in the order of time, harmless on a terminal and untouched elsewhere."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

from orchestrator.cli.logfiles import Writer, writers
from orchestrator.model.names import ContainerId, ServiceName
from tests.unit.cli.conftest import Bench
from tests.unit.cli.logwriter import LogWriter, recorded
from tests.unit.cli.supervisor import Exchange, ok
from tests.unit.cli.test_up import Told, event, line_of, lines_until, running, status

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def two_logs(bench: Bench) -> tuple[LogWriter, LogWriter]:
    recorded(bench.site, demo_db_1="db", demo_my_web_1="my-web")
    db, web = LogWriter(bench.site, "demo-db-1"), LogWriter(bench.site, "demo-my-web-1")
    db.write(b"one\n", START)
    web.write(b"two\n", START + SECOND)
    db.write(b"three\n", START + 2 * SECOND, stream=2)
    web.write(b"four\x1b[2J\xff\nfive", START + 3 * SECOND)
    return db, web


def shown(bench: Bench, *words: str) -> list[str]:
    """What stdout has."""
    outcome = bench.run("logs", *words)
    assert outcome.code == 0
    return outcome.out.splitlines()


def test_containers_are_told_by_the_records_and_never_by_names(bench: Bench) -> None:
    two_logs(bench)
    LogWriter(bench.site, "demo-db-2")
    recorded(bench.site, demo_db_1="db", demo_my_web_1="my-web", demo_db_9="other", fixed="web")
    found = writers(bench.site)
    assert found.containers == {
        "demo-db-1": Writer(ServiceName("db"), "db-1"),
        "demo-db-2": Writer(ServiceName("demo-db-2"), "demo-db-2", ""),
        "demo-my-web-1": Writer(ServiceName("my-web"), "my-web-1"),
        "demo-db-9": Writer(ServiceName("other"), "demo-db-9"),
        "fixed": Writer(ServiceName("web"), "fixed"),
    }
    assert list(found.of(["db", "web"])) == ["demo-db-1", "fixed"]
    assert list(found.of([], 1)) == ["demo-db-1", "demo-my-web-1", "demo-db-9", "fixed"]
    assert ContainerId("demo-db-2") not in found.of([], 1)


def test_logs_are_shown_without_any_records(bench: Bench) -> None:
    LogWriter(bench.site, "demo-db-1").write(b"one\n", START)
    assert shown(bench) == ["demo-db-1  | one"]


def test_lines_of_all_containers_are_in_the_order_of_time_byte_for_byte_each_stream_on_its_own(bench: Bench) -> None:
    two_logs(bench)
    process = bench.spawn("logs")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"db-1      | three\n")
    assert out == b"db-1      | one\nmy-web-1  | two\nmy-web-1  | four\x1b[2J\xff\nmy-web-1  | five\n"


def test_options_choose_and_dress_the_lines(bench: Bench) -> None:
    two_logs(bench)
    assert shown(bench, "db") == ["db-1  | one"]
    assert bench.run("logs", "--no-log-prefix", "-n", "1", "db").err == "three\n"
    assert shown(bench, "-n", "0") == []
    assert shown(bench, "-n", "all", "db") == ["db-1  | one"]
    assert shown(bench, "-t", "db")[0] == "db-1  | 2023-11-14T22:13:20.000000Z one"
    assert bench.run("logs", "--since", "2023-11-14T22:13:22Z", "db").err == "db-1  | three\n"
    assert shown(bench, "--until", "2023-11-14T22:13:21Z", "--no-log-prefix") == ["one"]
    assert shown(bench, "--since", "", "--until", "", "db") == ["db-1  | one"]
    assert bench.run("logs", "-n", "x").code == 2
    assert bench.run("--ansi", "always", "logs", "db").out.startswith("\x1b[36mdb-1  | \x1b[0mone\n")
    assert bench.run("--ansi", "always", "logs", "--no-color", "db").out.startswith("db-1  | one\n")


def test_an_index_chooses_one_container_and_one_that_is_not_there_is_told(bench: Bench) -> None:
    two_logs(bench)
    assert shown(bench, "--index", "1", "db") == ["db-1  | one"]
    outcome = bench.run("logs", "--index", "2", "db")
    assert outcome.code == 2
    assert outcome.err == "error: there is no container 2 of db\nhint: there are: db-1\n"


def test_what_has_written_nothing_is_shown_as_nothing(bench: Bench) -> None:
    bench.compose("services: {db: {image: host}, in-the-files: {image: host}}\n")
    assert bench.run("logs").err == ""
    assert shown(bench, "in-the-files") == []
    recorded(bench.site, demo_db_1="db")
    assert shown(bench) == []
    assert shown(bench, "db") == []
    assert shown(bench, "-f", "db") == []
    two_logs(bench)
    assert shown(bench, "in-the-files") == []


def test_a_misspelt_service_is_told(bench: Bench) -> None:
    for prepare in (lambda: None, lambda: two_logs(bench)):
        prepare()
        outcome = bench.run("logs", "my-wbe")
        assert outcome.code == 2
        assert "no such service: my-wbe" in outcome.err
    assert 'did you mean "my-web"?' in outcome.err


def test_following_without_anything_running_ends_at_the_end(bench: Bench) -> None:
    two_logs(bench)
    assert shown(bench, "-f", "db") == ["db-1  | one"]


def test_following_goes_on_until_all_have_ended_and_takes_new_containers_in(bench: Bench) -> None:
    db, _ = two_logs(bench)
    told = Told()
    phases = {"db": "running", "late": "running"}
    bench.serve(events=told, ps=lambda exchange: exchange.ok([status(s, p) for s, p in phases.items()]))
    with running(bench, "logs", "-f", "-n", "1", "--no-log-prefix") as process:
        lines_until(process.stdout, "four")
        db.write(b"six\n")
        assert lines_until(process.stdout, "six")[-1] == "six"
        late = LogWriter(bench.site, "demo-late-1")
        late.write(b"hello from late\n")
        told.tell(event("container.started", "late"))
        assert line_of(process.stdout) == "hello from late"
        late.write(b"without a newline")
        phases.update(db="exited", late="exited")
        told.tell(event("container.exited", "late", "late exited with code 0", exit_status=0))
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert out.splitlines()[-1] == b"without a newline"
        assert err == b"three\n"


def test_following_ends_when_it_is_time(bench: Bench) -> None:
    two_logs(bench)
    bench.serve(events=Told(), ps=ok([status("db")]))
    assert shown(bench, "-f", "--until", "2023-11-14T22:13:21Z", "db") == ["db-1  | one"]
    soon = datetime.fromtimestamp(time.time() + 0.3, UTC).isoformat()
    assert shown(bench, "-f", "--until", soon, "db") == ["db-1  | one"]


def test_a_container_made_before_the_subscription_was_served_is_followed(bench: Bench) -> None:
    """It writes after the look at what there is, and its events are of before the stream begins: they are in the log."""
    recorded(bench.site, demo_db_1="db")
    phases = {"late": "running"}

    def served_late(exchange: Exchange) -> None:
        LogWriter(bench.site, "demo-late-1").write(b"hello from late\n")
        started = event("container.started", "late") | {"at": time.time()}
        if exchange.args["since"] is not None and exchange.args["since"] <= started["at"]:
            exchange.event(started)
        phases["late"] = "exited"
        exchange.event(event("container.exited", "late", exit_status=0))
        exchange.wait_closed()

    bench.serve(events=served_late, ps=lambda exchange: exchange.ok([status(s, p) for s, p in phases.items()]))
    assert shown(bench, "-f", "--no-log-prefix") == ["hello from late"]


def test_ctrl_c_ends_following_with_130_and_stops_nothing(bench: Bench) -> None:
    two_logs(bench)
    server = bench.serve(events=Told(), ps=ok([status("db")]))
    with running(bench, "logs", "-f", "db") as process:
        lines_until(process.stderr, "three")
        assert server.seen("ps").wait(20)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, b"")
    assert set(server.verbs()) == {"events", "ps"}


def test_a_removed_log_is_read_to_its_end_and_its_successor_from_its_start(bench: Bench) -> None:
    recorded(bench.site, demo_db_1="db")
    db = LogWriter(bench.site, "demo-db-1")
    db.write(b"old\n")
    told = Told()
    phases: dict[str, Any] = {"db": "running"}
    bench.serve(events=told, ps=lambda exchange: exchange.ok([status("db", phases["db"])]))
    with running(bench, "logs", "-f", "--no-log-prefix") as process:
        assert line_of(process.stdout) == "old"
        for kind in ("log", "idx"):
            os.unlink(os.path.join(bench.site.data_dir, "logs", f"demo-db-1.{kind}"))
        LogWriter(bench.site, "demo-db-1").write(b"new\n")
        told.tell(event("container.started", "db"))
        assert line_of(process.stdout) == "new"
        phases["db"] = "exited"
        told.tell(event("container.exited", "db", exit_status=0))
        process.communicate(timeout=30)
        assert process.returncode == 0
