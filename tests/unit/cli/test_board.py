"""The board: what events say of an operation."""

from __future__ import annotations

from typing import Any

from orchestrator.cli.render.board import Board, Stage
from orchestrator.cli.render.failure import describe, report_of
from orchestrator.contracts.events import Event, EventKind
from orchestrator.model.names import ServiceName


def event(kind: EventKind, service: str, text: str = "", **detail: Any) -> Event:
    return Event(kind, text, 0.0, ServiceName(service), None, detail)


def waiting(service: str, on: str, condition: str) -> Event:
    return event(EventKind.SERVICE_WAITING, service, on=on, condition=condition)


def shown(board: Board) -> list[tuple[str, Stage, str]]:
    return [(row.service, row.stage, row.text) for row in board.rows()]


def test_a_waiting_service_says_for_whom_and_what_until_it_is_met() -> None:
    board = Board(["web", "db", "cache", "init"])
    board.apply(waiting("web", "db", "service_healthy"), 0)
    board.apply(waiting("web", "cache", "service_started"), 0)
    board.apply(waiting("web", "init", "service_completed_successfully"), 0)
    row = board.row("web")
    assert row is not None
    assert row.text == "waiting for db to be healthy, cache to start, init to complete"
    board.apply(event(EventKind.CONTAINER_STARTED, "db"), 1)
    board.apply(event(EventKind.CONTAINER_STARTED, "cache"), 1)
    assert row.text == "waiting for db to be healthy, init to complete"
    board.apply(event(EventKind.SERVICE_READY, "db"), 2)
    assert row.text == "waiting for init to complete"
    board.apply(event(EventKind.CONTAINER_EXITED, "init", exit_status=0), 3)
    assert row.text == "about to start"


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
        "it was not healthy after 3 probes",
        exit_status=None,
        signal=9,
        probe_output="no response\x1b[2J\n",
        blocked=("api", "web"),
    )
    board.apply(failure, 0)
    (row,) = board.failed()
    assert describe(report_of(row, ["FATAL: \x07disk"]), "db failed") == [
        "db failed: it was not healthy after 3 probes",
        "  it was killed by signal 9 (SIGKILL)",
        "  its last probe said:",
        "    | no response\\x1b[2J",
        "  the last lines of its log:",
        "    | FATAL: \\x07disk",
        "  not started because of it: api, web",
    ]


def test_what_the_reason_says_already_is_not_said_again() -> None:
    board = Board()
    board.apply(event(EventKind.SERVICE_FAILED, "db", "exited with code 3", exit_status=3), 0)
    board.apply(event(EventKind.SERVICE_FAILED, "x", "gave up", oom=True), 0)
    board.apply(event(EventKind.SERVICE_FAILED, "y", "y ran out of memory and was killed", oom=True), 0)
    db, x, y = (describe(report_of(row, []), "another failed") for row in board.failed())
    assert db == ["db failed: exited with code 3"]
    assert x == ["x failed: gave up", "  it was killed by the kernel: out of memory"]
    assert y == ["y failed: ran out of memory and was killed", "  raise its mem_limit, or let it use less"]


def test_what_the_command_s_error_says_is_left_to_it() -> None:
    board = Board()
    refused = "db failed: compose.yaml:3:5: command not found"
    board.apply(event(EventKind.SERVICE_FAILED, "db", refused, exit_status=127, blocked=("web",)), 0)
    board.apply(event(EventKind.SERVICE_BLOCKED, "web", f"web cannot start: {refused}", on="db"), 0)
    error = "compose.yaml:3:5: command not found (not started because of that: web)"
    (row,) = board.failed()
    assert describe(report_of(row, []), error) == []
    assert describe(report_of(row, ["a line"]), error) == [
        "db failed: compose.yaml:3:5: command not found",
        "  the last lines of its log:",
        "    | a line",
    ]
    assert ("web", Stage.BLOCKED, "cannot start: db failed") in shown(board)
