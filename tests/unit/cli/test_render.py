"""What progress, tables and log lines look like, to the character."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from orchestrator.cli.logfiles import show
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.live import LiveProgress
from orchestrator.cli.render.loglines import LogPrinter, Look, timestamp
from orchestrator.cli.render.plain import PlainProgress
from orchestrator.cli.render.table import table
from orchestrator.cli.terminal import Terminal, detect
from orchestrator.contracts.events import Event
from orchestrator.contracts.events import EventKind as K
from orchestrator.model.names import ContainerId, ServiceName
from tests.unit.cli.test_board import event, waiting

LIVE = Terminal(stdout_tty=True, stderr_tty=True, colour_out=False, colour_err=False, unicode=True, progress="live")


def a_board() -> Board:
    board = Board(["db", "redis", "api", "worker", "web"])
    board.apply(event(K.CONTAINER_STARTED, "db"), 100.0)
    board.apply(event(K.HEALTH_PROBED, "db", number=2, failures=2, retries=5, ok=False, output="no \x1b[2Jresponse"), 101)
    board.apply(event(K.CONTAINER_CREATING, "redis"), 100.0)
    board.apply(event(K.SERVICE_READY, "redis", "redis is running"), 100.3)
    board.apply(waiting("web", "db", "service_healthy"), 100.0)
    board.apply(event(K.CONTAINER_EXITED, "api", exit_status=1), 101.0)
    board.apply(event(K.SERVICE_FAILED, "api", "api exited with code 1; not restarted", exit_status=1), 101.0)
    board.apply(event(K.SERVICE_BLOCKED, "worker", "worker cannot start: api failed", on="api"), 101.0)
    return board


def frame(board: Board, terminal: Terminal = LIVE, *, columns: int = 80, lines: int = 24) -> list[str]:
    progress = LiveProgress("up vote", board, terminal)
    progress._began_s = 100.0
    return progress.render(102.0, columns, lines).plain.split("\n")


def test_the_live_view_shows_failed_first_and_who_waits_for_whom() -> None:
    assert frame(a_board()) == [
        "up vote                                                           2.0 s",
        " ✗ api       0.0s  exited with code 1",
        " ✗ worker    0.0s  cannot start because of api",
        " ⠋ db        2.0s  probe 2 of 5 failed: no \\x1b[2Jresponse",
        " · web       2.0s  waiting for db to be healthy",
        " ✓ redis     0.3s  running",
    ]


def test_the_live_view_is_ascii_where_the_terminal_is() -> None:
    ascii_only = Terminal(True, True, False, False, False, "live")
    lines = frame(a_board(), ascii_only)
    assert [line[1] for line in lines[1:]] == ["x", "x", "|", ".", "+"]
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10), (20, 5), (10, 4), (200, 50)])
def test_the_live_view_never_is_larger_than_the_terminal(columns: int, lines: int) -> None:
    board = a_board()
    for number in range(60):
        board.apply(event(K.CONTAINER_STARTED, f"a-long-service-name-{number}", "x"), 101)
    shown = frame(board, columns=columns, lines=lines)
    assert len(shown) < lines
    assert all(len(line) < columns for line in shown)
    assert "api"[: columns // 3] in shown[1]
    if columns >= 40:
        assert shown[-1].startswith(f"   and {65 - len(shown) + 2} more: ")


def test_a_live_view_leaves_its_last_state_and_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    board = a_board()
    progress = LiveProgress("up vote", board, LIVE)
    progress.tick()
    progress.event(event(K.WARNING, "db", "db starts without cache"), {})
    progress.close()
    progress.close()
    progress.summary("4 services up in 1.00 s", {})
    text = stream.getvalue()
    assert "warning: db starts without cache" in text
    assert text.rstrip().endswith("4 services up in 1.00 s")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_a_table_is_aligned_escaped_and_without_empty_columns() -> None:
    rows = [("db", "", "x\x1b"), ("website", "", "y")]
    assert table(("NAME", "NOTHING", "NOTE"), rows) == "NAME      NOTE\ndb        x\\x1b\nwebsite   y"
    assert table(("NAME", "NOTE"), [("db", "abcdef")], columns=10) == "NAME   NO~\ndb     ab~"


@pytest.mark.parametrize(
    ("look", "options", "data", "shown"),
    [
        (Look(), {}, b"plain\n", b"db-1       | plain\n"),
        (Look(), {}, b"two\nlines\n", b"db-1       | two\ndb-1       | lines\n"),
        (Look(), {}, b"\x1b[31mred\x1b[0m \x1b]0;x\x07\r\nx", b"db-1       | red \\x1b]0;x\\x07\ndb-1       | x\n"),
        (Look(raw=True), {}, b"\x1b[31mred\xff\r\n\n", b"db-1       | \x1b[31mred\xff\r\ndb-1       | \n"),
        (Look(), {"prefix": False}, b"\n", b"\n"),
        (Look(raw=True), {"prefix": False}, b"a\nb", b"a\nb"),
        (Look(), {"prefix": False, "timestamps": True}, b"x\n", b"2023-11-14T22:13:20.000001Z x\n"),
        (Look(colour=True), {}, b"x\n", b"\x1b[33mdb-1       | \x1b[0mx\n"),
    ],
)
def test_log_lines(look: Look, options: dict[str, Any], data: bytes, shown: bytes) -> None:
    printer = LogPrinter(look, **options)
    printer.add({ContainerId("p-website-1"): "website-1", ContainerId("p-db-1"): "db-1"})
    at = ContainerId("p-db-1"), 1_700_000_000.000001, "stdout"
    assert printer.block(*at, data) + printer.block(*at, b"") == shown


def test_each_stream_goes_to_its_own_and_looks_as_its_terminal_does(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printer = LogPrinter(Look(), Look(colour=True))
    web = ContainerId("p-web-1")
    said: list[str] = []
    printer.before_writing = lambda: said.append("room")
    printer.add({web: "web-1"})
    show([(web, (1.0, "stdout", b"a\n")), (web, (1.0, "stdout", b"b\n")), (web, (2.0, "stderr", b"c\n"))], printer)
    assert capfdbinary.readouterr() == (b"web-1  | a\nweb-1  | b\n", b"\x1b[36mweb-1  | \x1b[0mc\n")
    assert said == ["room", "room"]


def test_a_note_stands_beside_the_lines() -> None:
    printer = LogPrinter()
    printer.add({ContainerId("p-website-1"): "website-1", ContainerId("p-db-1"): "db-1"})
    assert printer.note(ContainerId("p-db-1"), "restarts\x07") == "db-1 restarts\\x07"
    assert printer.note(ContainerId("fixed"), "started") == "fixed started"


def test_a_live_view_makes_room_for_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    progress = LiveProgress("up vote", a_board(), LIVE)
    progress.tick()
    progress.make_room()
    left = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", stream.getvalue().rpartition("\x1b[2K")[2])
    assert [line.split()[1] for line in left.splitlines()] == ["vote", "api", "worker", "redis"]  # Not who starts or waits.
    drawn = len(stream.getvalue())
    progress.make_room()
    progress.tick()
    progress.event(event(K.CONTAINER_STARTED, "db", "started demo-db-1"), {})
    progress.close()
    assert stream.getvalue()[drawn:] == "started demo-db-1\n"
    assert progress.interval_s is None


def test_a_timestamp_keeps_its_microseconds() -> None:
    assert timestamp(1_700_000_000.123456) == "2023-11-14T22:13:20.123456Z"
    assert timestamp(1_700_000_000.9999999) == "2023-11-14T22:13:21.000000Z"
    assert timestamp(1_700_000_000.000001) == "2023-11-14T22:13:20.000001Z"


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize(
    ("tty", "ansi", "progress", "environ", "shown", "colour"),
    [
        (True, "auto", "auto", {"TERM": "xterm"}, "live", True),
        (False, "auto", "auto", {"TERM": "xterm"}, "plain", False),
        (True, "auto", "auto", {"TERM": "dumb"}, "plain", False),
        (True, "auto", "auto", {}, "plain", False),
        (True, "auto", "auto", {"TERM": "xterm", "NO_COLOR": "1"}, "live", False),
        (True, "never", "auto", {"TERM": "xterm"}, "plain", False),
        (False, "always", "auto", {"TERM": "xterm"}, "plain", True),
        (False, "auto", "tty", {"TERM": "xterm"}, "live", False),
        (True, "auto", "json", {"TERM": "xterm"}, "json", True),
    ],
)
def test_the_terminal_decides_how_progress_looks(
    monkeypatch: pytest.MonkeyPatch,
    tty: bool,
    ansi: str,
    progress: str,
    environ: dict[str, str],
    shown: str,
    colour: bool,
) -> None:
    monkeypatch.setattr("sys.stdout", FakeTerminal(tty))
    monkeypatch.setattr("sys.stderr", FakeTerminal(tty))
    found = detect(ansi, progress, environ)
    assert (found.progress, found.colour_out, found.colour_err) == (shown, colour, colour)


def made(kind: K, container: str | None = "shop-web-1", text: str = "its own words", **detail: Any) -> Event:
    if container is None:
        return Event(kind, text, 0.0, detail=detail)
    return Event(kind, text, 0.0, ServiceName("web"), ContainerId(container), detail)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (made(K.CONTAINER_CREATING), "Container shop-web-1 Creating"),
        (made(K.CONTAINER_CREATED), "Container shop-web-1 Created"),
        (made(K.CONTAINER_STARTED, number=1), "Container shop-web-1 Started"),
        (made(K.CONTAINER_STOPPING, grace_s=10.0, why=""), "Container shop-web-1 Stopping"),
        (made(K.CONTAINER_STOPPING, grace_s=10.0, why="unhealthy"), "Container shop-web-1 Stopping (unhealthy)"),
        (made(K.CONTAINER_STOPPED, exit_status=143, signal=15), "Container shop-web-1 Stopped (was killed by SIGTERM)"),
        (made(K.CONTAINER_STOPPED), "Container shop-web-1 Stopped"),
        (made(K.CONTAINER_REMOVED), "Container shop-web-1 Removed"),
        (made(K.HEALTH_CHANGED, health="healthy"), "Container shop-web-1 Healthy"),
        (made(K.NETWORK_CREATED, None, network="shop_back"), "Network shop_back Created"),
        (made(K.VOLUME_REMOVED, None, volume="shop_data"), "Volume shop_data Removed"),
        (made(K.IMAGE_OBTAINING, None, image="nginx", builds=False), "Image nginx Pulling"),
        (made(K.IMAGE_OBTAINED, None, image="redis:7", builds=False), "Image redis:7 Pulled"),
        (made(K.IMAGE_OBTAINED, None, image="shop-web", builds=True), "Image shop-web Built"),
    ],
)
def test_lines_say_what_is_done_in_composes_words(told: Event, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    PlainProgress().event(told, {})
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(
    "told",
    [
        made(K.CONTAINER_STARTED, number=1, adopted=True),
        made(K.CONTAINER_STOPPING, signal=1),
        made(K.HEALTH_CHANGED, health="unhealthy"),
        made(K.CONTAINER_EXITED, exit_status=1),
        made(K.IMAGE_OBTAINING, None, image="nginx", text="nginx: another mirror is asked"),
        made(K.IMAGE_OBTAINED, None, image="host", builds=False, text="got image host"),
        made(K.IMAGE_OBTAINED, None, image="rootfs:/srv", builds=False, text="got image rootfs:/srv"),
        made(K.NETWORK_CREATED, None),
    ],
)
def test_what_docker_compose_has_no_word_for_has_its_own(told: Event, capsys: pytest.CaptureFixture[str]) -> None:
    """So is what an older supervisor tells, without a name."""
    PlainProgress().event(told, {})
    assert told.text in capsys.readouterr().err
