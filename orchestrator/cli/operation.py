"""One operation of the supervisor (up, down, stop, ...) as its client sees it: events, then a result or an error."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.cli.render.board import Board
from orchestrator.cli.render.failure import LOG_LINES, report_of
from orchestrator.cli.render.progress import Progress
from orchestrator.cli.wire import encoded, event_of
from orchestrator.client import Client, EventMessage, ResultMessage
from orchestrator.client.connection import soonest
from orchestrator.contracts import control
from orchestrator.contracts.site import Site
from orchestrator.errors import PystackError
from orchestrator.model.phase import LIVE, Phase


class Operation:
    """A running request. `pump` takes what has arrived; `done` says that there is a `result` or an `error`. `fds`: go with
    the request. `received`: descriptors that came; they are the caller's."""

    def __init__(
        self,
        client: Client,
        request: control.Operation | control.Apply,
        progress: Progress,
        board: Board,
        fds: Sequence[int] = (),
    ) -> None:
        self.client = client
        self.done = False
        self.result: Any = None
        self.error: PystackError | None = None
        self.received: list[int] = []
        self._progress = progress
        self._board = board
        client.send(*encoded(request), fds)

    def fileno(self) -> int:
        return self.client.fileno()

    def left_s(self) -> float | None:
        """Seconds until `pump` finds that the supervisor does not answer; None when it owes no answer."""
        return None if self.done else self.client.left_s()

    def pump(self, timeout_s: float | None = 0) -> None:
        """Take all that is there; wait up to `timeout_s` for the first message (None: as long as it takes)."""
        while not self.done:
            try:
                message = self.client.receive(timeout_s)
            except PystackError as error:
                self.error, self.done = error, True
                return
            match message:
                case None:
                    return
                case ResultMessage(value):
                    self.result, self.done = value, True
                case EventMessage(value, fds):
                    self.received += fds
                    self.take(value)
            timeout_s = 0

    def run(self) -> Any:
        """To the end, with nothing else to watch. Raises its error."""
        while not self.done:
            self.pump(soonest(self._progress.interval_s, self.left_s()))
            self._progress.tick()
        if self.error is not None:
            raise self.error
        return self.result

    def take(self, value: Any) -> None:
        """An event has come: `value` is its JSON."""
        event = event_of(value)
        if event is not None:
            self._board.apply(event, time.monotonic())
            if self._board.hides(event):
                return
            self._progress.event(event, value)


def wait_any(sources: Iterable[Any], timeout_s: float | None) -> None:
    """Returns when one of `sources` (things with a file descriptor) is readable or has ended, or after `timeout_s`."""
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    poll.poll(None if timeout_s is None else timeout_s * 1000)


def report_failures(site: Site, board: Board, progress: Progress) -> None:
    """Explain each container that failed, with what it logged last in this operation."""
    from orchestrator.cli.logfiles import last_lines

    for row in board.failed():
        log = last_lines(site, row.container, LOG_LINES, row.since) if row.container is not None else []
        progress.failure(report_of(row, log))


def report_left(site: Site, board: Board, progress: Progress) -> None:
    """After an operation that failed: what runs all the same. Nothing when it never began, or nobody can say."""
    if not len(board):
        return
    try:
        client = Client.connect(site)
        if client is None:
            return
        with client:
            statuses = client.request("ps")
    except PystackError:
        return
    names = [str(status["container"]) for status in statuses if Phase(status["phase"]) in LIVE]
    if names:
        progress.note(f"still running: {', '.join(names)}; `pystack down` takes everything down")
