"""What an operation has asked of one container: a literal table of ask x step -> next ask.

The lifecycle table says what a container *does*; this one what it has been *told* and has not done yet. Every pair has an
answer: operations, restart policies and other operations meet here in any order.

    NOTHING   --ask start--> START --begun--> NOTHING
    NOTHING   --ask restart--> RESTART --make way--> MAKING_WAY --at rest--> START --begun--> NOTHING
    NOTHING   --ask stop--> STOP --at rest--> NOTHING
"""

from __future__ import annotations

from enum import Enum, auto


class Ask(Enum):
    NOTHING = auto()
    """It lives by its restart policy alone."""
    START = auto()
    """To be started: conditions may be waited for, a back-off is cut short."""
    RESTART = auto()
    """To be stopped and then started; not stopped yet. A restart by policy in between is not the start that is meant."""
    MAKING_WAY = auto()
    """Being stopped, to be started (or replaced) after that."""
    STOP = auto()
    """Being stopped, for good."""

    @property
    def pending(self) -> bool:
        """A start will come: what was before it does not count."""
        return self in (Ask.START, Ask.RESTART, Ask.MAKING_WAY)

    @property
    def ending(self) -> bool:
        """The run, or the wait for one, is asked to end; no policy may start another."""
        return self in (Ask.MAKING_WAY, Ask.STOP)


class Step(Enum):
    ASK_START = auto()
    ASK_RESTART = auto()
    ASK_STOP = auto()
    MAKE_WAY = auto()
    """The operation that will start it stops it now."""
    BEGUN = auto()
    """A run has begun."""
    AT_REST = auto()
    """Nothing lives in it any more."""
    WITHDRAWN = auto()
    """The operation does not start it after all."""


A, S = Ask, Step

TABLE: dict[tuple[Ask, Step], Ask] = {
    (A.NOTHING, S.ASK_START): A.START,
    (A.NOTHING, S.ASK_RESTART): A.RESTART,
    (A.NOTHING, S.ASK_STOP): A.STOP,
    (A.NOTHING, S.MAKE_WAY): A.MAKING_WAY,
    (A.NOTHING, S.BEGUN): A.NOTHING,
    (A.NOTHING, S.AT_REST): A.NOTHING,
    (A.NOTHING, S.WITHDRAWN): A.NOTHING,
    (A.START, S.ASK_START): A.START,
    (A.START, S.ASK_RESTART): A.RESTART,
    (A.START, S.ASK_STOP): A.STOP,
    (A.START, S.MAKE_WAY): A.MAKING_WAY,
    (A.START, S.BEGUN): A.NOTHING,
    (A.START, S.AT_REST): A.START,
    (A.START, S.WITHDRAWN): A.NOTHING,
    (A.RESTART, S.ASK_START): A.RESTART,
    (A.RESTART, S.ASK_RESTART): A.RESTART,
    (A.RESTART, S.ASK_STOP): A.STOP,
    (A.RESTART, S.MAKE_WAY): A.MAKING_WAY,
    (A.RESTART, S.BEGUN): A.RESTART,
    (A.RESTART, S.AT_REST): A.START,
    (A.RESTART, S.WITHDRAWN): A.NOTHING,
    # A run that began before the stop reached it is the one that is stopped.
    (A.MAKING_WAY, S.ASK_START): A.MAKING_WAY,
    (A.MAKING_WAY, S.ASK_RESTART): A.MAKING_WAY,
    (A.MAKING_WAY, S.ASK_STOP): A.STOP,
    (A.MAKING_WAY, S.MAKE_WAY): A.MAKING_WAY,
    (A.MAKING_WAY, S.BEGUN): A.MAKING_WAY,
    (A.MAKING_WAY, S.AT_REST): A.START,
    (A.MAKING_WAY, S.WITHDRAWN): A.STOP,
    # A stop that is under way cannot be called back: a start comes after it.
    (A.STOP, S.ASK_START): A.MAKING_WAY,
    (A.STOP, S.ASK_RESTART): A.MAKING_WAY,
    (A.STOP, S.ASK_STOP): A.STOP,
    (A.STOP, S.MAKE_WAY): A.MAKING_WAY,
    (A.STOP, S.BEGUN): A.STOP,
    (A.STOP, S.AT_REST): A.NOTHING,
    (A.STOP, S.WITHDRAWN): A.STOP,
}


def step(ask: Ask, event: Step) -> Ask:
    """The answer to `event`; every pair has one."""
    return TABLE[ask, event]
