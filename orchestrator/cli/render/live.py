"""Progress on a terminal: a region that is redrawn in place (rich's Live, without its refresher thread).

    up vote                                   1.2 s
     ✗ api       0.8s  exited with code 1
     ⠹ db        1.2s  probe 2 of 5 failed: connection refused
     · web       1.2s  waiting for db to be healthy
     ✓ redis     0.3s  healthy
       and 12 more: 10 ready, 2 waiting

The caller's loop calls `tick` every `interval_s`; nothing is drawn when nothing changed but on a tick. When log lines come
(`make_room`), the region stays with those that are where they are to be, and what happens then is told by lines, as
without a terminal.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.cli.render.board import Board, Row, Stage
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.failure import FailureReport, describe
from orchestrator.cli.render.plain import PlainProgress, sentence
from orchestrator.cli.terminal import Terminal
from orchestrator.contracts.events import Event, EventKind

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"
_SYMBOLS = {
    Stage.FAILED: ("✗", "x", "bold red"),
    Stage.BLOCKED: ("✗", "x", "red"),
    Stage.UNHEALTHY: ("!", "!", "yellow"),
    Stage.BACKOFF: ("↻", "~", "yellow"),
    Stage.STARTING: ("", "", "cyan"),
    Stage.STOPPING: ("", "", "cyan"),
    Stage.WAITING: ("·", ".", "dim"),
    Stage.READY: ("✓", "+", "green"),
    Stage.DONE: ("✓", "+", "green"),
    Stage.STOPPED: ("■", "=", "dim"),
    Stage.REMOVED: ("■", "=", "dim"),
}
_WORDS = {
    Stage.FAILED: "failed",
    Stage.BLOCKED: "blocked",
    Stage.UNHEALTHY: "unhealthy",
    Stage.BACKOFF: "restarting",
    Stage.STARTING: "starting",
    Stage.STOPPING: "stopping",
    Stage.WAITING: "waiting",
    Stage.READY: "ready",
    Stage.DONE: "completed",
    Stage.STOPPED: "stopped",
    Stage.REMOVED: "removed",
}
_PASSING = frozenset({Stage.BACKOFF, Stage.STARTING, Stage.STOPPING, Stage.WAITING})
"""What would be false a moment later on a screen that is not drawn again."""
_INTERVAL_S = 0.1


class LiveProgress:
    def __init__(self, title: str, board: Board, terminal: Terminal) -> None:
        self._title = title
        self._board = board
        self._terminal = terminal
        self._began_s = time.monotonic()
        self._console = Console(
            file=sys.stderr,
            force_terminal=True,
            color_system="standard" if terminal.colour_err else None,
            no_color=not terminal.colour_err,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._running = False
        self._passing = True
        self._drawn_s = 0.0
        self._lines: PlainProgress | None = None
        self.interval_s: float | None = _INTERVAL_S

    def event(self, event: Event, raw: object) -> None:
        if self._lines is not None:
            self._lines.event(event, raw)
        elif event.kind is EventKind.WARNING:
            self.note(f"warning: {sentence(event)}")
        elif time.monotonic() - self._drawn_s >= _INTERVAL_S:
            self.tick()

    def make_room(self) -> None:
        if self._lines is None:
            self._passing = False
            self.close()
            self._lines, self.interval_s = PlainProgress(), None

    def tick(self) -> None:
        if not len(self._board) or self._lines is not None:
            return
        if not self._running:
            self._live.start()
            self._running = True
        self._draw()

    def note(self, text: str) -> None:
        """A line that stays, above the region."""
        self._console.print(Text(escape_line(text)), soft_wrap=True)

    def aside(self, text: str, raw: object) -> None:
        self.note(text)

    def failure(self, report: FailureReport) -> None:
        style = "bold red" if self._terminal.colour_err else ""
        for number, line in enumerate(describe(report)):
            self._console.print(Text(line, style="" if number else style), soft_wrap=True)

    def summary(self, text: str, data: object) -> None:
        self._console.print(Text(escape_line(text)), soft_wrap=True)

    def close(self) -> None:
        """The last state stays on the screen."""
        if self._running:
            self._running = False
            self._draw()
            self._live.stop()

    def _draw(self) -> None:
        self._drawn_s = time.monotonic()
        size = self._console.size
        self._live.update(self.render(self._drawn_s, size.width, size.height), refresh=True)

    def render(self, now_s: float, columns: int, lines: int) -> Text:
        """The region: at most `lines` - 1 lines of at most `columns` - 1 cells: the terminal never scrolls or wraps."""
        rows = [row for row in self._board.rows() if self._passing or row.stage not in _PASSING]
        room = max(2, lines - 2)
        shown, hidden = (rows, []) if len(rows) <= room else (rows[: room - 1], rows[room - 1 :])
        name_width = min(max(len(self._board.name(row)) for row in shown), max(8, columns // 3)) if shown else 0
        out = [self._heading(now_s, columns)]
        out += [self._line(row, now_s, name_width) for row in shown]
        if hidden:
            counts: dict[Stage, int] = {}
            for row in hidden:
                counts[row.stage] = counts.get(row.stage, 0) + 1
            text = ", ".join(f"{number} {_WORDS[stage]}" for stage, number in counts.items())
            out.append(Text(f"   and {len(hidden)} more: {text}", style="dim"))
        for line in out:
            line.truncate(columns - 1, overflow="ellipsis" if self._terminal.unicode else "crop")
        return Text("\n", no_wrap=True, overflow="crop").join(out)

    def _heading(self, now_s: float, columns: int) -> Text:
        elapsed = f"{now_s - self._began_s:.1f} s"
        title = escape_line(self._title)
        gap = max(2, min(columns, 72) - len(title) - len(elapsed) - 1)
        return Text.assemble((title, "bold"), " " * gap, (elapsed, "dim"))

    def _line(self, row: Row, now_s: float, name_width: int) -> Text:
        symbol, plain, style = _SYMBOLS[row.stage]
        seconds = row.seconds(now_s)
        if not symbol:
            frames = _FRAMES if self._terminal.unicode else _ASCII_FRAMES
            symbol = plain = frames[int(seconds * 10) % len(frames)]
        name = escape_line(self._board.name(row))
        if len(name) > name_width:
            name = name[: name_width - 1] + "~"
        return Text.assemble(
            " ",
            (symbol if self._terminal.unicode else plain, style),
            " ",
            name.ljust(name_width),
            (f" {seconds:6.1f}s  ", "dim"),
            (escape_line(row.text(now_s)), style if row.stage.bad or row.stage is Stage.UNHEALTHY else ""),
        )
