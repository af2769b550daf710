"""``pystack up`` in the foreground: bring up and show what is written from the first line on; on Ctrl-C stop.

    connection A   up             events and then a result or an error
    connection B   events         opened before A is used, so that nothing is missed when A has ended
    connection C   stop, kill     one for each Ctrl-C, or when a container's end is to stop all
    connection D   restart        one for each restart that a key asks for

Everything is waited for in one place (`_wait`): sockets, logs, signals, keys. All connections tell all that happens while
they are open; what one of them has told, the others do not tell again (`_Once`). Log lines go to stdout and stderr as they
were written, the rest to stderr. A supervisor that is killed is started again by the client that follows: containers, logs
and exit codes are not lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from orchestrator.cli.cascade import Cascade
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.logfollower import NO_SERVICE, LogFollower
from orchestrator.cli.operation import Operation, report_failures, report_left, wait_any
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.cli.render.progress import Progress
from orchestrator.cli.render.words import words_of
from orchestrator.cli.tailing import MAY_END, any_alive
from orchestrator.cli.watching.beside import Beside
from orchestrator.cli.wire import encoded, event_of, selected, statuses_of
from orchestrator.client import Client, EventMessage, SupervisorGone, ensure_supervisor
from orchestrator.client.connection import soonest
from orchestrator.contracts.control import Events, Kill, Restart, Stop, Up
from orchestrator.contracts.events import ContainerStatus, Event, EventKind
from orchestrator.contracts.site import Site
from orchestrator.errors import EXIT_CANCELLED, OperationError, PystackError
from orchestrator.model.names import ContainerId, Role
from orchestrator.model.phase import LIVE
from orchestrator.state.records import FileState
from orchestrator.values import frozen

if TYPE_CHECKING:
    from orchestrator.cli.menu import Keyboard, Menu

MAX_HEALS = 5
"""Supervisors that may be lost while we follow; then something is wrong that starting another does not cure."""
_LAST_EVENTS_S = 0.5
"""For events of what has ended already."""
_REMEMBERED = 20_000
"""Events; as many as the supervisor lets one connection lag behind another."""

_NOTED = frozenset(
    {
        EventKind.CONTAINER_STARTED,
        EventKind.CONTAINER_EXITED,
        EventKind.CONTAINER_LINGERS,
        EventKind.CONTAINER_STOPPED,
        EventKind.CONTAINER_REMOVED,
        EventKind.RESTART_SCHEDULED,
        EventKind.HEALTH_CHANGED,
        EventKind.HOOK_FAILED,
        EventKind.SERVICE_FAILED,
        EventKind.SERVICE_BLOCKED,
        EventKind.CASCADE,
        EventKind.CHAOS,
        EventKind.JOB_DUE,
        EventKind.JOB_LEFT_OUT,
        EventKind.WARNING,
    }
)
_ENDS = frozenset({EventKind.CONTAINER_EXITED, EventKind.CONTAINER_STOPPED, EventKind.CONTAINER_REMOVED})
_NOTED_EARLY = frozenset({EventKind.CONTAINER_EXITED})
"""Of those, what is told in the same words while others still start."""


@frozen
class Selection:
    """`shown`: whose logs are followed. `managed`: what Ctrl-C stops, their dependencies included. `awaited`: when these
    have ended, `up` has."""

    shown: tuple[str, ...]
    managed: tuple[str, ...]
    awaited: tuple[str, ...]


class _Once:
    """Tells what is new from what another connection has told."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}

    def new(self, event: Any) -> bool:
        key = json.dumps(event, sort_keys=True)
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > _REMEMBERED:
            del self._keys[next(iter(self._keys))]
        return True


class _Part(Operation):
    """An operation whose events go to the foreground."""

    def __init__(
        self,
        client: Client,
        request: Up | Stop | Kill | Restart,
        progress: Progress,
        board: Board,
        happened: Callable[[Any], None],
    ) -> None:
        super().__init__(client, request, progress, board)
        self._happened = happened

    def take(self, value: Any) -> None:
        self._happened(value)


class Foreground:
    """One foreground `up`. `timeout_s`: the grace that stopping gets, None: each service's own. `cascade`: says when all is
    to be stopped because one container has ended, and the exit code. `watch`: keeps containers in step with their files."""

    def __init__(
        self,
        site: Site,
        selection: Selection,
        progress: Progress,
        board: Board,
        printer: LogPrinter,
        timeout_s: float | None,
        cascade: Cascade | None = None,
        watch: Beside | None = None,
    ) -> None:
        self._site = site
        self._selection = selection
        self._progress = progress
        self._board = board
        self._timeout_s = timeout_s
        self._printer = printer
        services = selection.shown or NO_SERVICE
        self._logs = LogFollower(site, printer, services, role=Role.REPLICA.value, note=progress.note)
        self._interrupts = Interrupts()
        self._presses = 0
        self._once = _Once()
        self._began_at = self._last_event_at = time.time()
        self._events: Client | None = None
        self._starting: _Part | None = None
        self._ending: _Part | None = None
        self._up = False
        """It has come up, and that has been said."""
        self._may_end = False
        self._seen_running: dict[ContainerId, str] = {}
        """By the events so far, with the service."""
        self._heals = 0
        self._cascade = cascade
        self._keyboard: Keyboard | None = None
        self._menu: Menu | None = None
        self._asked: list[_Part] = []
        """Restarts that keys have asked for."""
        self._detached = False
        self._watch = watch or Beside()

    def use_keys(self, stack: ExitStack) -> None:
        """Listen to the keyboard as long as `stack` is open, if there is one."""
        from orchestrator.cli.menu import Keyboard, Menu

        keyboard = stack.enter_context(Keyboard())
        if keyboard.there:
            self._keyboard, self._menu = keyboard, Menu(self._selection.managed)

    def run(self, client: Client, request: Up, summary: Callable[[Any], str]) -> int:
        """Everything, until all containers have ended or were stopped. Returns the exit code. Raises the error of the
        `up`, or of the `stop` that Ctrl-C made."""
        self._printer.before_writing = self._progress.make_room
        with self._interrupts, self._logs, client:
            try:
                self._subscribe(None)
                # Of those that run already too: what they write while others still wait.
                self._logs.add_all(since=self._began_at)
                self._starting = _Part(client, request, self._progress, self._board, self._happened)
                while not self._is_over(summary):
                    self._wait()
                self._logs.finish()
                self._progress.close()
                if not self._detached:
                    self._finish(self._starting)
            finally:
                self._progress.close()
                for part in filter(None, (self._ending, *self._asked)):
                    part.client.close()
                if self._events is not None:
                    self._events.close()
        if self._presses:
            return EXIT_CANCELLED
        return self._cascade.exit_code if self._cascade is not None else 0

    def _wait(self) -> None:
        """Until something happens; and take all that has."""
        self._asked = [part for part in self._asked if not self._is_answered(part)]
        parts = [part for part in (self._starting, self._ending, *self._asked) if part is not None and not part.done]
        keyboard = self._keyboard if self._keyboard is not None and self._keyboard.listening else None
        limit_s = soonest(None if self._up else self._progress.interval_s, *(part.left_s() for part in parts))
        limit_s = soonest(limit_s, self._watch.left_s())
        sources = (*parts, self._events, self._interrupts, keyboard, *self._logs.sources(), *self._watch.sources())
        wait_any((source for source in sources if source is not None), limit_s)
        self._logs.pump()
        for part in parts:
            part.pump()
        self._take_events()
        self._watch.pump()
        if not self._up:
            self._progress.tick()
        self._take_interrupts()
        if keyboard is not None:
            for key in keyboard.take():
                self._press(key)

    def _is_over(self, summary: Callable[[Any], str]) -> bool:
        """Whether there is nothing more to wait for."""
        assert self._starting is not None
        if self._detached:
            return True
        if not self._starting.done:
            return False
        if self._ending is not None:
            return self._ending.done
        if self._starting.error is not None:
            return True
        if not self._up:
            self._has_come_up(self._starting.result, summary)
        look, self._may_end = self._may_end, False
        if self._watch.busy or not (look and self._ending is None and self._all_ended()):
            self._may_end = self._may_end or (look and self._watch.busy)
            return False
        self._hear_the_ends()
        return self._ending is None

    def _hear_the_ends(self) -> None:
        """All have ended, and the events that say so are there or on their way: they are told too."""
        deadline = time.monotonic() + _LAST_EVENTS_S
        while (left_s := deadline - time.monotonic()) > 0 and self._events is not None:
            if not any(name in self._selection.awaited for name in self._seen_running.values()):
                return
            wait_any([self._events], left_s)
            self._take_events()

    def _has_come_up(self, result: Any, summary: Callable[[Any], str]) -> None:
        self._progress.close()
        self._progress.summary(summary(result), result)
        self._up = self._may_end = True
        if self._menu is not None:
            from orchestrator.cli.menu import HELP

            self._progress.note(HELP)
        if self._events is None:
            self._subscribe(self._last_event_at)
        self._logs.add_all(since=self._began_at)
        self._logs.pump()
        self._watch.begin()
        if self._cascade is not None:
            self._stop_if(self._cascade.found(statuses_of(result.get("statuses", []))))

    def _finish(self, starting: _Part) -> None:
        """Raises the error of what was under way last."""
        if self._ending is not None:
            if self._ending.error is not None:
                raise self._ending.error
            if self._ending.result:
                self._have_stopped(statuses_of(self._ending.result.get("statuses", [])))
        elif starting.error is not None:
            report_failures(self._site, self._board, self._progress)
            report_left(self._site, self._board, self._progress)
            raise starting.error

    def _have_stopped(self, statuses: Iterable[ContainerStatus]) -> None:
        """All of them are told, as Docker Compose does, also those that had ended before."""
        if self._cascade is not None:
            self._cascade.found(statuses)
        for status in statuses:
            ours = status.service in self._selection.managed and status.role is Role.REPLICA
            if ours and status.phase not in LIVE:
                self._progress.note(f"Container {status.container} Stopped")

    # What happens

    def _take_events(self) -> None:
        while self._events is not None:
            try:
                message = self._events.receive(0)
            except SupervisorGone:
                self._heal()
                return
            if message is None:
                return
            if isinstance(message, EventMessage):
                self._happened(message.value)

    def _happened(self, raw: Any) -> None:
        """An event, from whichever connection it came."""
        event = event_of(raw)
        if event is None or not self._once.new(raw):
            return
        self._last_event_at = max(self._last_event_at, event.at)
        self._may_end = self._may_end or event.kind in MAY_END
        self._logs.pump()  # What was written before it comes before it.
        self._tell(event, raw)
        if event.container is not None and event.service is not None and event.kind is EventKind.CONTAINER_STARTED:
            self._seen_running[event.container] = event.service
        elif event.container is not None and event.kind in _ENDS:
            self._seen_running.pop(event.container, None)
        self._logs.notice(event, self._began_at)
        self._watch.notice(event)
        if self._cascade is not None:
            self._stop_if(self._cascade.see(event))

    def _tell(self, event: Event, raw: Any) -> None:
        if event.kind is EventKind.HOOK_OUTPUT:
            self._tell_hook(event)
            return
        noted = _NOTED if self._up else _NOTED_EARLY
        if not self._up:
            self._board.apply(event, time.monotonic())
        if event.kind in noted and self._is_ours(event):
            told = event.text
            if event.container is not None and (words := words_of(event)) != event.text:
                told = self._printer.note(event.container, words)
            self._progress.aside(told, raw)
        elif not self._up:
            self._progress.event(event, raw)

    def _tell_hook(self, event: Event) -> None:
        """What a hook writes stands among the log lines, as with Docker Compose: ``web-1 -> | line``."""
        if event.container is None or event.service not in self._selection.shown or not self._is_ours(event):
            return
        writer = self._logs.writer(event.container)
        name = ContainerId(f"{event.container} ->")
        self._printer.add({name: f"{writer.label if writer is not None else event.container} ->"})
        self._printer.write("stdout", self._printer.block(name, event.at, "stdout", event.text.encode() + b"\n"))

    def _is_ours(self, event: Event) -> bool:
        """Not of another service, and not of a one-off, which another command tells about."""
        if event.service is None:
            return True
        writer = self._logs.writer(event.container) if event.container is not None else None
        return event.service in self._selection.managed and (writer is None or writer.role in ("", Role.REPLICA.value))

    def _stop_if(self, why: str | None) -> None:
        """Stop everything, unless that is under way."""
        if why and self._ending is None:
            self._progress.note(why)
            self._begin(self._stop())

    def _all_ended(self) -> bool:
        """Whether nothing of what is waited for will run again by itself."""
        client = Client.connect(self._site)
        if client is None:
            return self._events is None
        with client:
            try:
                return not any_alive(client, self._selection.awaited, Role.REPLICA)
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

    # Keys

    def _press(self, key: str) -> None:
        from orchestrator.cli.menu import Act

        assert self._menu is not None
        pressed = self._menu.press(key)
        if pressed.text:
            self._progress.note(pressed.text)
        if pressed.act is Act.DETACH and self._ending is None:
            self._detached = True
            self._progress.note("detached: everything goes on; `pystack logs -f` follows it, `pystack down` ends it")
        elif pressed.act is Act.SHOW:
            self._logs.only = pressed.service
        elif pressed.act is Act.WATCH and self._up:
            self._toggle_watch()
        elif pressed.act is Act.RESTART and pressed.service is not None:
            client, _ = ensure_supervisor(self._site)
            request = Restart(selected([pressed.service]))
            self._asked.append(_Part(client, request, self._progress, self._board, self._happened))

    def _toggle_watch(self) -> None:
        try:
            if not self._watch.toggle():
                self._progress.note("watch: disabled")
        except PystackError as error:
            self._progress.note(f"error: {error}")

    def _is_answered(self, part: _Part) -> bool:
        if not part.done:
            return False
        if part.error is not None:
            self._progress.note(f"error: {part.error}")
        part.client.close()
        return True

    def _stop(self) -> Stop:
        return Stop(selected(self._selection.managed), self._timeout_s)

    def _begin(self, request: Stop | Kill) -> None:
        self._watch.end()
        if self._ending is not None:
            self._ending.client.close()
        client, _ = ensure_supervisor(self._site)
        self._ending = _Part(client, request, self._progress, self._board, self._happened)

    def _heal(self) -> None:
        """The supervisor has ended: start another, unless the project is gone."""
        assert self._events is not None
        self._events.close()
        self._events = None
        self._may_end = True
        self._watch.missed()
        if not self._up or self._ending is not None or FileState(self._site).load() is None:
            return  # What was asked of it will end with its own error, or we are cut off from a supervisor that lives.
        self._heals += 1
        if self._heals > MAX_HEALS:
            raise OperationError(
                f"the supervisor of project {self._site.project} has ended {self._heals} times",
                hint="the services may still run: `pystack ps` shows them; supervisor.log says why",
            )
        self._progress.note("the supervisor has ended unexpectedly: starting another")
        self._subscribe(self._last_event_at)

    def _subscribe(self, since: float | None) -> None:
        client, _ = ensure_supervisor(self._site)
        client.send(*encoded(Events(since)))
        self._events = client
