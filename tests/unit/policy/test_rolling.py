"""Rolling updates as values: whose turn it is, and what a failure means, for every order of events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.runtime import Exit
from orchestrator.model.health import Health
from orchestrator.model.phase import Phase
from orchestrator.model.updating import FailureAction, Order, UpdateRules
from orchestrator.policy.conditions import Facts, Met, Never, NotYet
from orchestrator.policy.rolling import Progress, Stage, judge
from orchestrator.values import replace

RULES = st.builds(
    UpdateRules,
    order=st.sampled_from(Order),
    parallelism=st.integers(0, 4),
    delay_s=st.sampled_from([0.0, 1.0, 10.0]),
    monitor_s=st.sampled_from([0.0, 2.0, 5.0]),
    on_failure=st.sampled_from(FailureAction),
    max_failure_ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)


class Player:
    """Plays an update: at each step something that may happen does, as `choose` has it. `trace`: slots as they began."""

    def __init__(self, rules: UpdateRules, slots: int, choose: Callable[[int], int]) -> None:
        self.progress = Progress.of(rules, slots)
        self.now_s = 0.0
        self.began: list[tuple[float, int]] = []
        self.most = 0
        self._choose = choose

    def play(self) -> None:
        while True:
            self._begin_all()
            acts = self._possible()
            if not acts:
                return
            acts[self._choose(len(acts))]()

    def _begin_all(self) -> None:
        for slot in range(len(self.progress.slots)):
            if isinstance(self.progress.turn(slot, self.now_s), Met):
                assert not self.progress.halted
                self.progress = self.progress.begun(slot)
                self.began.append((self.now_s, slot))
        self.most = max(self.most, len(self._in(Stage.REPLACING)))

    def _in(self, stage: Stage) -> list[int]:
        return [slot for slot, state in enumerate(self.progress.slots) if state.stage is stage]

    def _possible(self) -> list[Callable[[], None]]:
        acts: list[Callable[[], None]] = []
        for slot in self._in(Stage.REPLACING):
            acts += [partial(self._update, slot), partial(self._fail, slot)]
        acts += [partial(self._fail, slot) for slot in self._in(Stage.UPDATED)] if acts else []
        waits = [self.progress.turn(slot, self.now_s) for slot in self._in(Stage.QUEUED)]
        times = [wait.recheck_s for wait in waits if isinstance(wait, NotYet) and wait.recheck_s is not None]
        if times:
            acts.append(lambda: self._pass(min(times)))
        return acts

    def _update(self, slot: int) -> None:
        self.progress = self.progress.updated(slot, self.now_s)

    def _fail(self, slot: int) -> None:
        self.progress = self.progress.failed(slot, self.now_s)

    def _pass(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@given(RULES, st.integers(1, 6), st.data())
def test_every_update_ends_in_order_and_with_no_more_at_a_time_than_it_says(
    rules: UpdateRules, slots: int, data: st.DataObject
) -> None:
    player = Player(rules, slots, lambda count: data.draw(st.integers(0, count - 1)))
    player.play()
    assert [slot for _, slot in player.began] == list(range(len(player.began)))
    assert rules.parallelism == 0 or player.most <= rules.parallelism
    stages = {state.stage for state in player.progress.slots}
    assert Stage.REPLACING not in stages
    if Stage.QUEUED in stages:
        assert player.progress.halted
        assert all(isinstance(player.progress.turn(slot, player.now_s), Never) for slot in range(slots))
    if rules.on_failure is FailureAction.CONTINUE or rules.max_failure_ratio == 1.0:
        assert len(player.began) == slots
    assert not player.progress.rolls_back or rules.on_failure is FailureAction.ROLLBACK


@given(RULES, st.integers(2, 6), st.data())
def test_a_place_that_has_become_free_is_taken_no_earlier_than_after_the_delay(
    rules: UpdateRules, slots: int, data: st.DataObject
) -> None:
    rules = replace(rules, on_failure=FailureAction.CONTINUE, parallelism=max(rules.parallelism, 1))
    player = Player(rules, slots, lambda count: data.draw(st.integers(0, count - 1)))
    player.play()
    done_s = sorted(state.at_s for state in player.progress.slots)
    for at_s, slot in player.began[rules.parallelism :]:
        assert at_s >= done_s[slot - rules.parallelism] + rules.delay_s


def test_a_failure_after_the_monitored_time_is_not_the_updates() -> None:
    rules = UpdateRules(monitor_s=5)
    progress = Progress.of(rules, 2).begun(0).updated(0, 10.0)
    assert progress.failed(0, 15.1) == progress
    assert progress.failed(0, 15.0).halted


def test_more_than_the_ratio_are_too_many_and_just_as_many_are_not() -> None:
    progress = Progress.of(UpdateRules(parallelism=0, max_failure_ratio=0.5), 4)
    for slot in range(4):
        progress = progress.begun(slot)
    progress = progress.failed(0, 1.0).failed(1, 1.0)
    assert not progress.halted
    assert progress.failed(2, 1.0).halted


def test_a_slot_that_somebody_else_has_taken_counts_as_neither_done_nor_failed() -> None:
    progress = Progress.of(UpdateRules(), 2).begun(0).left(0)
    assert (progress.done, progress.failures) == (0, 0)
    assert progress.updated(0, 1.0) == progress.failed(0, 1.0) == progress
    assert isinstance(progress.turn(1, 0.0), Met)
    assert isinstance(progress.turn(0, 0.0), Never)


def test_the_first_end_of_a_run_is_a_failure_whatever_the_restart_policy_but_for_a_job() -> None:
    back_off = Facts("web", Phase.BACKOFF, started=True, ended_runs=1, exit=Exit(code=1))
    assert judge(back_off) == Never("web exited with code 1")
    assert isinstance(judge(replace(back_off, phase=Phase.EXITED, exit=Exit(code=0))), Met)
    assert isinstance(judge(replace(back_off, phase=Phase.BACKOFF, exit=Exit(code=0))), Never)


def test_ready_is_healthy_or_a_second_old() -> None:
    facts = Facts("web", Phase.RUNNING, started=True, age_s=0.2)
    assert judge(facts) == NotYet("web has just been started", 0.8)
    assert isinstance(judge(replace(facts, age_s=1.0)), Met)
    checked = replace(facts, checked=True, health=Health.STARTING, age_s=60.0)
    assert isinstance(judge(checked), NotYet)
    assert isinstance(judge(replace(checked, health=Health.HEALTHY)), Met)
    assert isinstance(judge(replace(checked, health=Health.UNHEALTHY)), Never)
