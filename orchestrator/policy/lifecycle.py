"""The life of a container: a literal table of phase x trigger -> next phase and effects.

*Wanted* (what the user asked for) and *health* are axes of their own and not in here. A pair that is not in the table is
a bug in the scheduler and raises AssertionError; tests/unit/policy/test_lifecycle.py lists the impossible pairs by hand.
"""

from __future__ import annotations

from enum import Enum, auto

from orchestrator.model.phase import Phase
from orchestrator.values import frozen


class Trigger(Enum):
    CREATED = auto()
    """The sandbox exists and has no run: it was made, or found by a supervisor that came later."""
    WAIT = auto()
    """An operation wants it to start; a condition does not hold yet."""
    WITHDRAW = auto()
    """The operation was cancelled, or another took it over, while it waited."""
    BLOCK = auto()
    """A condition can never be met."""
    START = auto()
    """A run is being started."""
    STARTED = auto()
    REFUSED = auto()
    """The sandbox could not be made or the run could not be started."""
    FOUND_RUNNING = auto()
    """A supervisor that came later finds a live run."""
    PAUSE = auto()
    """The run stands still from now on, by request."""
    UNPAUSE = auto()
    STOP = auto()
    """The run is asked to end: by request, or because it is unhealthy."""
    ENDED_RESTART = auto()
    """The run ended and the policy starts it again after a delay."""
    ENDED_DONE = auto()
    """The run ended and is not started again."""
    ENDED_FAILED = auto()
    """The run ended and the policy has given up."""
    CLEARED = auto()
    """The sandbox was removed to make room for a new one: the record stays, it is still wanted."""
    REMOVED = auto()


class Effect(Enum):
    """What the scheduler does at once, synchronously, when it takes a transition."""

    BEGIN_RUN = auto()
    """Note the start time; health starts anew."""
    END_RUN = auto()
    """There is no process any more: no pid, no health."""
    SAVE = auto()
    """Write the container's record."""
    FORGET = auto()
    """Drop the container's record."""


@frozen
class Transition:
    phase: Phase
    effects: tuple[Effect, ...] = ()


P, T, E = Phase, Trigger, Effect

TABLE: dict[tuple[Phase, Trigger], Transition] = {
    # Nothing exists. A supervisor that starts again meets every container here.
    (P.ABSENT, T.CREATED): Transition(P.CREATED, (E.SAVE,)),
    (P.ABSENT, T.REFUSED): Transition(P.FAILED, (E.SAVE,)),
    (P.ABSENT, T.BLOCK): Transition(P.BLOCKED, (E.SAVE,)),
    (P.ABSENT, T.FOUND_RUNNING): Transition(P.RUNNING, (E.BEGIN_RUN, E.SAVE)),
    (P.ABSENT, T.ENDED_RESTART): Transition(P.BACKOFF, (E.SAVE,)),
    (P.ABSENT, T.ENDED_DONE): Transition(P.EXITED, (E.SAVE,)),
    (P.ABSENT, T.ENDED_FAILED): Transition(P.FAILED, (E.SAVE,)),
    (P.ABSENT, T.CLEARED): Transition(P.ABSENT),
    (P.ABSENT, T.REMOVED): Transition(P.ABSENT, (E.FORGET,)),
    # The sandbox exists, nothing runs in it.
    (P.CREATED, T.CREATED): Transition(P.CREATED, (E.SAVE,)),
    (P.CREATED, T.WAIT): Transition(P.WAITING),
    (P.CREATED, T.START): Transition(P.STARTING),
    (P.CREATED, T.BLOCK): Transition(P.BLOCKED, (E.SAVE,)),
    (P.CREATED, T.REFUSED): Transition(P.FAILED, (E.SAVE,)),
    (P.CREATED, T.CLEARED): Transition(P.ABSENT),
    (P.CREATED, T.REMOVED): Transition(P.ABSENT, (E.FORGET,)),
    (P.WAITING, T.START): Transition(P.STARTING),
    (P.WAITING, T.BLOCK): Transition(P.BLOCKED, (E.SAVE,)),
    (P.WAITING, T.WITHDRAW): Transition(P.EXITED),
    (P.WAITING, T.CREATED): Transition(P.CREATED, (E.SAVE,)),
    (P.WAITING, T.REFUSED): Transition(P.FAILED, (E.SAVE,)),
    (P.WAITING, T.CLEARED): Transition(P.ABSENT),
    (P.WAITING, T.REMOVED): Transition(P.ABSENT, (E.FORGET,)),
    # A run begins, lives and ends.
    (P.STARTING, T.STARTED): Transition(P.RUNNING, (E.BEGIN_RUN, E.SAVE)),
    (P.STARTING, T.REFUSED): Transition(P.FAILED, (E.END_RUN, E.SAVE)),
    (P.RUNNING, T.PAUSE): Transition(P.PAUSED, (E.SAVE,)),
    (P.PAUSED, T.UNPAUSE): Transition(P.RUNNING, (E.SAVE,)),
    (P.RUNNING, T.STOP): Transition(P.STOPPING),
    (P.PAUSED, T.STOP): Transition(P.STOPPING),
    (P.RUNNING, T.ENDED_RESTART): Transition(P.BACKOFF, (E.END_RUN, E.SAVE)),
    (P.RUNNING, T.ENDED_DONE): Transition(P.EXITED, (E.END_RUN, E.SAVE)),
    (P.RUNNING, T.ENDED_FAILED): Transition(P.FAILED, (E.END_RUN, E.SAVE)),
    # Killed: what stands still cannot end by itself.
    (P.PAUSED, T.ENDED_RESTART): Transition(P.BACKOFF, (E.END_RUN, E.SAVE)),
    (P.PAUSED, T.ENDED_DONE): Transition(P.EXITED, (E.END_RUN, E.SAVE)),
    (P.PAUSED, T.ENDED_FAILED): Transition(P.FAILED, (E.END_RUN, E.SAVE)),
    (P.STOPPING, T.ENDED_RESTART): Transition(P.BACKOFF, (E.END_RUN, E.SAVE)),
    (P.STOPPING, T.ENDED_DONE): Transition(P.EXITED, (E.END_RUN, E.SAVE)),
    (P.STOPPING, T.ENDED_FAILED): Transition(P.FAILED, (E.END_RUN, E.SAVE)),
    (P.BACKOFF, T.START): Transition(P.STARTING),
    (P.BACKOFF, T.ENDED_DONE): Transition(P.EXITED, (E.SAVE,)),
    # Over, until an operation touches it.
    (P.EXITED, T.CREATED): Transition(P.CREATED, (E.SAVE,)),
    (P.EXITED, T.WAIT): Transition(P.WAITING),
    (P.EXITED, T.START): Transition(P.STARTING),
    (P.EXITED, T.REFUSED): Transition(P.FAILED, (E.SAVE,)),
    (P.EXITED, T.BLOCK): Transition(P.BLOCKED, (E.SAVE,)),
    (P.EXITED, T.CLEARED): Transition(P.ABSENT),
    (P.EXITED, T.REMOVED): Transition(P.ABSENT, (E.FORGET,)),
    (P.FAILED, T.CREATED): Transition(P.CREATED, (E.SAVE,)),
    (P.FAILED, T.WAIT): Transition(P.WAITING),
    (P.FAILED, T.START): Transition(P.STARTING),
    (P.FAILED, T.REFUSED): Transition(P.FAILED, (E.SAVE,)),
    (P.FAILED, T.BLOCK): Transition(P.BLOCKED, (E.SAVE,)),
    (P.FAILED, T.CLEARED): Transition(P.ABSENT),
    (P.FAILED, T.REMOVED): Transition(P.ABSENT, (E.FORGET,)),
    (P.BLOCKED, T.CREATED): Transition(P.CREATED, (E.SAVE,)),
    (P.BLOCKED, T.WAIT): Transition(P.WAITING),
    (P.BLOCKED, T.START): Transition(P.STARTING),
    (P.BLOCKED, T.REFUSED): Transition(P.FAILED, (E.SAVE,)),
    (P.BLOCKED, T.BLOCK): Transition(P.BLOCKED, (E.SAVE,)),
    (P.BLOCKED, T.CLEARED): Transition(P.ABSENT),
    (P.BLOCKED, T.REMOVED): Transition(P.ABSENT, (E.FORGET,)),
}


def step(phase: Phase, trigger: Trigger) -> Transition:
    """The answer to `trigger` in `phase`."""
    transition = TABLE.get((phase, trigger))
    assert transition is not None, f"{trigger.name} cannot happen to a container that is {phase.name}"
    return transition
