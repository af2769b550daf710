"""What an operation asks of a container: every pair has an answer, and the stories in the module's text hold."""

from __future__ import annotations

from functools import reduce

import pytest

from orchestrator.policy.requests import TABLE, Ask, Step, step

ALONE, AGAIN = (Step.ASK_START, Step.BEGUN), (Step.ASK_RESTART, Step.MAKE_WAY, Step.AT_REST, Step.BEGUN)


def after(*events: Step, start: Ask = Ask.NOTHING) -> Ask:
    return reduce(step, events, start)


def test_every_pair_has_an_answer() -> None:
    assert TABLE.keys() == {(ask, event) for ask in Ask for event in Step}


@pytest.mark.parametrize("story", [ALONE, AGAIN, (Step.ASK_STOP, Step.AT_REST)])
def test_each_story_ends_with_nothing_asked(story: tuple[Step, ...]) -> None:
    assert after(*story) is Ask.NOTHING
    assert all(after(*story[:count]) is not Ask.NOTHING for count in range(1, len(story)))


def test_a_restart_by_policy_is_not_the_start_that_an_operation_means() -> None:
    assert after(Step.ASK_RESTART, Step.BEGUN).pending
    assert after(Step.ASK_RESTART, Step.MAKE_WAY, Step.BEGUN).pending
    assert not after(Step.ASK_START, Step.BEGUN).pending


def test_a_stop_under_way_is_never_called_back_and_a_start_comes_after_it() -> None:
    for event in (Step.ASK_START, Step.ASK_RESTART, Step.MAKE_WAY):
        assert after(Step.ASK_STOP, event).ending
        assert after(Step.ASK_STOP, event, Step.AT_REST, Step.BEGUN) is Ask.NOTHING
    assert after(Step.ASK_STOP, Step.WITHDRAWN).ending
    assert after(Step.MAKE_WAY, Step.WITHDRAWN) is Ask.STOP


def test_whatever_was_asked_rest_ends_all_ending() -> None:
    assert not any(step(ask, Step.AT_REST).ending for ask in Ask)
