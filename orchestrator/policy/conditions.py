"""Whether a dependency's condition is met, not met yet, or can never be met.

The verdict on one container is formed on what has happened to it since the current operation touched it (`Facts`), at the
moment it happens: one that was healthy for an instant has met the condition, one that ended before has not. A service meets
a condition when all its replicas do (`gather`). There is no wait without an end: a container that keeps ending is waited
for through `PATIENCE_RUNS` runs and no longer, even when its restart policy would go on for ever. (A job that runs is
waited for as long as it runs.) One that is unhealthy is given up only when nobody cures it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from orchestrator.model.health import Health
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import LIVE, Phase
from orchestrator.model.service import Condition, Dependency
from orchestrator.policy.exits import ExitView, describe_exit, succeeded
from orchestrator.policy.restart import RESET_AFTER_S
from orchestrator.values import frozen

PATIENCE_RUNS = 5
SETTLED_S = 1.0
"""A run without a health check counts as ready (``up --wait``) after so long; `RESET_AFTER_S` when one has ended before it:
what crashes at once, or again and again, is not ready between its crashes."""


@frozen
class Facts:
    """What the conditions look at. `name`: of the container, as a user reads it.

    `pending`: the current operation will start it, and has not yet: what was before does not count. `started`: a run
    began in the current operation. `checked`: it has a health check. `exit`: of the last run that ended.
    `ended_runs`: runs that ended, not on request, since the operation began. `age_s`: of the run.
    `curing`: its run is unhealthy, and ended so that the restart policy begins another. `wanted`: the user wants it to run.
    `reason`: why it is as it is, one sentence. `hook`: what of its ``post_start`` is under way. `failed_hook`: how one of
    its hooks failed in this run, one sentence, "" for none.
    """

    name: str
    phase: Phase = Phase.ABSENT
    pending: bool = False
    started: bool = False
    checked: bool = False
    health: Health = Health.NONE
    curing: bool = False
    exit: ExitView | None = None
    ended_runs: int = 0
    age_s: float = 0.0
    wanted: bool = True
    reason: str = ""
    hook: str = ""
    failed_hook: str = ""


@frozen
class Met:
    pass


@frozen
class NotYet:
    """`recheck_s`: time alone may change the verdict, in so many seconds."""

    reason: str
    recheck_s: float | None = None


@frozen
class Never:
    reason: str


Verdict = Met | NotYet | Never

_RESTARTING = LIVE - {Phase.RUNNING, Phase.PAUSED}


def gather(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a service from those on its replicas: Never if one says so, Met if all do (or there are none)."""
    waiting: NotYet | None = None
    for verdict in verdicts:
        match verdict:
            case Never():
                return verdict
            case NotYet():
                waiting = waiting or verdict
            case Met():
                pass
    return waiting or Met()


def evaluate(dependency: Dependency, facts: Facts) -> Verdict:
    """The verdict on one edge and one replica. `dependency.required` is for the caller to heed: Never of an optional one
    only warns."""
    if facts.pending:
        return NotYet(f"{facts.name} has not been started yet")
    if dependency.condition is not Condition.COMPLETED and (held := _held_by_hook(facts)) is not None:
        return held
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
    """Whether ``up --wait`` is content: healthy, or settled when there is no health check, or ended with code 0."""
    if facts.pending:
        return NotYet(f"{facts.name} has not been started yet")
    if facts.phase is Phase.EXITED and facts.exit is not None and succeeded(facts.exit):
        return Met()
    if (held := _held_by_hook(facts)) is not None:
        return held
    if facts.checked:
        return _healthy(facts)
    if facts.phase is Phase.RUNNING:
        left_s = (RESET_AFTER_S if facts.ended_runs else SETTLED_S) - facts.age_s
        return Met() if left_s <= 0 else NotYet(f"{facts.name} has just been started", left_s)
    return _patient(facts, "running") if facts.phase in _RESTARTING and facts.wanted else Never(_why_not(facts))


def recovered(facts: Facts) -> Verdict:
    """Whether what has crashed is back: it runs, and is healthy if it has a health check. Never: nobody starts it again."""
    if facts.phase is Phase.RUNNING and not facts.hook and (not facts.checked or facts.health is Health.HEALTHY):
        return Met()
    return NotYet(f"{facts.name} is not back yet") if facts.phase in LIVE or facts.pending else Never(_why_not(facts))


def _held_by_hook(facts: Facts) -> NotYet | Never | None:
    """What has started counts as such when its ``post_start`` is done, and not at all when that has failed."""
    if facts.phase is not Phase.RUNNING:
        return None
    if facts.failed_hook:
        return Never(facts.failed_hook)
    return NotYet(f"{facts.hook} of {facts.name} is not done yet") if facts.hook else None


def _started(facts: Facts) -> Verdict:
    if facts.phase in LIVE or (facts.phase is Phase.EXITED and facts.started):
        return Met()
    return Never(_why_not(facts))


def _healthy(facts: Facts) -> Verdict:
    if not facts.checked and facts.phase in LIVE:
        return Never(f"{facts.name} has no health check, so it can never be healthy")
    if facts.phase is Phase.RUNNING:
        match facts.health:
            case Health.HEALTHY:
                return Met()
            case Health.UNHEALTHY if facts.curing:
                return _patient(facts, "healthy")
            case Health.UNHEALTHY:
                return Never(facts.reason or f"{facts.name} is unhealthy")
            case _:
                return NotYet(f"{facts.name} is not healthy yet")
    if facts.phase in _RESTARTING and facts.wanted:
        return _patient(facts, "healthy")
    return Never(_why_not(facts, " before it was healthy"))


def _completed(facts: Facts) -> Verdict:
    if facts.exit is not None and succeeded(facts.exit) and facts.phase in (Phase.EXITED, Phase.BACKOFF):
        return Met()
    if facts.phase is Phase.RUNNING and facts.wanted:
        return NotYet(f"{facts.name} is still running")
    if facts.phase in _RESTARTING and facts.wanted:
        return _patient(facts, "completed")
    return Never(_why_not(facts))


def _patient(facts: Facts, goal: str) -> Verdict:
    ends_for_good = facts.phase is Phase.STOPPING and not facts.curing
    if facts.health is Health.UNHEALTHY and goal == "healthy" and ends_for_good:
        return Never(f"{facts.name} became unhealthy")
    if facts.ended_runs >= PATIENCE_RUNS:
        last = f", the last time it {describe_exit(facts.exit)}" if facts.exit is not None else ""
        return Never(f"{facts.name} ended {facts.ended_runs} times before it was {goal}{last}")
    return NotYet(f"{facts.name} is being restarted")


def _why_not(facts: Facts, when: str = "") -> str:
    match facts.phase:
        case Phase.EXITED if facts.exit is not None:
            return f"{facts.name} {describe_exit(facts.exit)}{when}"
        case Phase.FAILED:
            return f"{facts.name} failed: {facts.reason}" if facts.reason else f"{facts.name} failed"
        case Phase.PAUSED:
            return f"{facts.name} is paused"
        case Phase.BLOCKED:
            return f"{facts.name} is blocked: {facts.reason}" if facts.reason else f"{facts.name} is blocked"
        case _ if not facts.wanted:
            return f"{facts.name} was stopped by request"
        case _:
            return f"{facts.name} is not running and is not being started"


def absent(service: ServiceName) -> Facts:
    """Of a service that has no container and gets none."""
    return Facts(service)
