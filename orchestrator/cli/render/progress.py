"""The renderers of progress behind one interface; `choose` takes the one that fits. Only the live one imports rich."""

from __future__ import annotations

from typing import Protocol

from orchestrator.cli.render.board import Board
from orchestrator.cli.render.failure import FailureReport
from orchestrator.cli.terminal import Terminal
from orchestrator.contracts.events import Event


class Progress(Protocol):
    """Everything goes to stderr. `interval_s`: how often `tick` wants to be called, or None."""

    @property
    def interval_s(self) -> float | None: ...

    def event(self, event: Event, raw: object) -> None:
        """An event that the board has taken in already; `raw` is its JSON."""
        ...

    def tick(self) -> None: ...

    def make_room(self) -> None:
        """Log lines come on the same terminal from now on: nothing is redrawn any more, what happens is told by lines."""
        ...

    def note(self, text: str) -> None:
        """One line about the command itself."""
        ...

    def aside(self, text: str, raw: object) -> None:
        """A line about a service, between log lines; `raw` is the event it tells, as JSON."""
        ...

    def failure(self, report: FailureReport) -> None: ...

    def summary(self, text: str, data: object) -> None:
        """The last line of a command that went well; `data`: the same for programs."""
        ...

    def close(self) -> None:
        """Leave the terminal as it is to be; notes, failures and the summary may follow."""
        ...


def choose(terminal: Terminal, title: str, board: Board) -> Progress:
    match terminal.progress:
        case "json":
            from orchestrator.cli.render.jsonlines import JsonProgress

            return JsonProgress()
        case "live":
            from orchestrator.cli.render.live import LiveProgress

            return LiveProgress(title, board, terminal)
        case "quiet":
            from orchestrator.cli.render.plain import QuietProgress

            return QuietProgress()
        case _:
            from orchestrator.cli.render.plain import PlainProgress

            return PlainProgress()
