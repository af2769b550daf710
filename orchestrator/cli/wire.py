"""What goes over the control socket, as values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.contracts.control import NAMES, Selection
from orchestrator.contracts.events import ContainerStatus, Event
from orchestrator.errors import HostError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ServiceName


def encoded(request: object) -> tuple[str, Any]:
    """The verb and the args of a request."""
    return NAMES[type(request)], to_json(request)


def selected(services: Iterable[str], *, no_deps: bool = False) -> Selection:
    return Selection(tuple(ServiceName(name) for name in services), dependencies=not no_deps)


def event_of(data: object) -> Event | None:
    """The event; None for one of a kind that this version does not know."""
    try:
        return from_json(Event, data)
    except ValueError:
        return None


def statuses_of(data: object) -> tuple[ContainerStatus, ...]:
    """The result of ``ps``. Raises HostError when it is none."""
    if not isinstance(data, list):
        raise _unreadable("not a list")
    return tuple(status_of(item) for item in data)


def status_of(data: object) -> ContainerStatus:
    try:
        return from_json(ContainerStatus, data)
    except ValueError as exc:
        raise _unreadable(str(exc)) from exc


def _unreadable(why: str) -> HostError:
    return HostError(
        f"the supervisor's answer cannot be read: {why}",
        hint="it may be of another version: take the project down with that one",
    )
