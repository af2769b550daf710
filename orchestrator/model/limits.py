"""What a container may use at the most."""

from __future__ import annotations

from orchestrator.values import frozen


@frozen
class Limits:
    """None: no limit set by the stack (`pids`: the default of 2,048 applies; -1 means unlimited)."""

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
