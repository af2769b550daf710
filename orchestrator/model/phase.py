"""Where a container is in its life. `policy.lifecycle` is the table of how it gets from one to the next."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """The values are what ``ps`` shows."""

    ABSENT = "absent"
    WAITING = "waiting"
    """For its dependencies' conditions."""
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    """Its processes stand still, by request."""
    BACKOFF = "restarting"
    """Ended; the restart policy will start it again after a delay."""
    STOPPING = "stopping"
    EXITED = "exited"
    FAILED = "failed"
    """Given up by the restart policy, or could not be started."""
    BLOCKED = "blocked"
    """A dependency's condition can never be met."""


LIVE = frozenset({Phase.STARTING, Phase.RUNNING, Phase.PAUSED, Phase.BACKOFF, Phase.STOPPING})
"""It runs, or will again by itself."""
