"""What an operation waits for when all that it starts has been started: with ``--wait``, until everything that it was about
is ready, or one of it can no longer be; without, until what runs on has again what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import trio

from orchestrator.errors import OperationError
from orchestrator.model.names import ServiceName
from orchestrator.model.service import Dependency
from orchestrator.plan.plan import Kind, Plan
from orchestrator.policy.conditions import Met, Never, NotYet, Verdict, evaluate, ready
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.outcome import Failure, Tally

_LEAST_S = 0.001


async def until_ready(state: EngineState, services: Sequence[ServiceName], tally: Tally) -> None:
    """Until each replica of `services` is ready; at the first that can no longer be, the wait ends and `tally` says why."""
    if tally.failures:
        return
    async with trio.open_nursery() as nursery:
        for name in services:
            for container in state.replicas(name):
                nursery.start_soon(_until, _ready, container, tally, nursery.cancel_scope)


def _ready(container: Container) -> Verdict:
    return ready(container.facts())


async def _until(
    judge: Callable[[Container], Verdict], container: Container, tally: Tally, scope: trio.CancelScope
) -> None:
    """Judged whenever the container changes, and when time alone may change the verdict."""
    while isinstance(verdict := judge(container), NotYet):
        # Never too short for the clock to move: what rounding leaves of a second would be waited for without end.
        with trio.move_on_after(max(verdict.recheck_s, _LEAST_S) if verdict.recheck_s is not None else float("inf")):
            await container.next_change().wait()
    if isinstance(verdict, Never):
        tally.fail(container.label, container.service, container.error or OperationError(verdict.reason))
        scope.cancel()


async def until_met_again(state: EngineState, plan: Plan) -> tuple[Failure, ...]:
    """Until the conditions hold that the services of `plan` which run on have on those which it has started: a migration
    that has changed is waited for although its dependent runs, as Docker Compose does. At the first that can never be met
    the wait ends, and its failure is returned; the dependent is left as it is. Optional dependencies are not waited for."""
    started = {operation.container for operation in plan.of(Kind.START)}
    edges = [
        (edge, container)
        for name in plan.selection
        if any(item.live and item.id not in started for item in state.replicas(name))
        for edge in plan.project.services[name].depends_on.values()
        if edge.required
        for container in state.replicas(edge.service)
        if container.id in started
    ]
    tally = Tally()
    async with trio.open_nursery() as nursery:
        for edge, container in edges:
            nursery.start_soon(_until, partial(_met, edge), container, tally, nursery.cancel_scope)
    return tuple(tally.failures.values())


def _met(edge: Dependency, container: Container) -> Verdict:
    """Nobody waits for one that is about to be removed."""
    return Met() if container.doomed else evaluate(edge, container.facts())


def who_waits(state: EngineState, services: Sequence[ServiceName]) -> list[str]:
    """Why it is not ready yet, a reason for each replica that is not."""
    found: list[str] = []
    for name in services:
        for container in state.replicas(name):
            verdict: Verdict = ready(container.facts())
            if not isinstance(verdict, Met):
                found.append(verdict.reason)
    return found
