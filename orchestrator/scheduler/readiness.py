"""``--wait``: until everything that an operation was about is ready, or one of it can no longer be."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from orchestrator.errors import OperationError
from orchestrator.model.names import ServiceName
from orchestrator.policy.conditions import Met, Never, NotYet, Verdict, ready
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.outcome import Tally

_LEAST_S = 0.001


async def until_ready(state: EngineState, services: Sequence[ServiceName], tally: Tally) -> None:
    """Until each replica of `services` is ready; at the first that can no longer be, the wait ends and `tally` says why."""
    if tally.failures:
        return
    async with trio.open_nursery() as nursery:
        for name in services:
            for container in state.replicas(name):
                nursery.start_soon(_until_ready, container, tally, nursery.cancel_scope)


async def _until_ready(container: Container, tally: Tally, scope: trio.CancelScope) -> None:
    """Judged whenever the container changes, and when time alone may change the verdict."""
    while isinstance(verdict := ready(container.facts()), NotYet):
        # Never too short for the clock to move: what rounding leaves of a second would be waited for without end.
        with trio.move_on_after(max(verdict.recheck_s, _LEAST_S) if verdict.recheck_s is not None else float("inf")):
            await container.next_change().wait()
    if isinstance(verdict, Never):
        tally.fail(container.label, container.service, container.error or OperationError(verdict.reason))
        scope.cancel()


def who_waits(state: EngineState, services: Sequence[ServiceName]) -> list[str]:
    """Why it is not ready yet, a reason for each replica that is not."""
    found: list[str] = []
    for name in services:
        for container in state.replicas(name):
            verdict: Verdict = ready(container.facts())
            if not isinstance(verdict, Met):
                found.append(verdict.reason)
    return found
