"""The lifecycle table: complete, closed, and the impossible pairs by hand."""

from __future__ import annotations

import pytest

from orchestrator.contracts.events import Phase
from orchestrator.policy.lifecycle import TABLE, Effect, Trigger, State, step

S, H = State, Trigger

IMPOSSIBLE: dict[State, set[Trigger]] = {
    # Without a sandbox nothing can be started, stopped or waited for: an operation creates first.
    S.ABSENT: {H.WAIT, H.WITHDRAW, H.START, H.STARTED, H.STOP},
    # A sandbox that never ran has nothing that could end or be found running.
    S.CREATED: {H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.WAITING: {H.CREATED, H.WAIT, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    # While the runtime starts a run the keeper does nothing else: it either starts or is refused.
    S.STARTING: set(H) - {H.STARTED, H.REFUSED},
    # A live run is stopped before its sandbox is touched.
    S.RUNNING: set(H) - {H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.STOPPING: set(H) - {H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    # A stop during the delay ends it; everything else goes by the keeper's next start.
    S.BACKOFF: set(H) - {H.START, H.ENDED_DONE},
    S.EXITED: {H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.FAILED: {H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.BLOCKED: {H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
}


@pytest.mark.parametrize("state", list(State))
def test_every_pair_is_either_in_the_table_or_listed_as_impossible(state: State) -> None:
    listed = {happening for (found, happening) in TABLE if found is state}
    assert listed | IMPOSSIBLE[state] == set(Trigger)
    assert not listed & IMPOSSIBLE[state]


def test_an_impossible_pair_is_a_bug_that_names_itself() -> None:
    with pytest.raises(AssertionError, match="STOP cannot happen to a container that is EXITED"):
        step(Phase.EXITED, Trigger.STOP)


def test_states_have_the_names_of_the_phases_that_are_shown() -> None:
    assert [state.name for state in State] == [phase.name for phase in Phase]


def test_every_state_can_be_reached_and_left() -> None:
    reached = {transition.state for transition in TABLE.values()}
    left = {state for (state, _), transition in TABLE.items() if transition.state is not state}
    assert reached == left == set(State)


def test_whatever_ends_a_run_forgets_its_process_and_is_written_down() -> None:
    ends = {H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED}
    for (state, happening), transition in TABLE.items():
        if happening in ends and state in (S.RUNNING, S.STOPPING):
            assert transition.effects == (Effect.END_RUN, Effect.SAVE)
