"""The board: what events say of an operation."""

from __future__ import annotations

from typing import Any

from orchestrator.cli.render.board import Board, Stage
from orchestrator.cli.render.failure import describe, report_of
from orchestrator.contracts.events import Event, EventKind
from orchestrator.model.names import ContainerId, ServiceName


def event(kind: EventKind, service: str, text: str = "", **detail: Any) -> Event:
    return Event(kind, text, 0.0, ServiceName(service), None, detail)


def waiting(service: str, on: str, condition: str) -> Event:
    return event(EventKind.SERVICE_WAITING, service, on=on, condition=condition)


def shown(board: Board) -> list[tuple[str, Stage, str]]:
    return [(row.service, row.stage, row.text(0.0)) for row in board.rows()]


def test_a_waiting_service_says_for_whom_and_what_until_it_is_met() -> None:
    board = Board(["web", "db", "cache", "init"])
    board.apply(waiting("web", "db", "service_healthy"), 0)
    board.apply(waiting("web", "cache", "service_started"), 0)
    board.apply(waiting("web", "init", "service_completed_successfully"), 0)
    row = board.row("web")
    assert row is not None
    assert row.text(0.0) == "waiting for db to be healthy, cache to start, init to complete"
    board.apply(event(EventKind.CONDITION_MET, "web", on="cache", condition="service_started"), 1)
    assert row.text(0.0) == "waiting for db to be healthy, init to complete"
    board.apply(event(EventKind.CONDITION_MET, "web", on="db", condition="service_healthy"), 2)
    assert row.text(0.0) == "waiting for init to complete"
    board.apply(event(EventKind.CONDITION_MET, "web", on="init", condition="service_completed_successfully"), 3)
    assert row.text(0.0) == "about to start"


def test_each_container_has_a_row_and_its_own_name_where_there_are_several() -> None:
    board = Board(["web", "db"])
    for number in (1, 2):
        found = Event(EventKind.CONTAINER_STARTED, "", 0.0, ServiceName("web"), ContainerId(f"p-web-{number}"))
        board.apply(found, 0)
    board.apply(Event(EventKind.SERVICE_FAILED, "no", 0.0, ServiceName("db"), ContainerId("p-db-1")), 0)
    assert [(row.container, board.name(row)) for row in board.rows()] == [
        ("p-db-1", "db"),
        ("p-web-1", "p-web-1"),
        ("p-web-2", "p-web-2"),
    ]
    report = report_of(board.failed()[0], [])
    assert (report.service, report.container) == ("db", "p-db-1")


def test_failed_comes_first_then_moving_then_ready() -> None:
    board = Board(["a", "b", "c", "d"])
    board.apply(event(EventKind.SERVICE_READY, "a"), 0)
    board.apply(waiting("b", "c", "service_healthy"), 0)
    board.apply(event(EventKind.CONTAINER_STARTED, "c"), 0)
    board.apply(event(EventKind.SERVICE_FAILED, "d", "exited with code 1"), 0)
    assert [row.service for row in board.rows()] == ["d", "c", "b", "a"]


def test_a_failed_probe_is_counted_against_its_retries() -> None:
    board = Board()
    board.apply(event(EventKind.CONTAINER_STARTED, "db"), 0)
    board.apply(event(EventKind.HEALTH_PROBED, "db", number=1, failures=0, retries=5, ok=False, output=""), 1)
    assert shown(board) == [("db", Stage.STARTING, "probe 1 failed, which does not count yet")]
    board.apply(event(EventKind.HEALTH_PROBED, "db", number=4, failures=2, retries=5, ok=False, output="no\nx"), 1)
    assert shown(board) == [("db", Stage.STARTING, "probe 2 of 5 failed: no")]


def test_the_time_of_a_service_stops_when_it_is_ready_and_goes_on_when_it_restarts() -> None:
    board = Board()
    board.apply(event(EventKind.CONTAINER_CREATING, "db"), 10)
    row = board.row("db")
    assert row is not None
    assert row.seconds(12) == 2
    board.apply(event(EventKind.SERVICE_READY, "db"), 13)
    assert row.seconds(99) == 3
    board.apply(event(EventKind.RESTART_SCHEDULED, "db", "exited with code 1; again in 0.1s"), 20)
    assert (row.stage, row.seconds(21)) == (Stage.BACKOFF, 11)


def test_a_service_that_recovers_is_not_reported_as_failed() -> None:
    board = Board()
    board.apply(event(EventKind.SERVICE_FAILED, "db", "exited with code 1"), 0)
    assert [row.service for row in board.failed()] == ["db"]
    board.apply(event(EventKind.CONTAINER_STARTING, "db"), 1)
    assert board.failed() == []


def test_probes_of_a_service_that_the_operation_does_not_touch_are_no_row() -> None:
    board = Board()
    board.apply(event(EventKind.HEALTH_PROBED, "db", number=1, failures=0, retries=5, ok=True, output=""), 0)
    assert shown(board) == []


def test_stopping_is_not_failing() -> None:
    board = Board()
    board.apply(event(EventKind.CONTAINER_STOPPING, "db"), 0)
    board.apply(event(EventKind.CONTAINER_EXITED, "db", "exited with code 143", exit_status=143), 1)
    board.apply(event(EventKind.CONTAINER_STOPPED, "db"), 1)
    assert shown(board) == [("db", Stage.STOPPED, "stopped")]


def test_a_failure_is_explained_whole_and_harmlessly() -> None:
    board = Board()
    failure = event(
        EventKind.SERVICE_FAILED,
        "db",
        "db became unhealthy; stopped\x07",
        exit_status=None,
        signal=9,
        probe_output="no response\x1b[2J\n",
        blocked=("api", "web"),
    )
    board.apply(failure, 0)
    (row,) = board.failed()
    assert describe(report_of(row, ["FATAL: \x07disk"])) == [
        "db became unhealthy; stopped\\x07",
        "  its last probe said:",
        "    | no response\\x1b[2J",
        "  the last lines of its log:",
        "    | FATAL: \\x07disk",
    ]


def test_a_failure_whose_event_has_said_all_has_no_report() -> None:
    board = Board()
    board.apply(event(EventKind.SERVICE_FAILED, "db", "db exited with code 3; not restarted", exit_status=3), 0)
    board.apply(event(EventKind.SERVICE_FAILED, "x", "x ran out of memory and was killed", oom=True), 0)
    db, x = (describe(report_of(row, [])) for row in board.failed())
    assert db == []
    assert x == ["x ran out of memory and was killed", "  out of memory: raise its mem_limit, or let it use less"]


def test_what_never_ran_has_no_exit_to_show() -> None:
    board = Board()
    board.apply(event(EventKind.CONTAINER_STARTING, "db"), 0)
    board.apply(event(EventKind.SERVICE_FAILED, "db", "db failed: compose.yaml:3:5: no such command", exit_status=127), 0)
    ended = {"dependency": "demo-db-1", "exit_status": 3}
    board.apply(event(EventKind.SERVICE_BLOCKED, "job", "job cannot start: and so on", on="db", **ended), 0)
    board.apply(event(EventKind.SERVICE_BLOCKED, "web", "web cannot start: db failed: and so on", on="db"), 0)
    assert shown(board) == [
        ("db", Stage.FAILED, "db failed: compose.yaml:3:5: no such command"),
        ("job", Stage.BLOCKED, "cannot start: dependency failed to start: container demo-db-1 exited (3)"),
        ("web", Stage.BLOCKED, "cannot start because of db"),
    ]


def test_the_end_of_a_run_is_told_with_what_follows() -> None:
    board = Board()
    board.apply(event(EventKind.CONTAINER_STARTED, "db"), 0)
    board.apply(event(EventKind.CONTAINER_EXITED, "db", exit_status=137, signal=9, oom=False), 1)
    board.apply(event(EventKind.RESTART_SCHEDULED, "db", after_s=0.1, attempt=1), 1)
    assert shown(board) == [("db", Stage.BACKOFF, "was killed by SIGKILL; restarts in 0.1s")]
    board.apply(event(EventKind.CONTAINER_STARTING, "db"), 2)
    board.apply(event(EventKind.HEALTH_PROBED, "db", number=3, failures=3, retries=3, ok=False, output="no\nmore"), 3)
    board.apply(event(EventKind.HEALTH_CHANGED, "db", health="unhealthy"), 3)
    assert shown(board) == [("db", Stage.UNHEALTHY, "unhealthy: no")]
    board.apply(event(EventKind.CONTAINER_EXITED, "db", exit_status=143, signal=15), 4)
    board.apply(event(EventKind.SERVICE_FAILED, "db", "db became unhealthy; stopped", exit_status=143, signal=15), 4)
    assert shown(board) == [("db", Stage.FAILED, "unhealthy")]


def test_a_service_with_a_health_check_is_ready_when_it_is_healthy() -> None:
    board = Board()
    for name in ("db", "web"):
        board.apply(event(EventKind.CONTAINER_STARTED, name), 0)
    board.apply(event(EventKind.HEALTH_CHANGED, "db", health="healthy"), 1)
    for name in ("db", "web"):
        board.apply(event(EventKind.SERVICE_READY, name), 1)
    assert shown(board) == [("db", Stage.READY, "healthy"), ("web", Stage.READY, "running")]


def test_what_counts_down_goes_on_counting_on_the_screen() -> None:
    board = Board()
    board.apply(event(EventKind.CONTAINER_STOPPING, "web"), 0)
    lingers: dict[str, Any] = {"left_s": 9.0, "signal": 15, "ignored": True, "process": "sh", "pid": 1}
    board.apply(event(EventKind.CONTAINER_LINGERS, "web", **lingers), 1)
    board.apply(event(EventKind.CONTAINER_EXITED, "db", exit_status=1), 1)
    board.apply(event(EventKind.RESTART_SCHEDULED, "db", after_s=1.6), 1)
    rows = {row.service: row for row in board.rows()}
    assert [rows["web"].text(now_s) for now_s in (1, 5, 20)] == [
        f"ignores SIGTERM; killed in {left}; its PID 1 is sh" for left in ("9s", "5s", "0s")
    ]
    assert [rows["db"].text(now_s) for now_s in (1, 2.2)] == [
        "exited with code 1; restarts in 1.6s",
        "exited with code 1; restarts in 0s",
    ]
    board.apply(event(EventKind.CONTAINER_STOPPED, "web"), 10)
    board.apply(event(EventKind.CONTAINER_STARTED, "db"), 10)
    assert [rows["web"].text(20), rows["db"].text(20)] == ["stopped", "started"]
