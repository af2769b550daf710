"""Probe results to health."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.health import Health, ProbeResult
from orchestrator.policy.health import HealthState, describe_probe, fold, next_probe_s
from orchestrator.testing.build import check

GOOD = ProbeResult(0, "fine", 0.1)
BAD = ProbeResult(1, "one\nconnection refused\n", 0.1)
SLOW = ProbeResult(None, "", 5.0)


def folded(*probes: ProbeResult, retries: int = 3, start_period_s: float = 0, age_s: float = 100) -> HealthState:
    state = HealthState(check(retries=retries, start_period_s=start_period_s))
    for probe in probes:
        state = fold(state, probe, age_s)
    return state


def test_one_success_is_healthy() -> None:
    state = folded(BAD, BAD, GOOD)
    assert (state.status, state.failures, state.reason) == (Health.HEALTHY, 0, "probe 3 passed")


def test_retries_failures_in_a_row_are_unhealthy() -> None:
    assert folded(BAD, BAD).status is Health.STARTING
    state = folded(BAD, BAD, SLOW)
    assert state.status is Health.UNHEALTHY
    assert state.reason == "unhealthy: 3 probes in a row failed, the last one timed out"


def test_failures_that_are_not_in_a_row_do_not_add_up() -> None:
    assert folded(BAD, BAD, GOOD, BAD, BAD).status is Health.HEALTHY


def test_an_unhealthy_service_becomes_healthy_by_one_success() -> None:
    assert folded(BAD, BAD, BAD, GOOD).status is Health.HEALTHY


def test_failures_inside_the_start_period_do_not_count() -> None:
    state = folded(BAD, BAD, BAD, BAD, start_period_s=10, age_s=9.9)
    assert (state.status, state.failures, state.number) == (Health.STARTING, 0, 4)
    assert fold(state, BAD, 10.0).failures == 1


def test_a_success_ends_the_start_period() -> None:
    assert folded(GOOD, BAD, BAD, BAD, start_period_s=10, age_s=1).status is Health.UNHEALTHY


def test_a_success_inside_the_start_period_is_healthy() -> None:
    assert folded(GOOD, start_period_s=10, age_s=1).status is Health.HEALTHY


def test_the_start_interval_holds_inside_the_start_period_until_healthy() -> None:
    state = HealthState(check(30, start_period_s=60, start_interval_s=2))
    assert next_probe_s(state, 0) == 2
    assert next_probe_s(state, 59.9) == 2
    assert next_probe_s(state, 60) == 30
    assert next_probe_s(fold(state, GOOD, 4), 5) == 30


def test_without_a_start_period_the_first_probe_comes_after_one_interval() -> None:
    assert next_probe_s(HealthState(check(30, start_interval_s=2)), 0) == 30


def test_the_last_five_results_are_kept() -> None:
    assert folded(BAD, *[GOOD] * 5).results == (GOOD,) * 5


def test_a_probe_reads_as_a_sentence_with_its_last_line() -> None:
    assert describe_probe(BAD) == "failed with code 1: connection refused"
    assert describe_probe(SLOW) == "timed out"
    assert describe_probe(GOOD) == "passed"


def test_zero_retries_count_as_one() -> None:
    assert folded(BAD, retries=0).status is Health.UNHEALTHY


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5))
def test_the_status_is_what_the_last_results_say(oks: list[bool], retries: int) -> None:
    state = folded(*(GOOD if ok else BAD for ok in oks), retries=retries)
    row = next((number for number, ok in enumerate(reversed(oks)) if ok), len(oks))
    if oks and oks[-1]:
        assert state.status is Health.HEALTHY
    elif row >= retries:
        assert state.status is Health.UNHEALTHY
    assert state.failures == row
    assert state.number == len(oks)


def test_the_first_probe_comes_an_interval_after_the_start_period_at_the_latest() -> None:
    state = HealthState(check(0.5, start_period_s=1, start_interval_s=20))
    assert next_probe_s(state, 0) == 1.5
    assert next_probe_s(state, 0.9) == pytest.approx(0.6)
