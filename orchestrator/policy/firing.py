"""What becomes of what a schedule says: pure, in epoch seconds.

For each entry of a schedule one instant is kept, `decided_at`: what was due until then has been decided. So a supervisor
that was killed, a machine that was off, or a clock that was set forward are one case: something was due since, and the last
of it is either of this very minute, or was missed. A clock that was set back is as Debian's cron(8) has it: by less than
three hours nothing at a fixed time happens twice, while what has a ``*`` for its minute or hour goes by the new time; by
more, everything does.
"""

from __future__ import annotations

from enum import Enum

from orchestrator.model.job import MissedFires

ON_TIME_S = 60.0
"""What is later than this was missed: cron(8) looks once a minute."""
CORRECTION_S = 3 * 3600.0


class Firing(Enum):
    NOTHING = "nothing was due"
    FIRE = "due"
    CATCH_UP = "missed, and made up for"
    SKIP = "missed"

    @property
    def runs(self) -> bool:
        return self in (Firing.FIRE, Firing.CATCH_UP)


def decided_until(decided_at: float, now: float, *, wild: bool) -> float:
    """`decided_at` by the clock as it is now. `wild`: a ``*`` begins its minute or its hour."""
    back_s = decided_at - now
    return now if back_s > CORRECTION_S or (wild and back_s > 0) else decided_at


def judge(due_at: float | None, decided_at: float, now: float, missed: MissedFires) -> Firing:
    """`due_at`: the last instant of the schedule that is not after `now`."""
    if due_at is None or due_at <= decided_at:
        return Firing.NOTHING
    if now - due_at < ON_TIME_S:
        return Firing.FIRE
    return Firing.CATCH_UP if missed is MissedFires.ONE else Firing.SKIP
