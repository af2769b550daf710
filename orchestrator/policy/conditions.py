"""Whether a dependency's condition is met, not met yet, or can never be met.

The verdict is formed on what has happened to a service since the current operation touched it (`Facts`), at the moment
it happens: a dependency that was healthy for an instant has met the condition, one that ended before has not. There is
no wait without an end: a service that keeps ending is waited for through `PATIENCE_RUNS` runs and no longer, even when
its restart policy would go on for ever. (A job that runs is waited for as long as it runs.)
"""

from __future__ import annotations

from typing import assert_never

from orchestrator.model.names import ServiceName
from orchestrator.model.service import Condition, Dependency
from orchestrator.policy.exits import ExitView, describe_exit, succeeded
from orchestrator.policy.health import Status
from orchestrator.policy.lifecycle import State
from orchestrator.values import frozen

PATIENCE_RUNS = 5


@frozen
class Facts:
    """What the conditions look at.

    `pending`: the current operation will start it, and has not yet: what was before does not count. `started`: a run
    began in the current operation. `health`: None without a health check. `exit`: of the last run that ended.
    `ended_runs`: runs that ended, not on request, since the operation began.
    `wanted`: the user wants it to run. `reason`: why it is as it is, one sentence.
    """

    service: ServiceName
    state: State = State.ABSENT
    pending: bool = False
    started: bool = False
    health: Status | None = None
    exit: ExitView | None = None
    ended_runs: int = 0
    wanted: bool = True
    reason: str = ""


@frozen
class Met:
    pass


@frozen
class NotYet:
    reason: str


@frozen
class Never:
    reason: str


Verdict = Met | NotYet | Never

_RESTARTING = frozenset({State.BACKOFF, State.STARTING, State.STOPPING})
_LIVE = _RESTARTING | {State.RUNNING}


def evaluate(dependency: Dependency, facts: Facts) -> Verdict:
    """The verdict on one edge. `dependency.required` is for the caller to heed: Never of an optional one only warns."""
    if facts.pending:
        return NotYet(f"{facts.service} has not been started yet")
    match dependency.condition:
        case Condition.STARTED:
            return _started(facts)
        case Condition.HEALTHY:
            return _healthy(facts)
        case Condition.COMPLETED:
            return _completed(facts)
        case _:
            assert_never(dependency.condition)


def ready(facts: Facts) -> Verdict:
    """Whether ``up --wait`` is content: healthy, or running when there is no health check, or ended with code 0."""
    if facts.pending:
        return NotYet(f"{facts.service} has not been started yet")
    if facts.state is State.EXITED and facts.exit is not None and succeeded(facts.exit):
        return Met()
    if facts.health is not None:
        return _healthy(facts)
    if facts.state is State.RUNNING:
        return Met()
    return _patient(facts, "running") if facts.state in _RESTARTING and facts.wanted else Never(_why_not(facts))


def _started(facts: Facts) -> Verdict:
    if facts.state in _LIVE or (facts.state is State.EXITED and facts.started):
        return Met()
    return Never(_why_not(facts))


def _healthy(facts: Facts) -> Verdict:
    if facts.health is None and facts.state in _LIVE:
        return Never(f"{facts.service} has no health check, so it can never be healthy")
    if facts.state is State.RUNNING:
        match facts.health:
            case Status.HEALTHY:
                return Met()
            case Status.UNHEALTHY:
                return Never(facts.reason or f"{facts.service} is unhealthy")
            case _:
                return NotYet(f"{facts.service} is not healthy yet")
    if facts.state in _RESTARTING and facts.wanted:
        return _patient(facts, "healthy")
    return Never(_why_not(facts, " before it was healthy"))


def _completed(facts: Facts) -> Verdict:
    if facts.exit is not None and succeeded(facts.exit) and facts.state in (State.EXITED, State.BACKOFF):
        return Met()
    if facts.state is State.RUNNING and facts.wanted:
        return NotYet(f"{facts.service} is still running")
    if facts.state in _RESTARTING and facts.wanted:
        return _patient(facts, "completed")
    return Never(_why_not(facts))


def _patient(facts: Facts, goal: str) -> Verdict:
    if facts.health is Status.UNHEALTHY and goal == "healthy":
        return Never(f"{facts.service} became unhealthy")
    if facts.ended_runs >= PATIENCE_RUNS:
        last = f", the last time it {describe_exit(facts.exit)}" if facts.exit is not None else ""
        return Never(f"{facts.service} ended {facts.ended_runs} times before it was {goal}{last}")
    return NotYet(f"{facts.service} is being restarted")


def _why_not(facts: Facts, when: str = "") -> str:
    match facts.state:
        case State.EXITED if facts.exit is not None:
            return f"{facts.service} {describe_exit(facts.exit)}{when}"
        case State.FAILED:
            return f"{facts.service} failed: {facts.reason}" if facts.reason else f"{facts.service} failed"
        case State.BLOCKED:
            return f"{facts.service} is blocked: {facts.reason}" if facts.reason else f"{facts.service} is blocked"
        case _ if not facts.wanted:
            return f"{facts.service} was stopped by request"
        case _:
            return f"{facts.service} is not running and is not being started"
