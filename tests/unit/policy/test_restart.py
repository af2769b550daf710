"""Restart decisions and the sentences that come with them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.runtime import Exit
from orchestrator.model.restart import Backoff, Budget, RestartKind, RestartPolicy
from orchestrator.policy.exits import describe_exit
from orchestrator.policy.restart import MAX_DELAY_S, GiveUp, Restart, RestartHistory, decide
from orchestrator.testing.build import policy

OK, BAD = Exit(code=0), Exit(code=1)


@dataclass(frozen=True, slots=True)
class Case:
    policy: str
    exit: Exit
    restarts: int = 0


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case("no", BAD), GiveUp("exited with code 1", "not restarted (restart: no)")),
        (Case("no", OK), GiveUp("exited with code 0", "not restarted (restart: no)")),
        (Case("always", OK), Restart(0.1, "exited with code 0; restart 1 in 100 ms (restart: always)")),
        (
            Case("unless-stopped", Exit(signal=11), 4),
            Restart(0.1, "was killed by SIGSEGV; restart 5 in 100 ms (restart: unless-stopped)"),
        ),
        (Case("on-failure", OK), GiveUp("exited with code 0", "not restarted (restart: on-failure)")),
        (Case("on-failure", BAD, 1000), Restart(0.1, "exited with code 1; restart 1001 in 100 ms (restart: on-failure)")),
        (Case("on-failure:3", BAD, 2), Restart(0.1, "exited with code 1; restart 3 in 100 ms (restart: on-failure:3)")),
        (
            Case("on-failure:3", BAD, 3),
            GiveUp("exited with code 1", "given up after 3 restarts (restart: on-failure:3)", failed=True),
        ),
        (Case("on-failure:3", OK, 3), GiveUp("exited with code 0", "not restarted (restart: on-failure:3)")),
        (
            Case("on-failure", Exit(signal=9, oom_killed=True)),
            Restart(0.1, "ran out of memory and was killed; restart 1 in 100 ms (restart: on-failure)"),
        ),
    ],
)
def test_each_policy_answers_as_docker_does(case: Case, expected: Restart | GiveUp) -> None:
    assert decide(policy(case.policy), RestartHistory(restarts=case.restarts), case.exit) == expected


@pytest.mark.parametrize("text", ["no", "always", "on-failure", "on-failure:3", "unless-stopped"])
def test_a_stop_by_the_user_suppresses_every_policy(text: str) -> None:
    found = decide(policy(text), RestartHistory(), Exit(signal=15), wanted=False)
    assert found == GiveUp("was killed by SIGTERM", "stopped by request")


def test_an_unhealthy_run_is_a_failed_one_even_when_it_then_exits_with_0() -> None:
    assert isinstance(decide(policy("on-failure"), RestartHistory(), OK, unhealthy=True), Restart)
    assert isinstance(decide(policy("on-failure"), RestartHistory(), None, unhealthy=True), Restart)
    assert decide(policy("no"), RestartHistory(), None, unhealthy=True) == GiveUp(
        "became unhealthy", "not restarted (restart: no)"
    )


def delays(runs_s: list[float]) -> list[float]:
    history = RestartHistory()
    found = []
    for run_s in runs_s:
        decision = decide(policy("always"), history.ended_after(run_s, policy("always")), BAD)
        assert isinstance(decision, Restart)
        found.append(decision.after_s)
        history = history.ended_after(run_s, policy("always")).restarted(policy("always"))
    return found


def test_the_delay_doubles_from_100_ms_to_a_minute() -> None:
    assert delays([1.0] * 12) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]


def test_a_run_of_ten_seconds_sets_the_delay_back() -> None:
    assert delays([1, 1, 1, 9.99, 10, 1]) == [0.1, 0.2, 0.4, 0.8, 0.1, 0.2]


def test_attempts_of_on_failure_are_not_given_back_by_a_long_run() -> None:
    history = RestartHistory(restarts=3, steps=3, run_s=3600)
    assert isinstance(decide(policy("on-failure:3"), history, BAD), GiveUp)


def life(policy: RestartPolicy, runs_s: list[float], *, healthy: bool = False, luck: float = 0.5) -> list[float | str]:
    """The delays after runs of so long, each ending with an error, until it is given up, with the reason."""
    history, now_s = RestartHistory(), 0.0
    found: list[float | str] = []
    for run_s in runs_s:
        now_s += run_s
        history = history.ended_after(run_s, policy, healthy=healthy)
        decision = decide(policy, history, BAD, now_s=now_s, luck=luck)
        if isinstance(decision, GiveUp):
            return [*found, decision.why]
        found.append(decision.after_s)
        history = history.restarted(policy, now_s)
        now_s += decision.after_s
    return found


ALWAYS = RestartKind.ALWAYS


def test_a_curve_has_its_own_begin_factor_and_cap() -> None:
    backoff = Backoff(first_s=1, factor=3, cap_s=20)
    assert life(RestartPolicy(ALWAYS, backoff=backoff), [0] * 5) == [1, 3, 9, 20, 20]
    assert life(RestartPolicy(ALWAYS, backoff=Backoff(5, 1, 5)), [0] * 3) == [5, 5, 5]
    assert life(RestartPolicy(ALWAYS, backoff=Backoff(1, 100, 7)), [0] * 200)[-1] == 7


def test_a_delay_of_nothing_does_not_keep_the_machine_busy() -> None:
    assert life(RestartPolicy(ALWAYS, backoff=Backoff(0, 1, 0)), [0, 0]) == [0.01, 0.01]


def test_jitter_makes_a_delay_longer_or_shorter_and_does_not_add_up() -> None:
    policy = RestartPolicy(ALWAYS, backoff=Backoff(1, 2, 100, jitter=0.5))
    assert life(policy, [0] * 4, luck=0) == [0.5, 1, 2, 4]
    assert life(policy, [0] * 4, luck=1) == [1.5, 3, 6, 12]


def test_the_delays_begin_anew_after_a_healthy_run_if_so_asked() -> None:
    policy = RestartPolicy(ALWAYS, backoff=Backoff(1, 2, 100, healthy_resets=True))
    assert life(policy, [100] * 3) == [1, 2, 4]
    assert life(policy, [0.1] * 3, healthy=True) == [1, 1, 1]


def test_a_restart_that_lasted_for_the_window_does_not_count() -> None:
    policy = RestartPolicy(ALWAYS, max_attempts=2, window_s=5)
    assert life(policy, [1, 1, 1]) == [0.1, 0.2, "given up after 2 restarts that lasted less than 5s (restart: always:2)"]
    assert len(life(policy, [1, 1, 6, 1, 1])) == 4
    assert len(life(policy, [1, 6, 6, 6, 6, 6, 6])) == 7
    assert len(life(RestartPolicy(ALWAYS, max_attempts=2), [1, 6, 6, 6])) == 3


def test_a_budget_is_of_any_such_time() -> None:
    policy = RestartPolicy(ALWAYS, backoff=Backoff(1, 1, 1), budget=Budget(2, 60))
    spent = "given up: its restarts are spent, 2 within 1m (x-pystack.restart.budget)"
    assert life(policy, [10, 10, 10]) == [1, 1, spent]
    assert life(policy, [50, 50, 50, 50, 50]) == [1] * 5
    assert life(policy, [50, 50, 5]) == [1, 1, spent]


@given(st.lists(st.floats(0, 100), max_size=30))
def test_no_delay_is_ever_longer_than_a_minute_or_shorter_than_100_ms(runs_s: list[float]) -> None:
    assert all(0.1 <= delay_s <= MAX_DELAY_S for delay_s in delays(runs_s))


@pytest.mark.parametrize(
    ("exit", "text"),
    [
        (Exit(code=127), "exited with code 127"),
        (Exit(signal=35), "was killed by SIGRTMIN+1"),
        (Exit(signal=9, oom_killed=True, oom_kills=2), "ran out of memory and was killed"),
        (Exit(code=3, oom_kills=1), "exited with code 3 (before, the kernel killed 1 of its processes for want of memory)"),
        (
            Exit(signal=15, oom_kills=2),
            "was killed by SIGTERM (before, the kernel killed 2 of its processes for want of memory)",
        ),
        (Exit(), "ended while nobody watched (exit status lost)"),
    ],
)
def test_exits_read_as_sentences(exit: Exit, text: str) -> None:
    assert describe_exit(exit) == text
