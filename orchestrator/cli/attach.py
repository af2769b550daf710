"""``pystack up`` in the foreground: bring up, follow, and on Ctrl-C stop.

    connection A   up             progress, then a result or an error
    connection B   events         opened before A is used, so that nothing between the two is missed
    connection C   stop, kill     one for each Ctrl-C; they interrupt a running `up`

Everything is waited for in one place (`_wait`): sockets, logs, signals. Log lines go to stdout, the rest to stderr. A
supervisor that is killed is started again by the client that follows: containers, logs and exit codes are not lost.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from orchestrator.cli.cascade import Cascade
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.logfollower import LogFollower
from orchestrator.cli.operation import Operation, report_failures, report_left, wait_any
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.cli.render.plain import SilentProgress
from orchestrator.cli.render.progress import Progress
from orchestrator.cli.render.words import words_of
from orchestrator.cli.tailing import MAY_END, any_alive
from orchestrator.cli.wire import encoded, event_of, selected, statuses_of
from orchestrator.client import Client, EventMessage, SupervisorGone, ensure_supervisor
from orchestrator.client.connection import soonest
from orchestrator.contracts.control import Events, Kill, Stop, Up
from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.site import Site
from orchestrator.errors import EXIT_CANCELLED, OperationError, PystackError
from orchestrator.state.records import FileState
from orchestrator.values import frozen

MAX_HEALS = 5
"""Supervisors that may be lost while we follow; then something is wrong that starting another does not cure."""

_NOTED = frozenset(
    {
        EventKind.CONTAINER_STARTED,
        EventKind.CONTAINER_EXITED,
        EventKind.CONTAINER_STOPPED,
        EventKind.CONTAINER_REMOVED,
        EventKind.RESTART_SCHEDULED,
        EventKind.HEALTH_CHANGED,
        EventKind.SERVICE_FAILED,
        EventKind.SERVICE_BLOCKED,
        EventKind.WARNING,
    }
)


@frozen
class Selection:
    """`shown`: whose logs are followed. `managed`: what Ctrl-C stops, their dependencies included."""

    shown: tuple[str, ...]
    managed: tuple[str, ...]


class Foreground:
    """One foreground `up`. `timeout_s`: the grace that stopping gets, None: each service's own. `cascade`: says when all is
    to be stopped because one container has ended, and the exit code."""

    def __init__(
        self,
        site: Site,
        selection: Selection,
        progress: Progress,
        board: Board,
        printer: LogPrinter,
        timeout_s: float | None,
        cascade: Cascade | None = None,
    ) -> None:
        self._site = site
        self._selection = selection
        self._progress = progress
        self._board = board
        self._printer = printer
        self._timeout_s = timeout_s
        self._interrupts = Interrupts()
        self._presses = 0
        self._events: Client | None = None
        self._seen: Counter[str] = Counter()
        self._last_event_at = time.time()
        self._last_key = ""
        self._ending: Operation | None = None
        self._following = False
        self._heals = 0
        self._cascade = cascade

    def run(self, client: Client, request: Up, summary: Callable[[Any], str]) -> int:
        """Everything, until all containers have ended or were stopped. Returns the exit code."""
        since = time.time()
        with self._interrupts, LogFollower(self._site, self._printer) as logs:
            try:
                with client:
                    self._subscribe(None)
                    result = self._bring_up(Operation(client, request, self._progress, self._board))
                self._progress.close()
                if result is None:
                    return self._exit_code()
                self._progress.summary(summary(result), result)
                self._following = True
                statuses = statuses_of(result.get("statuses", []))
                for status in statuses:
                    if status.service in self._selection.shown:
                        logs.add(status.container, status.service, since=since)
                if self._cascade is not None:
                    self._stop_if(self._cascade.found(statuses))
                self._follow(logs)
            finally:
                self._progress.close()
                if self._ending is not None:
                    self._ending.client.close()
                if self._events is not None:
                    self._events.close()
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._presses:
            return EXIT_CANCELLED
        return self._cascade.exit_code if self._cascade is not None else 0

    # Starting

    def _bring_up(self, operation: Operation) -> Any:
        """The result; None when everything had to be stopped, and is. Raises the operation's error."""
        seen = 0
        while not (operation.done and (self._ending is None or self._ending.done)):
            ending_s = self._ending.left_s() if self._ending is not None else None
            limit_s = soonest(self._progress.interval_s, operation.left_s(), ending_s)
            self._wait(operation, self._ending, self._interrupts, timeout_s=limit_s)
            operation.pump()
            for value in operation.events[seen:]:
                self._see(event_of(value))
            seen = len(operation.events)
            if self._ending is not None:
                self._ending.pump()
            self._progress.tick()
            self._take_interrupts()
        if self._ending is not None:
            self._finish_ending()
            return None
        if operation.error is not None:
            self._progress.close()
            report_failures(self._site, self._board, self._progress)
            report_left(self._site, self._board, self._progress)
            raise operation.error
        self._seen = Counter(json.dumps(value, sort_keys=True) for value in operation.events)
        return operation.result

    # Following

    def _follow(self, logs: LogFollower) -> None:
        """Until everything has ended."""
        logs.pump()
        ended = self._all_ended()
        while not ended and not (self._ending is not None and self._ending.done):
            limit_s = self._ending.left_s() if self._ending is not None else None
            self._wait(self._events, self._ending, self._interrupts, *logs.sources(), timeout_s=limit_s)
            logs.pump()
            self._take_interrupts()
            if self._ending is not None:
                self._ending.pump()
            if self._take_events(logs) and self._ending is None:
                ended = self._all_ended()
        logs.finish()
        self._finish_ending()

    def _take_events(self, logs: LogFollower) -> bool:
        """Tell what has happened; True when it may have been the end of everything."""
        may_end = False
        while self._events is not None:
            try:
                message = self._events.receive(0)
            except SupervisorGone:
                return self._heal()
            if message is None:
                break
            if not isinstance(message, EventMessage):
                continue
            key = json.dumps(message.value, sort_keys=True)
            if self._seen[key]:
                self._seen[key] -= 1
                continue
            event = event_of(message.value)
            if event is None:
                continue
            self._last_event_at, self._last_key = event.at, key
            may_end = may_end or event.kind in MAY_END
            logs.pump()
            self._tell(event, message.value)
            if event.kind is EventKind.CONTAINER_STARTED and event.container and event.service in self._selection.shown:
                logs.add(event.container, event.service)
                logs.pump()
            self._see(event)
        return may_end

    def _tell(self, event: Event, raw: Any) -> None:
        if event.kind in _NOTED and (event.service is None or event.service in self._selection.managed):
            line = self._printer.note(event.service, words_of(event)) if event.service else event.text
            self._progress.aside(line, raw)

    def _see(self, event: Event | None) -> None:
        if self._cascade is not None and event is not None:
            self._stop_if(self._cascade.see(event))

    def _stop_if(self, why: str | None) -> None:
        """Stop everything, unless that is under way."""
        if why and self._ending is None:
            self._progress.note(why)
            self._begin(self._stop())

    def _all_ended(self) -> bool:
        """Whether nothing of what is shown will run again by itself."""
        client = Client.connect(self._site)
        if client is None:
            return self._events is None
        with client:
            try:
                return not any_alive(client, self._selection.shown)
            except SupervisorGone:
                return False

    # Ending

    def _take_interrupts(self) -> None:
        for _ in range(self._interrupts.take()):
            self._presses += 1
            if self._presses == 1:
                self._progress.note("stopping (Ctrl-C again kills)")
                self._begin(self._stop())
            elif self._presses == 2:
                self._progress.note("killing")
                self._begin(Kill(selected(self._selection.managed)))
            else:
                raise KeyboardInterrupt

    def _stop(self) -> Stop:
        return Stop(selected(self._selection.managed), self._timeout_s)

    def _begin(self, request: Stop | Kill) -> None:
        if self._ending is not None:
            self._ending.client.close()
        client, _ = ensure_supervisor(self._site)
        # While events are followed, they tell what the ending does: its own stream must not tell it again.
        progress = SilentProgress() if self._following else self._progress
        self._ending = Operation(client, request, progress, self._board)

    def _finish_ending(self) -> None:
        if self._ending is None:
            return
        if isinstance(self._ending.error, PystackError):
            raise self._ending.error
        if self._cascade is not None and self._ending.result:
            self._cascade.found(statuses_of(self._ending.result.get("statuses", [])))

    def _heal(self) -> bool:
        """The supervisor has ended: start another, unless the project is gone. True: look whether all has ended."""
        assert self._events is not None
        self._events.close()
        self._events = None
        if self._ending is not None or FileState(self._site).load() is None:
            return True
        self._heals += 1
        if self._heals > MAX_HEALS:
            raise OperationError(
                f"the supervisor of project {self._site.project} has ended {self._heals} times",
                hint="the services may still run: `pystack ps` shows them; supervisor.log says why",
            )
        self._progress.note("the supervisor has ended unexpectedly: starting another")
        self._seen = Counter([self._last_key])
        self._subscribe(self._last_event_at)
        return True

    def _subscribe(self, since: float | None) -> None:
        client, _ = ensure_supervisor(self._site)
        client.send(*encoded(Events(since)))
        self._events = client

    @staticmethod
    def _wait(*sources: Any, timeout_s: float | None) -> None:
        wait_any([source for source in sources if source is not None], timeout_s)
