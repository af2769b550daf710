"""Met, not yet, never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.runtime import Exit
from orchestrator.model.names import ServiceName
from orchestrator.model.service import Condition
from orchestrator.policy.conditions import PATIENCE_RUNS, Facts, Met, Never, NotYet, evaluate, ready
from orchestrator.policy.health import Status
from orchestrator.policy.lifecycle import State
from orchestrator.testing.build import COMPLETED, HEALTHY, STARTED, edge
from orchestrator.values import replace

DB = Facts(ServiceName("db"), started=True)
OK, BAD = Exit(code=0), Exit(code=3)


def facts(state: State, **fields: object) -> Facts:
    return replace(DB, state=state, **fields)


MET, NOT_YET, NEVER = Met, NotYet, Never
Expected = type[Met] | type[NotYet] | type[Never]


@pytest.mark.parametrize(
    ("condition", "found", "expected"),
    [
        (STARTED, facts(State.RUNNING), MET),
        (STARTED, facts(State.BACKOFF, exit=BAD), MET),
        (STARTED, facts(State.EXITED, exit=BAD), MET),
        (STARTED, facts(State.EXITED, exit=OK, started=False), NEVER),
        (STARTED, facts(State.FAILED, reason="command not found"), NEVER),
        (STARTED, facts(State.BLOCKED), NEVER),
        (STARTED, facts(State.ABSENT), NEVER),
        (HEALTHY, facts(State.RUNNING, health=Status.STARTING), NOT_YET),
        (HEALTHY, facts(State.RUNNING, health=Status.HEALTHY), MET),
        (HEALTHY, facts(State.RUNNING, health=Status.UNHEALTHY), NEVER),
        (HEALTHY, facts(State.RUNNING, health=None), NEVER),
        (HEALTHY, facts(State.EXITED, health=Status.STARTING, exit=OK), NEVER),
        (HEALTHY, facts(State.BACKOFF, health=Status.STARTING, exit=BAD), NOT_YET),
        (HEALTHY, facts(State.BACKOFF, health=Status.STARTING, exit=BAD, ended_runs=PATIENCE_RUNS), NEVER),
        (HEALTHY, facts(State.STOPPING, health=Status.HEALTHY, wanted=False), NEVER),
        (HEALTHY, facts(State.STOPPING, health=Status.UNHEALTHY), NEVER),
        (COMPLETED, facts(State.RUNNING), NOT_YET),
        (COMPLETED, facts(State.EXITED, exit=OK), MET),
        (COMPLETED, facts(State.EXITED, exit=OK, started=False), MET),
        (COMPLETED, facts(State.BACKOFF, exit=OK), MET),
        (COMPLETED, facts(State.EXITED, exit=BAD), NEVER),
        (COMPLETED, facts(State.BACKOFF, exit=BAD), NOT_YET),
        (COMPLETED, facts(State.BACKOFF, exit=BAD, ended_runs=PATIENCE_RUNS), NEVER),
        (COMPLETED, facts(State.FAILED, exit=BAD), NEVER),
        (COMPLETED, facts(State.STOPPING, wanted=False), NEVER),
    ],
)
def test_each_condition_is_judged_by_what_happened(condition: Condition, found: Facts, expected: Expected) -> None:
    assert isinstance(evaluate(edge("db", condition), found), expected)


@pytest.mark.parametrize("condition", list(Condition))
def test_what_was_before_a_pending_start_does_not_count(condition: Condition) -> None:
    found = facts(State.EXITED, exit=OK, pending=True)
    assert evaluate(edge("db", condition), found) == NotYet("db has not been started yet")
    assert isinstance(ready(found), NotYet)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (facts(State.RUNNING), MET),
        (facts(State.RUNNING, health=Status.STARTING), NOT_YET),
        (facts(State.RUNNING, health=Status.HEALTHY), MET),
        (facts(State.RUNNING, health=Status.UNHEALTHY), NEVER),
        (facts(State.EXITED, exit=OK), MET),
        (facts(State.EXITED, exit=OK, health=Status.STARTING), MET),
        (facts(State.EXITED, exit=BAD), NEVER),
        (facts(State.BACKOFF, exit=BAD, ended_runs=1), NOT_YET),
        (facts(State.BACKOFF, exit=BAD, ended_runs=PATIENCE_RUNS), NEVER),
        (facts(State.BLOCKED), NEVER),
    ],
)
def test_up_wait_is_content_with_healthy_running_or_a_one_shot_that_ended_well(found: Facts, expected: Expected) -> None:
    assert isinstance(ready(found), expected)


def test_never_says_why() -> None:
    never = evaluate(edge("db", HEALTHY), facts(State.EXITED, health=Status.STARTING, exit=BAD))
    assert never == Never("db exited with code 3 before it was healthy")
    assert evaluate(edge("db", HEALTHY), facts(State.RUNNING)) == Never(
        "db has no health check, so it can never be healthy"
    )
    failing = facts(State.BACKOFF, health=Status.STARTING, exit=BAD, ended_runs=5)
    assert evaluate(edge("db", HEALTHY), failing) == Never(
        "db ended 5 times before it was healthy, the last time it exited with code 3"
    )


@given(
    st.sampled_from(State),
    st.sampled_from([None, *Status]),
    st.sampled_from([None, OK, BAD]),
    st.booleans(),
    st.sampled_from(list(Condition)),
)
def test_a_service_at_rest_is_never_waited_for(
    state: State, health: Status | None, exit: Exit | None, started: bool, condition: Condition
) -> None:
    """No wait without an end: only what is alive, or about to be started, can still change by itself."""
    found = Facts(ServiceName("db"), state, started=started, health=health, exit=exit, ended_runs=PATIENCE_RUNS)
    if isinstance(evaluate(edge("db", condition), found), NotYet):
        assert state is State.RUNNING
