"""What is done to a thing, in a line of Docker Compose's words: ``Container shop-web-1 Started``. Scripts look for them.

It is what ``--progress plain`` says where Docker Compose has a word; the event's own sentence stays for people who ask
later (`pystack why`, `events`).
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.cli.render.words import exit_text
from orchestrator.contracts.events import Event, EventKind
from orchestrator.errors import InputError

_OF_CONTAINERS: Mapping[EventKind, str] = {
    EventKind.CONTAINER_CREATING: "Creating",
    EventKind.CONTAINER_CREATED: "Created",
    EventKind.CONTAINER_STARTING: "Starting",
    EventKind.CONTAINER_STARTED: "Started",
    EventKind.CONTAINER_STOPPING: "Stopping",
    EventKind.CONTAINER_STOPPED: "Stopped",
    EventKind.CONTAINER_REMOVED: "Removed",
    EventKind.CONTAINER_PAUSED: "Paused",
    EventKind.CONTAINER_UNPAUSED: "Unpaused",
    EventKind.HEALTH_CHANGED: "Healthy",
}
_OF_OTHERS: Mapping[EventKind, tuple[str, str, str]] = {
    EventKind.NETWORK_CREATED: ("Network", "network", "Created"),
    EventKind.NETWORK_REMOVED: ("Network", "network", "Removed"),
    EventKind.VOLUME_CREATED: ("Volume", "volume", "Created"),
    EventKind.VOLUME_REMOVED: ("Volume", "volume", "Removed"),
}
"""What it is, which detail has its name, and the word."""
_OF_IMAGES: Mapping[EventKind, tuple[str, str]] = {
    EventKind.IMAGE_OBTAINING: ("Pulling", "Building"),
    EventKind.IMAGE_OBTAINED: ("Pulled", "Built"),
}


def step_of(event: Event) -> str:
    """The line, or "" where Docker Compose has no word for it: its own text says more."""
    if event.kind in _OF_OTHERS:
        what, key, word = _OF_OTHERS[event.kind]
        return f"{what} {event.detail[key]} {word}" if key in event.detail else ""
    if event.kind in _OF_IMAGES:
        return _of_image(event)
    if event.kind in _OF_CONTAINERS and event.container is not None:
        return _of_container(event)
    return ""


def _of_container(event: Event) -> str:
    detail, word = event.detail, _OF_CONTAINERS[event.kind]
    if event.kind is EventKind.HEALTH_CHANGED and detail.get("health") != "healthy":
        return ""
    if event.kind is EventKind.CONTAINER_STARTED and detail.get("adopted"):
        return ""
    if event.kind is EventKind.CONTAINER_STOPPING and "signal" in detail:  # `kill -s`: it may go on.
        return ""
    more = exit_text(detail) if event.kind is EventKind.CONTAINER_STOPPED else str(detail.get("why", ""))
    return f"Container {event.container} {word}{f' ({more})' if more else ''}"


def _of_image(event: Event) -> str:
    """A line for its begin and its end, not for what is said in between; and none for `host` and directories, which are
    neither pulled nor built."""
    detail, (pulls, builds) = event.detail, _OF_IMAGES[event.kind]
    if "builds" not in detail:
        return ""
    name = str(detail.get("image"))
    if detail["builds"]:
        return f"Image {name} {builds}"
    return f"Image {name} {pulls}" if is_pulled(name) else ""


def is_pulled(image: str) -> bool:
    """Whether it comes from a registry."""
    from orchestrator.images.reference import Named, parse_reference

    try:
        return isinstance(parse_reference(image), Named)
    except InputError:
        return False
