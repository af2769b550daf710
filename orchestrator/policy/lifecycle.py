"""The life of a service's container: a literal table of state x happening -> next state and effects.

*Wanted* (what the user asked for) and *health* are axes of their own and not in here. A pair that is not in the table is
a bug in the scheduler and raises AssertionError; tests/unit/policy/test_lifecycle.py lists the impossible pairs by hand.
"""

from __future__ import annotations

from enum import Enum, auto

from orchestrator.values import frozen


class State(Enum):
    """The names are those of ``contracts.events.Phase``, which is how a state is shown."""

    ABSENT = auto()
    WAITING = auto()
    CREATED = auto()
    STARTING = auto()
    RUNNING = auto()
    BACKOFF = auto()
    STOPPING = auto()
    EXITED = auto()
    FAILED = auto()
    BLOCKED = auto()


class Happening(Enum):
    CREATED = auto()
    """The sandbox exists and has no run: it was made, or found by a supervisor that came later."""
    WAIT = auto()
    """An operation wants it to start; a condition does not hold yet."""
    WITHDRAW = auto()
    """The operation was cancelled while it waited."""
    BLOCK = auto()
    """A condition can never be met."""
    START = auto()
    """A run is being started."""
    STARTED = auto()
    REFUSED = auto()
    """The sandbox could not be made or the run could not be started."""
    FOUND_RUNNING = auto()
    """A supervisor that came later finds a live run."""
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
    state: State
    effects: tuple[Effect, ...] = ()


S, H, E = State, Happening, Effect

TABLE: dict[tuple[State, Happening], Transition] = {
    # Nothing exists. A supervisor that starts again meets every container here.
    (S.ABSENT, H.CREATED): Transition(S.CREATED, (E.SAVE,)),
    (S.ABSENT, H.REFUSED): Transition(S.FAILED, (E.SAVE,)),
    (S.ABSENT, H.BLOCK): Transition(S.BLOCKED, (E.SAVE,)),
    (S.ABSENT, H.FOUND_RUNNING): Transition(S.RUNNING, (E.BEGIN_RUN, E.SAVE)),
    (S.ABSENT, H.ENDED_RESTART): Transition(S.BACKOFF, (E.SAVE,)),
    (S.ABSENT, H.ENDED_DONE): Transition(S.EXITED, (E.SAVE,)),
    (S.ABSENT, H.ENDED_FAILED): Transition(S.FAILED, (E.SAVE,)),
    (S.ABSENT, H.CLEARED): Transition(S.ABSENT),
    (S.ABSENT, H.REMOVED): Transition(S.ABSENT, (E.FORGET,)),
    # The sandbox exists, nothing runs in it.
    (S.CREATED, H.CREATED): Transition(S.CREATED, (E.SAVE,)),
    (S.CREATED, H.WAIT): Transition(S.WAITING),
    (S.CREATED, H.START): Transition(S.STARTING),
    (S.CREATED, H.BLOCK): Transition(S.BLOCKED, (E.SAVE,)),
    (S.CREATED, H.REFUSED): Transition(S.FAILED, (E.SAVE,)),
    (S.CREATED, H.CLEARED): Transition(S.ABSENT),
    (S.CREATED, H.REMOVED): Transition(S.ABSENT, (E.FORGET,)),
    (S.WAITING, H.START): Transition(S.STARTING),
    (S.WAITING, H.BLOCK): Transition(S.BLOCKED, (E.SAVE,)),
    (S.WAITING, H.WITHDRAW): Transition(S.EXITED),
    (S.WAITING, H.REFUSED): Transition(S.FAILED, (E.SAVE,)),
    (S.WAITING, H.CLEARED): Transition(S.ABSENT),
    (S.WAITING, H.REMOVED): Transition(S.ABSENT, (E.FORGET,)),
    # A run begins, lives and ends.
    (S.STARTING, H.STARTED): Transition(S.RUNNING, (E.BEGIN_RUN, E.SAVE)),
    (S.STARTING, H.REFUSED): Transition(S.FAILED, (E.END_RUN, E.SAVE)),
    (S.RUNNING, H.STOP): Transition(S.STOPPING),
    (S.RUNNING, H.ENDED_RESTART): Transition(S.BACKOFF, (E.END_RUN, E.SAVE)),
    (S.RUNNING, H.ENDED_DONE): Transition(S.EXITED, (E.END_RUN, E.SAVE)),
    (S.RUNNING, H.ENDED_FAILED): Transition(S.FAILED, (E.END_RUN, E.SAVE)),
    (S.STOPPING, H.ENDED_RESTART): Transition(S.BACKOFF, (E.END_RUN, E.SAVE)),
    (S.STOPPING, H.ENDED_DONE): Transition(S.EXITED, (E.END_RUN, E.SAVE)),
    (S.STOPPING, H.ENDED_FAILED): Transition(S.FAILED, (E.END_RUN, E.SAVE)),
    (S.BACKOFF, H.START): Transition(S.STARTING),
    (S.BACKOFF, H.ENDED_DONE): Transition(S.EXITED, (E.SAVE,)),
    # Over, until an operation touches it.
    (S.EXITED, H.CREATED): Transition(S.CREATED, (E.SAVE,)),
    (S.EXITED, H.WAIT): Transition(S.WAITING),
    (S.EXITED, H.START): Transition(S.STARTING),
    (S.EXITED, H.REFUSED): Transition(S.FAILED, (E.SAVE,)),
    (S.EXITED, H.BLOCK): Transition(S.BLOCKED, (E.SAVE,)),
    (S.EXITED, H.CLEARED): Transition(S.ABSENT),
    (S.EXITED, H.REMOVED): Transition(S.ABSENT, (E.FORGET,)),
    (S.FAILED, H.CREATED): Transition(S.CREATED, (E.SAVE,)),
    (S.FAILED, H.WAIT): Transition(S.WAITING),
    (S.FAILED, H.START): Transition(S.STARTING),
    (S.FAILED, H.REFUSED): Transition(S.FAILED, (E.SAVE,)),
    (S.FAILED, H.BLOCK): Transition(S.BLOCKED, (E.SAVE,)),
    (S.FAILED, H.CLEARED): Transition(S.ABSENT),
    (S.FAILED, H.REMOVED): Transition(S.ABSENT, (E.FORGET,)),
    (S.BLOCKED, H.CREATED): Transition(S.CREATED, (E.SAVE,)),
    (S.BLOCKED, H.WAIT): Transition(S.WAITING),
    (S.BLOCKED, H.START): Transition(S.STARTING),
    (S.BLOCKED, H.REFUSED): Transition(S.FAILED, (E.SAVE,)),
    (S.BLOCKED, H.BLOCK): Transition(S.BLOCKED, (E.SAVE,)),
    (S.BLOCKED, H.CLEARED): Transition(S.ABSENT),
    (S.BLOCKED, H.REMOVED): Transition(S.ABSENT, (E.FORGET,)),
}


def step(state: State, happening: Happening) -> Transition:
    """The answer to `happening` in `state`."""
    transition = TABLE.get((state, happening))
    assert transition is not None, f"{happening.name} cannot happen to a container that is {state.name}"
    return transition
