"""Restart policies (compose-spec, "restart"; semantics as moby has them)."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen


class RestartKind(Enum):
    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    UNLESS_STOPPED = "unless-stopped"


@frozen
class RestartPolicy:
    """`max_attempts` belongs to ON_FAILURE alone (``on-failure:3``); None: without a limit."""

    kind: RestartKind = RestartKind.NO
    max_attempts: int | None = None
