"""One operation at a time.

An operation belongs to the project and not to the client that asked for it: it goes on when the client leaves. A second one
is refused at once with who is at it and since when, but interrupts one that nobody waits for any more (its client was
killed: it might never end). `stop` and `kill` may interrupt a running one in any case (Ctrl-C).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from orchestrator.errors import EXIT_CANCELLED, BusyError, OperationError, PystackError
from orchestrator.model.names import ProjectName
from orchestrator.supervisor.faults import error_of
from orchestrator.units import format_duration
from orchestrator.values import entity, field

Work = Callable[[], Awaitable[Any]]


@entity
class _Operation:
    verb: str
    pid: int
    since: float
    gone: Callable[[], bool]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    result: Any = None
    error: PystackError | None = None


class Desk:
    def __init__(self, project: ProjectName, nursery: trio.Nursery) -> None:
        self._project = project
        self._nursery = nursery
        self._current: _Operation | None = None

    @property
    def busy(self) -> bool:
        return self._current is not None

    def under_way(self) -> BusyError | None:
        """What a second operation would be told now, or None when it would be let in."""
        return self._busy(self._current) if self._current is not None else None

    async def perform(
        self, verb: str, pid: int, work: Work, *, interrupt: bool = False, gone: Callable[[], bool] = lambda: False
    ) -> Any:
        """Run `work` as the project's operation and return its result; raises its error, or BusyError. `gone`: whether the
        client has left, asked when another operation comes.

        Cancelling the caller does not cancel the operation.
        """
        while self._current is not None:
            if not interrupt and not self._current.gone():
                raise self._busy(self._current)
            self._current.scope.cancel()
            await self._current.done.wait()
        operation = _Operation(verb, pid, trio.current_time(), gone)
        self._current = operation
        self._nursery.start_soon(self._run, operation, work)
        await operation.done.wait()
        if operation.error is not None:
            raise operation.error
        return operation.result

    async def _run(self, operation: _Operation, work: Work) -> None:
        try:
            with operation.scope:
                operation.result = await work()
            if operation.scope.cancelled_caught:
                operation.error = OperationError(f'"{operation.verb}" was interrupted', exit_code=EXIT_CANCELLED)
        except Exception as exc:
            operation.error = error_of(operation.verb, exc)
        finally:
            self._current = None
            operation.done.set()

    def _busy(self, operation: _Operation) -> BusyError:
        running_s = trio.current_time() - operation.since
        return BusyError(
            f'project {self._project} is busy: "{operation.verb}" (by process {operation.pid}) '
            f"has been running for {format_duration(running_s)}",
            hint="wait for it, or press Ctrl-C there",
        )
