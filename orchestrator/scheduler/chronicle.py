"""Events out, and the last hundred of each service kept for ``pystack why``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from orchestrator.contracts.events import Emit, Event, EventKind, Scalar
from orchestrator.model.names import ContainerId, ServiceName

KEPT = 100


class Chronicle:
    """`wall_clock`: epoch seconds, for display alone."""

    def __init__(self, emit: Emit, wall_clock: Callable[[], float]) -> None:
        self._emit = emit
        self.wall_clock = wall_clock
        self._kept: dict[ServiceName, deque[Event]] = {}

    def note(
        self,
        kind: EventKind,
        text: str,
        service: ServiceName | None = None,
        container: ContainerId | None = None,
        *,
        passing: bool = False,
        **detail: Scalar | tuple[str, ...],
    ) -> None:
        """Send an event. `passing`: not worth remembering (a probe that passed would soon fill the history)."""
        event = Event(kind, text, self.wall_clock(), service, container, detail)
        if service is not None and not passing:
            kept = self._kept.get(service)
            if kept is None:
                kept = self._kept[service] = deque(maxlen=KEPT)
            kept.append(event)
        self._emit(event)

    def history(self, service: ServiceName) -> tuple[Event, ...]:
        """Oldest first."""
        return tuple(self._kept.get(service, ()))
