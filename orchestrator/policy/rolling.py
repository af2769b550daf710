"""A rolling update as a value: whose turn it is, what a failure means, when it is over (docs/rolling-updates.md).

A replica is a slot, and slots take turns in their order:

    QUEUED --begun--> REPLACING --updated--> UPDATED
       |                  '-----failed------>  |--failed, within `monitor_s`--> FAILED
       '--left--> LEFT

A slot is *busy* while it is REPLACING, and for `delay_s` after it was done, however that went. The next turn comes while
fewer than `parallelism` are busy. When more than `max_failure_ratio` of all have FAILED, no turn comes any more, unless the
rules say to continue. Instants are seconds of one clock, which never goes back.
"""

from __future__ import annotations

from enum import Enum, auto

from orchestrator.model.phase import Phase
from orchestrator.model.updating import FailureAction, UpdateRules
from orchestrator.policy.conditions import Facts, Met, Never, NotYet, Verdict, ready
from orchestrator.policy.exits import describe_exit, succeeded
from orchestrator.values import frozen, replace


class Stage(Enum):
    QUEUED = auto()
    REPLACING = auto()
    UPDATED = auto()
    FAILED = auto()
    LEFT = auto()
    """Somebody else has it now, or its turn never came: it is as it was."""


@frozen
class SlotState:
    """`at_s`: when it was done (UPDATED, FAILED)."""

    stage: Stage = Stage.QUEUED
    at_s: float = 0.0


@frozen
class Progress:
    """One update. All methods are pure: a change is another Progress. What cannot happen in a stage changes nothing, since
    an operation may learn late that another one has taken the slot."""

    rules: UpdateRules
    slots: tuple[SlotState, ...]

    @classmethod
    def of(cls, rules: UpdateRules, slots: int) -> Progress:
        return cls(rules, (SlotState(),) * slots)

    def begun(self, slot: int) -> Progress:
        return self._move(slot, (Stage.QUEUED,), SlotState(Stage.REPLACING))

    def updated(self, slot: int, now_s: float) -> Progress:
        return self._move(slot, (Stage.REPLACING,), SlotState(Stage.UPDATED, now_s))

    def failed(self, slot: int, now_s: float) -> Progress:
        """One that was updated fails within `monitor_s`, or it is not the update's failure."""
        state = self.slots[slot]
        if state.stage is Stage.UPDATED and now_s <= state.at_s + self.rules.monitor_s:
            return self._move(slot, (Stage.UPDATED,), replace(state, stage=Stage.FAILED))
        return self._move(slot, (Stage.REPLACING,), SlotState(Stage.FAILED, now_s))

    def left(self, slot: int) -> Progress:
        return self._move(slot, (Stage.QUEUED, Stage.REPLACING), SlotState(Stage.LEFT))

    def _move(self, slot: int, before: tuple[Stage, ...], after: SlotState) -> Progress:
        if self.slots[slot].stage not in before:
            return self
        return replace(self, slots=(*self.slots[:slot], after, *self.slots[slot + 1 :]))

    @property
    def failures(self) -> int:
        return sum(state.stage is Stage.FAILED for state in self.slots)

    @property
    def done(self) -> int:
        """How many are updated and have not failed since."""
        return sum(state.stage is Stage.UPDATED for state in self.slots)

    @property
    def halted(self) -> bool:
        """Too many have failed: no other turn comes."""
        too_many = self.failures > self.rules.max_failure_ratio * len(self.slots)
        return too_many and self.rules.on_failure is not FailureAction.CONTINUE

    @property
    def rolls_back(self) -> bool:
        return self.halted and self.rules.on_failure is FailureAction.ROLLBACK

    def turn(self, slot: int, now_s: float) -> Verdict:
        """Whether `slot`, which is QUEUED, may begin. NotYet says when time alone may change that."""
        if self.slots[slot].stage is not Stage.QUEUED:
            return Never("it is not its turn any more")
        if self.halted:
            return Never(f"{self.failures} of {len(self.slots)} failed")
        if any(state.stage is Stage.QUEUED for state in self.slots[:slot]):
            return NotYet("others come first")
        ends = [self._busy_until_s(state) for state in self.slots]
        busy = sorted(end for end in ends if end > now_s)
        limit = self.rules.parallelism
        if limit == 0 or len(busy) < limit:
            return Met()
        # It comes when so many of the busy ones have ended that fewer than `limit` are left.
        first_s = busy[len(busy) - limit]
        return NotYet("as many as may be are under way", first_s - now_s if first_s != float("inf") else None)

    def made_room(self, now_s: float) -> int | None:
        """The slot that was the last one to be not busy any more; None: none was ever done."""
        ends = ((self._busy_until_s(state), slot) for slot, state in enumerate(self.slots))
        over = [(end, slot) for end, slot in ends if float("-inf") < end <= now_s]
        return max(over)[1] if over else None

    def _busy_until_s(self, state: SlotState) -> float:
        match state.stage:
            case Stage.REPLACING:
                return float("inf")
            case Stage.UPDATED | Stage.FAILED:
                return state.at_s + self.rules.delay_s
            case _:
                return float("-inf")


def judge(facts: Facts) -> Verdict:
    """Whether the new container of a slot is ready (`policy.conditions.ready`), and whether it has failed: the first end of
    a run is a failure, whatever its restart policy, but for that of a job."""
    finished = facts.phase is Phase.EXITED and facts.exit is not None and succeeded(facts.exit)
    if facts.ended_runs and not finished:
        how = describe_exit(facts.exit) if facts.exit is not None else "ended"
        return Never(f"{facts.name} {how}")
    return ready(facts)
