"""Met, not yet, never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.runtime import Exit
from orchestrator.model.health import Health
from orchestrator.model.phase import Phase
from orchestrator.model.service import Condition
from orchestrator.policy.conditions import PATIENCE_RUNS, SETTLED_S, Facts, Met, Never, NotYet, evaluate, gather, ready
from orchestrator.policy.restart import RESET_AFTER_S
from orchestrator.testing.build import COMPLETED, HEALTHY, STARTED, edge
from orchestrator.values import replace

DB = Facts("db", started=True)
OK, BAD = Exit(code=0), Exit(code=3)


def facts(phase: Phase, **fields: object) -> Facts:
    """With a health, it has a health check."""
    return replace(DB, phase=phase, checked="health" in fields, **fields)


MET, NOT_YET, NEVER = Met, NotYet, Never
Expected = type[Met] | type[NotYet] | type[Never]


@pytest.mark.parametrize(
    ("condition", "found", "expected"),
    [
        (STARTED, facts(Phase.RUNNING), MET),
        (STARTED, facts(Phase.BACKOFF, exit=BAD), MET),
        (STARTED, facts(Phase.EXITED, exit=BAD), MET),
        (STARTED, facts(Phase.EXITED, exit=OK, started=False), NEVER),
        (STARTED, facts(Phase.FAILED, reason="command not found"), NEVER),
        (STARTED, facts(Phase.BLOCKED), NEVER),
        (STARTED, facts(Phase.ABSENT), NEVER),
        (HEALTHY, facts(Phase.RUNNING, health=Health.STARTING), NOT_YET),
        (HEALTHY, facts(Phase.RUNNING, health=Health.HEALTHY), MET),
        (HEALTHY, facts(Phase.RUNNING, health=Health.UNHEALTHY), NEVER),
        (HEALTHY, facts(Phase.RUNNING), NEVER),
        (HEALTHY, facts(Phase.EXITED, health=Health.STARTING, exit=OK), NEVER),
        (HEALTHY, facts(Phase.BACKOFF, health=Health.STARTING, exit=BAD), NOT_YET),
        (HEALTHY, facts(Phase.BACKOFF, health=Health.STARTING, exit=BAD, ended_runs=PATIENCE_RUNS), NEVER),
        (HEALTHY, facts(Phase.STOPPING, health=Health.HEALTHY, wanted=False), NEVER),
        (HEALTHY, facts(Phase.STOPPING, health=Health.UNHEALTHY), NEVER),
        (COMPLETED, facts(Phase.RUNNING), NOT_YET),
        (COMPLETED, facts(Phase.EXITED, exit=OK), MET),
        (COMPLETED, facts(Phase.EXITED, exit=OK, started=False), MET),
        (COMPLETED, facts(Phase.BACKOFF, exit=OK), MET),
        (COMPLETED, facts(Phase.EXITED, exit=BAD), NEVER),
        (COMPLETED, facts(Phase.BACKOFF, exit=BAD), NOT_YET),
        (COMPLETED, facts(Phase.BACKOFF, exit=BAD, ended_runs=PATIENCE_RUNS), NEVER),
        (COMPLETED, facts(Phase.FAILED, exit=BAD), NEVER),
        (COMPLETED, facts(Phase.STOPPING, wanted=False), NEVER),
    ],
)
def test_each_condition_is_judged_by_what_happened(condition: Condition, found: Facts, expected: Expected) -> None:
    assert isinstance(evaluate(edge("db", condition), found), expected)


@pytest.mark.parametrize("condition", list(Condition))
def test_what_was_before_a_pending_start_does_not_count(condition: Condition) -> None:
    found = facts(Phase.EXITED, exit=OK, pending=True)
    assert evaluate(edge("db", condition), found) == NotYet("db has not been started yet")
    assert isinstance(ready(found), NotYet)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (facts(Phase.RUNNING), NOT_YET),
        (facts(Phase.RUNNING, age_s=SETTLED_S), MET),
        (facts(Phase.RUNNING, age_s=SETTLED_S, ended_runs=1), NOT_YET),
        (facts(Phase.RUNNING, age_s=RESET_AFTER_S, ended_runs=1), MET),
        (facts(Phase.RUNNING, health=Health.STARTING), NOT_YET),
        (facts(Phase.RUNNING, health=Health.HEALTHY), MET),
        (facts(Phase.RUNNING, health=Health.UNHEALTHY), NEVER),
        (facts(Phase.EXITED, exit=OK), MET),
        (facts(Phase.EXITED, exit=OK, health=Health.STARTING), MET),
        (facts(Phase.EXITED, exit=BAD), NEVER),
        (facts(Phase.BACKOFF, exit=BAD, ended_runs=1), NOT_YET),
        (facts(Phase.BACKOFF, exit=BAD, ended_runs=PATIENCE_RUNS), NEVER),
        (facts(Phase.BLOCKED), NEVER),
    ],
)
def test_up_wait_is_content_with_healthy_running_or_a_one_shot_that_ended_well(found: Facts, expected: Expected) -> None:
    assert isinstance(ready(found), expected)


def test_never_says_why() -> None:
    never = evaluate(edge("db", HEALTHY), facts(Phase.EXITED, health=Health.STARTING, exit=BAD))
    assert never == Never("db exited with code 3 before it was healthy")
    assert evaluate(edge("db", HEALTHY), facts(Phase.RUNNING)) == Never(
        "db has no health check, so it can never be healthy"
    )
    failing = facts(Phase.BACKOFF, health=Health.STARTING, exit=BAD, ended_runs=5)
    assert evaluate(edge("db", HEALTHY), failing) == Never(
        "db ended 5 times before it was healthy, the last time it exited with code 3"
    )


@given(
    st.sampled_from(Phase),
    st.sampled_from(Health),
    st.sampled_from([None, OK, BAD]),
    st.booleans(),
    st.sampled_from(list(Condition)),
)
def test_a_service_at_rest_is_never_waited_for(
    phase: Phase, health: Health, exit: Exit | None, started: bool, condition: Condition
) -> None:
    """No wait without an end: only what is alive, or about to be started, can still change by itself."""
    checked = health is not Health.NONE
    found = Facts("db", phase, started=started, checked=checked, health=health, exit=exit, ended_runs=PATIENCE_RUNS)
    if isinstance(evaluate(edge("db", condition), found), NotYet):
        assert phase is Phase.RUNNING


def test_a_service_meets_a_condition_when_all_its_replicas_do() -> None:
    later, sooner, never = NotYet("a"), NotYet("b"), Never("c")
    assert gather([]) == Met()
    assert gather([Met(), Met()]) == Met()
    assert gather([Met(), later, sooner]) == later
    assert gather([later, Met(), never]) == never
