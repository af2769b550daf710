"""The lifecycle table: complete, closed, and the impossible pairs by hand."""

from __future__ import annotations

import pytest

from orchestrator.model.phase import Phase
from orchestrator.policy.lifecycle import TABLE, Effect, Trigger, step

S, H = Phase, Trigger

PAUSES = {H.PAUSE, H.UNPAUSE}
"""Only what runs can stand still."""
IMPOSSIBLE: dict[Phase, set[Trigger]] = {
    # Without a sandbox nothing can be started, stopped or waited for: an operation creates first.
    S.ABSENT: {*PAUSES, H.WAIT, H.WITHDRAW, H.START, H.STARTED, H.STOP},
    # A sandbox that never ran has nothing that could end or be found running.
    S.CREATED: {*PAUSES, H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.WAITING: {*PAUSES, H.WAIT, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    # While the runtime starts a run its task does nothing else: it either starts or is refused.
    S.STARTING: set(H) - {H.STARTED, H.REFUSED},
    # A live run is stopped before its sandbox is touched.
    S.RUNNING: set(H) - {H.PAUSE, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.PAUSED: set(H) - {H.UNPAUSE, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.STOPPING: set(H) - {H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    # A stop during the delay ends it; everything else goes by its next start.
    S.BACKOFF: set(H) - {H.START, H.ENDED_DONE},
    S.EXITED: {*PAUSES, H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.FAILED: {*PAUSES, H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
    S.BLOCKED: {*PAUSES, H.WITHDRAW, H.STARTED, H.FOUND_RUNNING, H.STOP, H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED},
}


@pytest.mark.parametrize("phase", list(Phase))
def test_every_pair_is_either_in_the_table_or_listed_as_impossible(phase: Phase) -> None:
    listed = {trigger for (found, trigger) in TABLE if found is phase}
    assert listed | IMPOSSIBLE[phase] == set(Trigger)
    assert not listed & IMPOSSIBLE[phase]


def test_an_impossible_pair_is_a_bug_that_names_itself() -> None:
    with pytest.raises(AssertionError, match="STOP cannot happen to a container that is EXITED"):
        step(Phase.EXITED, Trigger.STOP)


def test_every_phase_can_be_reached_and_left() -> None:
    reached = {transition.phase for transition in TABLE.values()}
    left = {phase for (phase, _), transition in TABLE.items() if transition.phase is not phase}
    assert reached == left == set(Phase)


def test_whatever_ends_a_run_forgets_its_process_and_is_written_down() -> None:
    ends = {H.ENDED_RESTART, H.ENDED_DONE, H.ENDED_FAILED}
    for (phase, trigger), transition in TABLE.items():
        if trigger in ends and phase in (S.RUNNING, S.PAUSED, S.STOPPING):
            assert transition.effects == (Effect.END_RUN, Effect.SAVE)
