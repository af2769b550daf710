"""``pystack run`` in the foreground: a container that is attended to until it has ended.

    connection A   run            held until all output has been read: only then does --rm remove the container
    connection B   events         from before the request on, so that the end is not missed
    connection C   stop, kill     one for each Ctrl-C

Output is read from the log. With a terminal its master comes over A, and what is typed goes there directly (`console`); the
keys of `detaching` leave it running. Without one stdin is copied into a pipe (`copying`). Progress goes to stderr, until
the container has started.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.cli.console import DETACHED, Terminated, on_terminal, relay
from orchestrator.cli.copying import Feeder, Output
from orchestrator.cli.detaching import Keys
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.logfiles import log_path
from orchestrator.cli.operation import Operation, report_failures, wait_any
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.plain import SilentProgress
from orchestrator.cli.render.progress import Progress
from orchestrator.cli.wire import encoded, event_of
from orchestrator.client import Client, EventMessage, SupervisorGone, ensure_supervisor
from orchestrator.client.connection import soonest
from orchestrator.contracts.control import Down, Events, Kill, Run, Selection, Stop
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.site import Site
from orchestrator.errors import EXIT_CANCELLED, OperationError
from orchestrator.model.names import ContainerId
from orchestrator.units import format_bytes

LOST_STATUS = 255
"""Of a container of which nobody knows how it ended."""
REMOVAL_S = 10.0
RETRY_S = 0.1
_ENDS = frozenset({EventKind.CONTAINER_EXITED, EventKind.CONTAINER_STOPPED, EventKind.SERVICE_FAILED})


class EndWatch:
    """Learns from events how a container has ended. `since`: epoch seconds, before it was asked for."""

    def __init__(self, site: Site, container: ContainerId, since: float) -> None:
        self._container = container
        self._client, _ = ensure_supervisor(site)
        self._client.send(*encoded(Events(since)))
        self._status: int | None = None
        self.refused = False
        """It was never started; the operation knows why."""
        self.removed = False

    def fileno(self) -> int:
        return self._client.fileno()

    def status(self) -> int | None:
        """Its exit code, as a shell has it; None while it runs. Raises SupervisorGone."""
        while self._status is None and (message := self._client.receive(0)) is not None:
            self._take(message.value if isinstance(message, EventMessage) else None)
        return self._status

    def wait_removed(self, deadline_s: float) -> None:
        """Until it has been removed, or its supervisor has ended, or `deadline_s` (time.monotonic()) has come."""
        try:
            while not self.removed and (left_s := deadline_s - time.monotonic()) > 0:
                message = self._client.receive(left_s)
                self._take(message.value if isinstance(message, EventMessage) else None)
        except SupervisorGone:
            return

    def close(self) -> None:
        self._client.close()

    def _take(self, value: object) -> None:
        event = event_of(value)
        if event is None or event.container != self._container:
            return
        if event.kind in _ENDS and self._status is None:
            code = event.detail.get("exit_status")
            self._status = code if isinstance(code, int) else LOST_STATUS
            self.refused = event.kind is EventKind.SERVICE_FAILED
        if event.kind is EventKind.CONTAINER_REMOVED:
            self.removed = True
            self._status = LOST_STATUS if self._status is None else self._status


class _Beginning(Operation):
    """The request; `started`: its container has."""

    def __init__(self, client: Client, request: Run, progress: Progress, board: Board, fds: Sequence[int]) -> None:
        super().__init__(client, request, progress, board, fds)
        self.started = False
        self._name = request.name

    def take(self, value: Any) -> None:
        super().take(value)
        event = event_of(value)
        if event is not None and event.kind is EventKind.CONTAINER_STARTED and event.container == self._name:
            self.started = True


class OneOff:
    """`request.name` is given. `feeder`: copies our stdin to it; it belongs to this object."""

    def __init__(
        self, site: Site, request: Run, progress: Progress, board: Board, feeder: Feeder | None, keys: Keys
    ) -> None:
        self._site = site
        self._request = request
        self._name = ContainerId(request.name)
        self._progress = progress
        self._board = board
        self._feeder = feeder
        self._keys = keys
        self._interrupts = Interrupts(all_that_end=True)
        self._presses = 0
        self._ending: Operation | None = None
        self._since = time.time()
        # From before its first byte on: what nobody waits for may be rotated away.
        path = log_path(site, self._name)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        self._output = Output(path, self._tell_lost, complete=True)

    def _tell_lost(self, count: int, why: str) -> None:
        self._progress.note(f"{format_bytes(count)} that {self._name} wrote are missing here: {why}")

    def run(self, client: Client) -> int:
        """Everything, until it has ended and, with ``remove``, is gone. Returns the exit code."""
        watch: EndWatch | None = None
        with self._interrupts:
            try:
                with client:
                    operation = self._begin(client)
                    if not self._start(operation):
                        return EXIT_CANCELLED
                    watch = EndWatch(self._site, self._name, self._since)
                    status = self._attend(watch, operation)
                if self._keys.typed:
                    print(DETACHED.format(self._name), file=sys.stderr)
                    return 0
                if self._request.remove:
                    watch.wait_removed(time.monotonic() + REMOVAL_S)
                return EXIT_CANCELLED if self._presses else status
            except SupervisorGone as error:
                raise OperationError(
                    f"the supervisor of project {self._site.project} has ended; {self._name} goes on without it",
                    hint="the next command starts another one: `pystack ps` shows the container, `pystack logs` its output",
                ) from error
            finally:
                self._progress.close()
                for item in (watch, self._feeder, self._output, self._ending.client if self._ending is not None else None):
                    if item is not None:
                        item.close()

    def _begin(self, client: Client) -> _Beginning:
        fds = (self._feeder.reader,) if self._feeder is not None else ()
        operation = _Beginning(client, self._request, self._progress, self._board, fds)
        if self._feeder is not None:
            self._feeder.handed_over()
        return operation

    # Starting

    def _start(self, operation: _Beginning) -> bool:
        """Until it has started. False: it was cancelled, and nothing of it is left. Raises the operation's error."""
        while not operation.done and not operation.received:
            retry_s = RETRY_S if self._presses and self._ending is None else None
            ending_s = self._ending.left_s() if self._ending is not None else None
            limit_s = soonest(self._progress.interval_s, operation.left_s(), ending_s, retry_s)
            wait_any([item for item in (operation, self._ending, self._interrupts) if item is not None], limit_s)
            operation.pump()
            self._progress.tick()
            if self._cancelled(operation):
                return False
            if not self._request.tty and operation.started:
                break
        self._progress.close()
        if isinstance(operation.error, SupervisorGone):
            raise operation.error
        if operation.error is not None and not self._presses:
            report_failures(self._site, self._board, self._progress)
            raise operation.error
        return operation.error is None

    def _cancelled(self, operation: Operation) -> bool:
        """Whether Ctrl-C has been pressed and the container is gone. It is removed: it has never run."""
        new = self._new_presses()
        if new:
            self._progress.note("cancelling (Ctrl-C again kills)" if self._presses == 1 else "killing")
        if self._presses and (new or self._ending is None):
            self._end(Down(selection=Selection(containers=(self._name,)), volumes=True, timeout_s=self._grace_s()))
        if self._ending is None:
            return False
        self._ending.pump()
        if not self._ending.done:
            return False
        if self._ending.error is not None and not operation.done:
            # It may not be there yet: the request is still being planned.
            self._ending.client.close()
            self._ending = None
            return False
        return True

    def _grace_s(self) -> float | None:
        return 0.0 if self._presses > 1 else None

    # Running

    def _attend(self, watch: EndWatch, operation: Operation) -> int:
        """Until it has ended; its exit code."""
        masters = operation.received
        status = self._on_terminal(watch, masters.pop()) if masters else self._copy(watch, operation)
        if watch.refused:
            while not operation.done:
                operation.pump(None)
        if operation.error is not None:
            raise operation.error
        return status

    def _on_terminal(self, watch: EndWatch, master: int) -> int:
        try:
            with on_terminal(master):
                return relay(watch, self._output, master, self._keys) or 0
        except (KeyboardInterrupt, Terminated):  # Keys are the container's: somebody has sent us a signal.
            self._presses += 1
            self._end(Stop(Selection(containers=(self._name,))))
            return self._stopped()
        finally:
            os.close(master)

    def _copy(self, watch: EndWatch, operation: Operation) -> int:
        """Its output to ours and our input to it."""
        output = self._output
        try:
            output.pump()
            while (status := watch.status()) is None:
                ready = self._wait(watch, output, operation)
                output.pump()
                if self._feeder is not None:
                    self._feeder.pump(ready)
                operation.pump()
                self._take_interrupts()
            output.pump()
            return status
        except BrokenPipeError:
            # Whoever reads ours is gone, as a process of ours would be by SIGPIPE.
            self._end(Stop(Selection(containers=(self._name,))))
            self._stopped()
            raise

    def _wait(self, watch: EndWatch, output: Output, operation: Operation) -> dict[int, int]:
        poll = select.poll()
        for item in (watch, output, self._interrupts, operation if not operation.done else None, self._ending):
            if item is not None:
                poll.register(item, select.POLLIN)
        if self._feeder is not None:
            self._feeder.wait_for(poll)
        limit_s = soonest(operation.left_s(), self._ending.left_s() if self._ending is not None else None)
        return dict(poll.poll(None if limit_s is None else limit_s * 1000))

    # Ending

    def _take_interrupts(self) -> None:
        if self._new_presses():
            selection = Selection(containers=(self._name,))
            self._end(Stop(selection) if self._presses == 1 else Kill(selection))
            self._progress.note("stopping (Ctrl-C again kills)" if self._presses == 1 else "killing")
        if self._ending is not None:
            self._ending.pump()
            if self._ending.done:
                self._close_ending()

    def _new_presses(self) -> int:
        """How often Ctrl-C was pressed since the last look; the third time ends us."""
        new = self._interrupts.take()
        self._presses += new
        if self._presses > 2 and new:
            raise KeyboardInterrupt
        return new

    def _end(self, request: Stop | Kill | Down) -> None:
        if self._ending is not None:
            self._ending.client.close()
        client, _ = ensure_supervisor(self._site)
        self._ending = Operation(client, request, SilentProgress(), Board())

    def _stopped(self) -> int:
        assert self._ending is not None
        while not self._ending.done:
            self._ending.pump(self._ending.left_s())
        self._close_ending()
        return EXIT_CANCELLED

    def _close_ending(self) -> None:
        """It is done; what it could not do is told."""
        assert self._ending is not None
        if self._ending.error is not None:
            self._progress.note(f"cannot stop {self._name}: {self._ending.error}")
        self._ending.client.close()
        self._ending = None
