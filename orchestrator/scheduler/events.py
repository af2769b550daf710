"""Events out. They are kept by who receives them (the supervisor's event log), not here."""

from __future__ import annotations

from collections.abc import Callable

import trio

from orchestrator.contracts.events import DETAILS, Detail, Emit, Event, EventKind
from orchestrator.model.names import ContainerId, ServiceName


class EventSink:
    """`wall_clock`: epoch seconds, for display, and for schedules."""

    def __init__(self, emit: Emit, wall_clock: Callable[[], float]) -> None:
        self._emit = emit
        self._begun_s = trio.current_time()
        self.wall_clock = wall_clock

    def note(
        self,
        kind: EventKind,
        text: str,
        service: ServiceName | None = None,
        container: ContainerId | None = None,
        **detail: Detail,
    ) -> None:
        """Send an event of this moment."""
        assert detail.keys() <= set(DETAILS.get(kind, ())), f"{kind.name} carries no {sorted(detail)}"
        clock_s = round(trio.current_time() - self._begun_s, 6)
        self._emit(Event(kind, text, self.wall_clock(), service, container, detail, clock_s))
