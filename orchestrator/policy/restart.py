"""When an ended or unhealthy container is started again (Docker's restart policies, as moby has them).

The delay is 100 ms before the first restart, then doubles to at most a minute; a run of 10 s or more sets it back, unless
the policy has a back-off of its own. ``on-failure:N`` counts the restarts since a user last started the container, but for
those that a policy with a window forgives. A stop by the user suppresses every policy. An unhealthy run counts as a failed
one whatever its exit code: that is pystack's difference (docs/health-restarts.md).
"""

from __future__ import annotations

from signal import SIGINT, SIGTERM
from typing import assert_never

from orchestrator.model.restart import Backoff, RestartKind, RestartPolicy
from orchestrator.policy.exits import ExitView, describe_exit, succeeded
from orchestrator.units import format_duration
from orchestrator.values import frozen, replace

FIRST_DELAY_S = Backoff().first_s
MAX_DELAY_S = Backoff().cap_s
RESET_AFTER_S = Backoff().reset_s
LEAST_DELAY_S = 0.01
"""Whatever the policy says: what ends at once must not keep the machine busy with that alone."""
_MIDDLE = 0.5


def is_stop(number: int, stop_signal: int) -> bool:
    """Whether this signal, sent by a user, is a stop by the user: the stop signal is, and SIGINT where nothing else is said
    (``kill -s SIGINT``). Any other may be one to go on after: reload, dump, reopen."""
    return number == stop_signal or (number == SIGINT and stop_signal == SIGTERM)


@frozen
class RestartHistory:
    """`restarts`: by policy since a user started the container; `forgiven`: those of them that do not count. `steps`: of
    the back-off that have been taken. `run_s`: how long the run lasted that has just ended (or is unhealthy); `healthy`:
    it was, for a moment at least. `made_s`: when the last restarts were made, as many as a budget has to know."""

    restarts: int = 0
    steps: int = 0
    run_s: float = 0.0
    healthy: bool = False
    forgiven: int = 0
    made_s: tuple[float, ...] = ()

    def ended_after(self, run_s: float, policy: RestartPolicy, *, healthy: bool = False) -> RestartHistory:
        """A run that lasted for the policy's window has proved the restart good that it began with."""
        good = 0 < policy.window_s <= run_s and self.forgiven < self.restarts
        return replace(self, run_s=run_s, healthy=healthy, forgiven=self.forgiven + good)

    def restarted(self, policy: RestartPolicy, now_s: float = 0.0) -> RestartHistory:
        kept = policy.budget.restarts if policy.budget is not None else 0
        made_s = (*self.made_s, now_s)[-kept:] if kept else ()
        return RestartHistory(self.restarts + 1, self.next_step(policy.backoff) + 1, 0.0, False, self.forgiven, made_s)

    def next_step(self, backoff: Backoff) -> int:
        """Of the back-off; 0: its first delay."""
        anew = self.healthy if backoff.healthy_resets else self.run_s >= backoff.reset_s
        return 0 if anew else self.steps


@frozen
class Restart:
    """Start again after `after_s` seconds. `reason`: one sentence."""

    after_s: float
    reason: str


@frozen
class GiveUp:
    """Leave it. `what` happened, and `why` that is the end. `failed`: the policy would have restarted it but has used up
    its attempts."""

    what: str
    why: str
    failed: bool = False

    @property
    def reason(self) -> str:
        return f"{self.what}; {self.why}"


def decide(
    policy: RestartPolicy,
    history: RestartHistory,
    exit: ExitView | None,
    *,
    unhealthy: bool = False,
    wanted: bool = True,
    now_s: float = 0.0,
    luck: float = _MIDDLE,
) -> Restart | GiveUp:
    """What follows the end of a run, or its having become unhealthy (`unhealthy`; `exit` is then None until it ended).

    `wanted`: the user still wants it to run. `now_s`: by the clock of `RestartHistory.made_s`. `luck`: from 0 to 1, for the
    jitter.
    """
    what = "became unhealthy" if unhealthy or exit is None else describe_exit(exit)
    if not wanted:
        return GiveUp(what, "stopped by request")
    failed = unhealthy or exit is None or not succeeded(exit)
    name = policy_text(policy)
    match policy.kind:
        case RestartKind.NO:
            return GiveUp(what, "not restarted (restart: no)")
        case RestartKind.ON_FAILURE:
            if not failed:
                return GiveUp(what, f"not restarted (restart: {name})")
        case RestartKind.ALWAYS | RestartKind.UNLESS_STOPPED:
            pass
        case _:
            assert_never(policy.kind)
    if policy.max_attempts is not None and history.restarts - history.forgiven >= policy.max_attempts:
        times = "restart" if policy.max_attempts == 1 else "restarts"
        within = f" that lasted less than {format_duration(policy.window_s)}" if policy.window_s else ""
        return GiveUp(what, f"given up after {policy.max_attempts} {times}{within} (restart: {name})", failed=True)
    budget = policy.budget
    if budget is not None and sum(now_s - at_s < budget.within_s for at_s in history.made_s) >= budget.restarts:
        spent = f"{budget.restarts} within {format_duration(budget.within_s)}"
        return GiveUp(what, f"given up: its restarts are spent, {spent} (x-pystack.restart.budget)", failed=True)
    delay_s = next_delay_s(history, policy.backoff, luck)
    return Restart(delay_s, f"{what}; restart {history.restarts + 1} in {delay_text(delay_s)} (restart: {name})")


def returns_at_boot(policy: RestartPolicy) -> bool:
    """Whether a machine that starts again starts it, too, although a user had stopped it: as Docker has it."""
    return policy.kind is RestartKind.ALWAYS


def next_delay_s(history: RestartHistory, backoff: Backoff, luck: float = _MIDDLE) -> float:
    """The delay before the next restart."""
    try:
        delay_s = min(backoff.first_s * backoff.factor ** history.next_step(backoff), backoff.cap_s)
    except OverflowError:
        delay_s = backoff.cap_s
    return max(min(delay_s * (1 + backoff.jitter * (2 * luck - 1)), backoff.cap_s), LEAST_DELAY_S)


def policy_text(policy: RestartPolicy) -> str:
    """As it is written in a compose file."""
    return policy.kind.value if policy.max_attempts is None else f"{policy.kind.value}:{policy.max_attempts}"


def delay_text(seconds: float) -> str:
    """``100 ms``, ``1.6 s``, ``60 s``."""
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{seconds:.3g} s"
