"""Restart policies (compose-spec, "restart" and "deploy.restart_policy"; semantics as moby has them)."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen


class RestartKind(Enum):
    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    UNLESS_STOPPED = "unless-stopped"


@frozen
class Backoff:
    """The delays before restarts: `first_s`, then `factor` times the one before, at most `cap_s`, each of them longer or
    shorter by up to its part `jitter`. They begin anew after a run that lasted `reset_s`, or with `healthy_resets` one
    that was healthy for a moment."""

    first_s: float = 0.1
    factor: float = 2.0
    cap_s: float = 60.0
    jitter: float = 0.0
    reset_s: float = 10.0
    healthy_resets: bool = False


@frozen
class Budget:
    """At most `restarts` within any `within_s`; the next one is not made."""

    restarts: int
    within_s: float


@frozen
class RestartPolicy:
    """`max_attempts`: restarts until it is given up (``on-failure:3``); None: without a limit. A restart after which it has
    run for `window_s` does not count; 0: each counts."""

    kind: RestartKind = RestartKind.NO
    max_attempts: int | None = None
    window_s: float = 0.0
    backoff: Backoff = Backoff()
    budget: Budget | None = None
