"""When an ended or unhealthy container is started again (Docker's restart policies, as moby has them).

The delay is 100 ms before the first restart, then doubles to at most a minute; a run of 10 s or more sets it back.
``on-failure:N`` counts the restarts since a user last started the container. A stop by the user suppresses every policy.
An unhealthy run counts as a failed one whatever its exit code: that is pystack's difference (docs/health-restarts.md).
"""

from __future__ import annotations

from typing import assert_never

from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.policy.exits import ExitView, describe_exit, succeeded
from orchestrator.values import frozen

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 60.0
RESET_AFTER_S = 10.0


@frozen
class RestartHistory:
    """`restarts`: by policy since a user started the container. `delay_s`: the last delay (0: none yet).

    `run_s`: how long the run lasted that has just ended (or has become unhealthy).
    """

    restarts: int = 0
    delay_s: float = 0.0
    run_s: float = 0.0

    def ended_after(self, run_s: float) -> RestartHistory:
        return RestartHistory(self.restarts, self.delay_s, run_s)

    def restarted(self, delay_s: float) -> RestartHistory:
        return RestartHistory(self.restarts + 1, delay_s, 0.0)


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
    policy: RestartPolicy, history: RestartHistory, exit: ExitView | None, *, unhealthy: bool = False, wanted: bool = True
) -> Restart | GiveUp:
    """What follows the end of a run, or its having become unhealthy (`unhealthy`; `exit` is then None until it ended).

    `wanted`: the user still wants it to run.
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
            if policy.max_attempts is not None and history.restarts >= policy.max_attempts:
                times = "restart" if policy.max_attempts == 1 else "restarts"
                return GiveUp(what, f"given up after {policy.max_attempts} {times} (restart: {name})", failed=True)
        case RestartKind.ALWAYS | RestartKind.UNLESS_STOPPED:
            pass
        case _:
            assert_never(policy.kind)
    delay_s = next_delay_s(history)
    return Restart(delay_s, f"{what}; restart {history.restarts + 1} in {delay_text(delay_s)} (restart: {name})")


def next_delay_s(history: RestartHistory) -> float:
    """The delay before the next restart."""
    if history.run_s >= RESET_AFTER_S or history.delay_s == 0.0:
        return FIRST_DELAY_S
    return min(history.delay_s * 2, MAX_DELAY_S)


def policy_text(policy: RestartPolicy) -> str:
    """As it is written in a compose file."""
    return policy.kind.value if policy.max_attempts is None else f"{policy.kind.value}:{policy.max_attempts}"


def delay_text(seconds: float) -> str:
    """``100 ms``, ``1.6 s``, ``60 s``."""
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{seconds:.3g} s"
