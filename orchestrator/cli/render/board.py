"""The state of an operation as its events tell it: a row per container. What the live view shows and a
failure report quotes.

Rows only know what events said; the same events always give the same board. Instants are the caller's clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from orchestrator.cli.render.transfer import Parts, transfer_of
from orchestrator.cli.render.words import counts_down, first_line, later, probe_text, words_of
from orchestrator.contracts.events import Event, EventKind
from orchestrator.model.names import ContainerId
from orchestrator.values import entity, field


class Stage(IntEnum):
    """In the order of display: what needs attention first."""

    FAILED = 0
    BLOCKED = 1
    UNHEALTHY = 2
    BACKOFF = 3
    STARTING = 4
    STOPPING = 5
    WAITING = 6
    READY = 7
    DONE = 8
    STOPPED = 9
    REMOVED = 10

    @property
    def moving(self) -> bool:
        """Something more will happen."""
        return Stage.UNHEALTHY <= self <= Stage.WAITING

    @property
    def bad(self) -> bool:
        return self <= Stage.BLOCKED


_CONDITION_WORDS = {
    "service_started": "to start",
    "service_healthy": "to be healthy",
    "service_completed_successfully": "to complete",
}


@entity
class Row:
    """`container`: None for what is told of a service without one. `began_s`, `ended_s`: of its part in the operation.
    `waits`: unmet conditions, by service. `since`: when it was last made or started in this operation, epoch seconds.
    `end`: how the last run ended, and why, or "". `parts`: of an image that is being got. `countdown`: the event that
    `detail` is from, and when it came, where that counts down."""

    service: str
    container: ContainerId | None
    began_s: float
    stage: Stage = Stage.STARTING
    detail: str = ""
    ended_s: float | None = None
    waits: dict[str, str] = field(default_factory=dict)
    probe_output: str = ""
    failure: Event | None = None
    since: float | None = None
    end: str = ""
    parts: Parts | None = None
    countdown: tuple[Event, float] | None = None

    def text(self, now_s: float) -> str:
        if self.parts is not None and self.stage.moving:
            return self.parts.words(now_s)
        if self.stage is Stage.WAITING:
            unmet = ", ".join(f"{name} {words}" for name, words in self.waits.items())
            return f"waiting for {unmet}" if unmet else "about to start"
        if self.countdown is not None:
            event, came_s = self.countdown
            return self.counting(later(event, now_s - came_s))
        return self.detail

    def counting(self, event: Event) -> str:
        """``ignores SIGTERM; killed in 8s; ...``, ``exited with code 1; restarts in 2s``."""
        return "; ".join(filter(None, (self.end if self.stage is Stage.BACKOFF else "", words_of(event))))

    def seconds(self, now_s: float) -> float:
        return max(0.0, (now_s if self.ended_s is None else self.ended_s) - self.began_s)


_STAGES: Mapping[EventKind, tuple[Stage, str]] = {
    EventKind.CONTAINER_CREATING: (Stage.STARTING, "creating"),
    EventKind.CONTAINER_CREATED: (Stage.STARTING, "created"),
    EventKind.CONTAINER_STARTING: (Stage.STARTING, "starting"),
    EventKind.CONTAINER_STARTED: (Stage.STARTING, "started"),
    EventKind.CONTAINER_STOPPING: (Stage.STOPPING, "stopping"),
    EventKind.CONTAINER_STOPPED: (Stage.STOPPED, "stopped"),
    EventKind.CONTAINER_UPDATED: (Stage.READY, "updated"),
    EventKind.CONTAINER_RECONNECTED: (Stage.READY, "reconnected"),
    EventKind.CONTAINER_ANNOUNCED: (Stage.READY, "announced"),
    EventKind.CONTAINER_PAUSED: (Stage.READY, "paused"),
    EventKind.CONTAINER_UNPAUSED: (Stage.READY, "running"),
    EventKind.CONTAINER_REMOVED: (Stage.REMOVED, "removed"),
}
"""Kinds that alone say the stage, and the words for them; `Board._apply` has the others."""

_OF_IMAGES = frozenset(
    {EventKind.IMAGE_OBTAINING, EventKind.IMAGE_PROGRESS, EventKind.IMAGE_OBTAINED, EventKind.IMAGE_FAILED}
)


class Board:
    """All rows. `services`: the order of display within a stage; containers that have no event have no row. An image that
    is being got has one. `quiet_images`: how far images are is not shown; `quiet_builds`: nor what build steps write."""

    def __init__(
        self, services: Iterable[str] = (), *, quiet_images: bool = False, quiet_builds: bool = False
    ) -> None:
        self._quiet_images, self._quiet_builds = quiet_images, quiet_builds
        self._order = {name: number for number, name in enumerate(services)}
        self._rows: dict[str, Row] = {}
        self._of_service: dict[str, int] = {}

    def hides(self, event: Event) -> bool:
        """Whether it is not to be shown."""
        progress = event.kind is EventKind.IMAGE_PROGRESS
        return progress and (self._quiet_images or (self._quiet_builds and bool(event.text)))

    def apply(self, event: Event, now_s: float) -> None:
        if event.kind in _OF_IMAGES:
            self._apply_image(str(event.detail.get("image")), event, now_s)
            return
        if event.service is None:
            return
        key = event.container or event.service
        row = self._rows.get(key)
        if row is None:
            if event.kind is EventKind.HEALTH_PROBED:
                return  # Of a container that the operation has not touched (yet).
            self._order.setdefault(event.service, len(self._order))
            self._of_service[event.service] = self._of_service.get(event.service, 0) + 1
            row = self._rows[key] = Row(event.service, event.container, now_s)
        before = row.stage, row.detail
        self._apply(row, event)
        if counts_down(event):
            row.countdown = event, now_s
        elif (row.stage, row.detail) != before:
            row.countdown = None
        row.ended_s = None if row.stage.moving else (row.ended_s or now_s)

    def rows(self) -> list[Row]:
        """In the order of display."""
        return sorted(self._rows.values(), key=lambda row: (row.stage, self._order[row.service]))

    def row(self, key: str) -> Row | None:
        """Of a container, or of a service without one."""
        return self._rows.get(key)

    def name(self, row: Row) -> str:
        """The service's, where that says which container it is; else the container's."""
        return row.service if row.container is None or self._of_service[row.service] == 1 else row.container

    def failed(self) -> list[Row]:
        """Those that failed by themselves, not because of another."""
        return [row for row in self.rows() if row.failure is not None and row.stage is Stage.FAILED]

    def count(self, stage: Stage) -> int:
        return sum(row.stage is stage for row in self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def _apply(self, row: Row, event: Event) -> None:
        kind = event.kind
        if kind is EventKind.SERVICE_WAITING:
            condition = str(event.detail.get("condition", ""))
            row.waits[str(event.detail.get("on", "?"))] = _CONDITION_WORDS.get(condition, condition)
            row.stage = Stage.WAITING
        elif kind is EventKind.CONDITION_MET:
            row.waits.pop(str(event.detail.get("on", "?")), None)
        elif kind in _STAGES:
            row.stage, row.detail = _STAGES[kind]
            if kind is EventKind.CONTAINER_CREATING or kind is EventKind.CONTAINER_STARTING:
                row.waits.clear()
                row.failure = None
                row.end = ""
                row.since = event.at
        elif kind is EventKind.HOOK_STARTED:
            row.detail = str(event.detail.get("hook", ""))
            row.stage = Stage.STOPPING if row.detail.startswith("pre_stop") else Stage.STARTING
        elif kind is EventKind.HOOK_FAILED and row.stage is not Stage.STOPPING:
            row.stage, row.detail, row.failure = Stage.FAILED, event.text, event
        elif kind is EventKind.SERVICE_FAILED:
            row.stage, row.detail, row.failure = Stage.FAILED, row.end or event.text or "failed", event
        elif kind is EventKind.SERVICE_BLOCKED:
            row.stage, row.detail = Stage.BLOCKED, words_of(event)
        elif kind is EventKind.SERVICE_READY:
            # One with a health check has said that it is healthy.
            row.stage, row.detail = Stage.READY, row.detail if row.stage is Stage.READY else "running"
        elif kind is EventKind.RESTART_SCHEDULED:
            row.stage = Stage.BACKOFF
            row.detail = row.counting(event)
        elif kind is EventKind.CONTAINER_LINGERS:
            row.stage = Stage.STOPPING
            row.detail = row.counting(event)
        elif kind is EventKind.HEALTH_PROBED:
            self._probed(row, event)
        elif kind is EventKind.HEALTH_CHANGED:
            self._health_changed(row, event)
        elif kind is EventKind.CONTAINER_EXITED:
            if row.stage is not Stage.STOPPING:
                row.stage = Stage.DONE if event.detail.get("exit_status") == 0 else Stage.BACKOFF
            row.detail = row.end = row.end or words_of(event)

    def _apply_image(self, image: str, event: Event, now_s: float) -> None:
        self._order.setdefault(image, -1)
        self._of_service.setdefault(image, 1)
        row = self._rows.setdefault(image, Row(image, None, now_s, detail="getting it"))
        if event.kind in (EventKind.IMAGE_OBTAINED, EventKind.IMAGE_FAILED):
            failed = event.kind is EventKind.IMAGE_FAILED
            row.stage, row.detail = (Stage.FAILED, "failed") if failed else (Stage.DONE, "here")
            row.parts, row.ended_s = None, now_s
            return
        row.stage, row.ended_s = Stage.STARTING, None
        if not self._quiet_images and not self.hides(event):
            row.parts = row.parts or Parts()
            row.parts.take(transfer_of(event) if event.kind is EventKind.IMAGE_PROGRESS else event.text, now_s)

    def _probed(self, row: Row, event: Event) -> None:
        row.probe_output = str(event.detail.get("output", ""))
        if row.stage is not Stage.STARTING or event.detail.get("ok"):
            return
        row.detail = probe_text(event.detail)

    def _health_changed(self, row: Row, event: Event) -> None:
        health = event.detail.get("health")
        if health == "unhealthy":
            output = first_line(row.probe_output)
            row.stage, row.end, row.detail = Stage.UNHEALTHY, "unhealthy", f"unhealthy: {output}" if output else "unhealthy"
        elif health == "healthy":
            row.stage, row.end, row.detail = Stage.READY, "", "healthy"
