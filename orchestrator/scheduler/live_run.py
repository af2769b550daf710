"""One run of a container: its process, its health and its age, and how it is asked to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from orchestrator.contracts.runtime import Run
from orchestrator.model.health import Health, HealthCheck
from orchestrator.policy.health import HealthState, describe_probe
from orchestrator.values import entity, field

if TYPE_CHECKING:
    from orchestrator.scheduler.container import Container


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


@entity
class LiveRun:
    """It begins before its process is there, and stays as "the last run" when that has ended (`process` None again).

    `begun_s`: when the process was started. `unhealthy`: it is ended because it became unhealthy. `ending`: it is asked to
    end, with `hooks_s` for its ``pre_stop`` and then `grace_s` before the kill; `grace`: the wait for either, while it
    lasts. `pauses`: how often it was paused; `going`: set while it is not.
    `was_healthy`: for a moment at least. `hook`: the ``post_start`` that is under way, or is about to be.
    `joined`: the runs of others whose namespaces it is in, by type; `orphaned`: which of them has ended, and ended it.
    """

    check: HealthCheck | None
    process: Run | None = None
    health: HealthState | None = None
    begun_s: float = field(default_factory=trio.current_time)
    unhealthy: bool = False
    ending: trio.Event = field(default_factory=trio.Event)
    hooks_s: float = 0.0
    grace_s: float = 0.0
    grace: trio.CancelScope | None = None
    pauses: int = 0
    going: trio.Event = field(default_factory=_set_event)
    joined: Mapping[str, tuple[Container, Run]] = field(default_factory=dict)
    orphaned: str = ""
    hook: str = ""
    was_healthy: bool = False

    @property
    def age_s(self) -> float:
        return trio.current_time() - self.begun_s

    @property
    def status(self) -> Health:
        """Of the health check; STARTING while there is no result, NONE without a check."""
        if self.check is None:
            return Health.NONE
        return self.health.status if self.health is not None else Health.STARTING

    @property
    def last_probe(self) -> str:
        """The last probe's result in words; "" before the first."""
        return describe_probe(self.health.results[-1]) if self.health is not None and self.health.results else ""

    def begin(self, process: Run, *, age_s: float = 0.0) -> None:
        self.process = process
        self.begun_s = trio.current_time() - age_s
        self.health = HealthState(self.check) if self.check is not None else None

    def pause(self) -> None:
        self.pauses += 1
        self.going = trio.Event()

    def unpause(self) -> None:
        self.going.set()

    def end(self, grace_s: float, hooks_s: float = 0.0) -> None:
        """Ask it to end. May be called again with a shorter grace, which then is the hooks' too."""
        if not self.ending.is_set():
            self.grace_s, self.hooks_s = grace_s, hooks_s
            self.ending.set()
            return
        self.grace_s, self.hooks_s = min(self.grace_s, grace_s), min(self.hooks_s, grace_s)
        if self.grace is not None:
            self.grace.deadline = min(self.grace.deadline, trio.current_time() + grace_s)
