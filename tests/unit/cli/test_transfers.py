"""What is told of images that come and go: parts, rates, lines, JSON, and the region of the terminal."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli.render.board import Board, Stage
from orchestrator.cli.render.plain import PlainProgress, sentence
from orchestrator.cli.render.transfer import Parts, amount, moved_text, size_text
from orchestrator.cli.render.transfers import Transfers
from orchestrator.cli.terminal import Terminal
from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.images import Transfer

MB = 1_000_000


def terminal(progress: str) -> Terminal:
    return Terminal(False, False, False, False, True, progress)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_in_powers_of_a_thousand(number: float, text: str) -> None:
    assert size_text(number) == text


def test_an_amount_says_its_unit_once() -> None:
    assert amount(4 * MB, 10 * MB) == "4.0 of 10.0 MB"
    assert amount(400_000, 10 * MB) == "400 kB of 10.0 MB"
    assert amount(4 * MB, None) == "4.0 MB"


def test_a_rate_is_what_came_lately_and_ends_when_nothing_comes() -> None:
    parts = Parts()
    parts.take(Transfer("a", "pulling", 0, 10 * MB), 10.0)
    for tenth in range(1, 11):
        parts.take(Transfer("a", "pulling", tenth * 200_000, 10 * MB), 10 + tenth / 10)
    assert parts.rate(11.0) == pytest.approx(2 * MB, rel=0.2)
    assert parts.words(11.0).startswith("pulling 2.0 of 10.0 MB, ")
    assert parts.rate(14.0) == 0.0
    assert parts.words(14.0) == "pulling 2.0 of 10.0 MB"


def test_what_was_there_already_when_a_part_goes_on_is_no_rate() -> None:
    parts = Parts()
    parts.take(Transfer("a", "pulling", 8 * MB, 10 * MB), 0.0)
    assert parts.rate(1.0) == 0.0


def test_a_thousand_parts_keep_only_those_that_move() -> None:
    parts = Parts()
    for number in range(5000):
        parts.take(Transfer(f"{number}", "building", text="x"), number / 1000)
        parts.take(Transfer(f"{number}", "done"), number / 1000)
    parts.take(Transfer("last", "pulling", 1, 2), 6.0)
    assert list(parts.moving) == ["last"]
    assert parts.words(6.0) == "pulling 1 of 2 B, 5000 of 5001 done"


def test_a_part_that_begins_again_is_not_over() -> None:
    parts = Parts()
    parts.take(Transfer("a", "failed"), 0.0)
    assert parts.words(0.0) == "0 of 1 done, 1 failed"
    assert parts.take(Transfer("a", "pulling"), 1.0)
    assert parts.words(1.0) == "pulling"


def test_what_waits_does_not_hide_what_moves() -> None:
    parts = Parts()
    parts.take(Transfer("a", "waiting", 0, MB), 0.0)
    parts.take(Transfer("b", "pulling", MB, 2 * MB), 0.0)
    assert parts.words(0.0) == "pulling 1.0 of 2.0 MB, 0 of 2 done"


@pytest.mark.parametrize(
    ("news", "changed", "line"),
    [
        (Transfer("a", "pulling", 0, MB), True, "a: pulling 1.0 MB"),
        (Transfer("a", "pulling", 5, MB), False, ""),
        (Transfer("2/3", "waiting", text="RUN x"), True, "2/3: RUN x"),
        (Transfer("2/3", "building"), True, ""),
        (Transfer("2/3", "building", text="out"), False, "2/3: out"),
        (Transfer("2/3", "cached"), True, "2/3: cached"),
        (Transfer("a", "done", MB, MB), True, "a: done"),
    ],
)
def test_a_line_is_told_when_something_changes(news: Transfer, changed: bool, line: str) -> None:
    assert moved_text(news, changed) == line


def test_plain_lines_begin_with_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    transfers = Transfers(terminal("plain"))
    tell = transfers.of("web")
    tell("looking")
    tell("web is looked for")
    tell(Transfer("2/3", "building", text="evil \x1b[2J"))
    tell(Transfer("2/3", "done"))
    transfers.note("1 image built")
    transfers.close()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines == ["web: looking", "web is looked for", "web: 2/3: evil \\x1b[2J", "web: 2/3: done", "1 image built"]


def test_json_tells_of_each_part_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    transfers = Transfers(terminal("json"))
    tell = transfers.of("x")
    for name in ("a", "b"):
        for done in range(100):
            tell(Transfer(name, "pulling", done, 100))
        tell(Transfer(name, "done", 100, 100))
    transfers.note("good")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert told.pop() == {"note": "good"}
    for name in ("a", "b"):
        own = [one for one in told if one["part"] == name]
        assert own[0]["action"] == "pulling"
        assert own[-1] == {"image": "x", "part": name, "action": "done", "done_bytes": 100, "total_bytes": 100, "text": ""}
        assert len(own) < 50


def test_quiet_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    transfers = Transfers(terminal("quiet"))
    transfers.of("x")(Transfer("a", "pulling"))
    transfers.of("x")("sentence")
    transfers.note("note")
    transfers.close()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "8")


@pytest.mark.usefixtures("narrow")
def test_the_region_is_never_higher_or_wider_than_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    transfers = Transfers(terminal("live"))
    for image in range(20):
        for part in range(20):
            transfers.of(f"image{image}")(Transfer(f"{part}", "building", text="y" * 200))
    region = transfers._region(0.0, 60, 8).plain.split("\n")
    assert len(region) == 7
    assert max(map(len, region)) <= 59
    assert region[-1] == "and 14 more"
    transfers.close()
    assert "image0" in capsys.readouterr().err


@pytest.mark.usefixtures("narrow")
def test_the_last_state_stays_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    transfers = Transfers(terminal("live"))
    tell = transfers.of("redis:7")
    tell(Transfer("a", "pulling", MB, 4 * MB))
    tell(Transfer("b", "building", text="folded"))
    transfers.tick()
    tell(Transfer("b", "done"))
    tell(Transfer("a", "done", 4 * MB, 4 * MB))
    transfers.close()
    shown = capsys.readouterr().err
    assert "██████░░░░░░░░░░░░░░░░░░  pulling 1.0 of 4.0 MB" in shown
    assert "redis:7  2 of 2 done" in shown
    assert "folded" not in shown[shown.rindex("redis:7") :]


# What `up` says of images.


def event(kind: EventKind, text: str = "", **detail: str | int) -> Event:
    return Event(kind, text, 1.0, detail={"image": "redis:7", **detail})


def moved(part: str, action: str, done: int = 0, text: str = "") -> Event:
    return event(EventKind.IMAGE_PROGRESS, text, part=part, action=action, done_bytes=done, total_bytes=4 * MB)


def test_the_board_has_a_row_for_an_image_that_is_being_got() -> None:
    board = Board(["web"])
    board.apply(event(EventKind.IMAGE_OBTAINING, "getting image redis:7"), 0.0)
    board.apply(moved("a", "pulling", MB), 0.0)
    assert [(row.stage, row.text(0.0)) for row in board.rows()] == [(Stage.STARTING, "pulling 1.0 of 4.0 MB")]
    board.apply(event(EventKind.IMAGE_OBTAINED), 1.0)
    assert [(row.stage, row.text(1.0)) for row in board.rows()] == [(Stage.DONE, "here")]
    board.apply(event(EventKind.IMAGE_OBTAINING, "getting it again"), 2.0)
    board.apply(event(EventKind.IMAGE_FAILED), 3.0)
    assert [(row.stage, row.text(3.0)) for row in board.rows()] == [(Stage.FAILED, "failed")]
    assert board.failed() == []


def test_quiet_pull_leaves_out_how_far_an_image_is() -> None:
    board = Board(quiet_images=True)
    board.apply(event(EventKind.IMAGE_OBTAINING, "getting image redis:7"), 0.0)
    board.apply(moved("a", "pulling", MB), 0.0)
    assert [row.text(0.0) for row in board.rows()] == ["getting it"]


def test_sentences_about_an_image_name_it() -> None:
    assert sentence(event(EventKind.IMAGE_OBTAINING, "it is built instead")) == "redis:7: it is built instead"
    assert sentence(event(EventKind.IMAGE_OBTAINED, "got image redis:7")) == "got image redis:7"


def test_plain_progress_of_up_has_the_lines_of_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress()
    for one in (
        moved("2/3", "waiting", text="RUN make"),
        moved("2/3", "building"),
        moved("2/3", "building", text="made"),
        moved("2/3", "done"),
        event(EventKind.IMAGE_OBTAINED, "got image redis:7"),
    ):
        progress.event(one, {})
    assert capsys.readouterr().err.splitlines() == [
        "redis:7: 2/3: RUN make", "redis:7: 2/3: made", "redis:7: 2/3: done", "got image redis:7"
    ]  # fmt: skip
