"""``pystack events``."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.cli.connection import connect, require
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.plain import sentence
from orchestrator.cli.render.statuses import identity
from orchestrator.cli.selection import check_named
from orchestrator.cli.wire import encoded, event_of
from orchestrator.client import EventMessage, SupervisorGone
from orchestrator.contracts.control import Events
from orchestrator.contracts.events import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site

_ID_DIGITS = 64
_ACTIONS = {
    EventKind.CONTAINER_CREATED: "create",
    EventKind.CONTAINER_STARTED: "start",
    EventKind.CONTAINER_EXITED: "die",
    EventKind.CONTAINER_STOPPED: "stop",
    EventKind.CONTAINER_REMOVED: "destroy",
    EventKind.CONTAINER_PAUSED: "pause",
    EventKind.CONTAINER_UNPAUSED: "unpause",
    EventKind.CONTAINER_UPDATED: "update",
}
"""Docker's words (docs.docker.com/reference/cli/docker/system/events), by our kinds."""


def events(
    settings: Settings, services: tuple[str, ...], shape: str, as_json: bool, since: str | None, until: str | None
) -> None:
    """Follow what happens in the project, until Ctrl-C, until `until`, or until the project is taken down."""
    from orchestrator.cli.instants import parse_instant

    now = time.time()
    since_s = parse_instant(since, now) if since else None
    until_s = parse_instant(until, now) if until else None
    site = settings.site()
    follow = until_s is None or until_s > now
    if services:
        from orchestrator.state.services import recorded

        check_named(settings, services, recorded(site).services)
    text = _DockerEvents(site).text if as_json else json.dumps if shape == "json" else _text

    def show(value: Any) -> None:
        if (until_s is None or value.get("at", 0.0) <= until_s) and (not services or value.get("service") in services):
            line = text(value)
            if line:
                print(line, flush=True)

    client = connect(site)
    if client is None and (since_s is not None or not follow):
        for value in _logged(site, since_s):
            show(value)
        return
    with client or require(site) as client:
        try:
            _follow(client, Events(since_s, follow=follow), show, until_s)
        except SupervisorGone:
            # Events end with the supervisor: there is no project any more.
            return


def _follow(client: Client, request: Events, show: Callable[[Any], None], until_s: float | None) -> None:
    """`show` the events of `request` as they come. Returns at their end, or at `until_s`, epoch seconds."""
    client.send(*encoded(request))
    while True:
        left_s = None if until_s is None or not request.follow else until_s - time.time()
        if left_s is not None and left_s <= 0:
            return
        message = client.receive(left_s)
        if isinstance(message, EventMessage):
            show(message.value)
        elif message is not None:
            return


def _logged(site: Site, since_s: float | None) -> list[Any]:
    """From the event log, while no supervisor runs; as it would send them."""
    from orchestrator.model.codec import to_json
    from orchestrator.state.journal import EventLog

    return [to_json(event) for event in EventLog(site).since(since_s)] if since_s is not None else []


def _text(value: Any) -> str:
    event = event_of(value)
    if event is None:
        return ""
    at = datetime.fromtimestamp(event.at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{at}  {event.kind.value.ljust(18)}  {escape_line(sentence(event))}"


class _DockerEvents:
    """Events as ``docker compose events --json`` prints them: of containers alone. Which one has which id and image its
    status says, as long as it exists."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[str, Mapping[str, Any]] = {}

    def text(self, value: Any) -> str:
        """One line of JSON; "" for what Docker Compose has no word for."""
        event = event_of(value)
        if event is None or event.container is None or (action := _action(event)) is None:
            return ""
        status = self._status(event.container, made=event.kind is EventKind.CONTAINER_CREATED)
        attributes = {"image": status.get("image", ""), "name": event.container}
        if (code := event.detail.get("exit_status")) is not None:
            attributes["exitCode"] = str(code)
        line = {
            "action": action,
            "attributes": attributes,
            "id": identity(status, _ID_DIGITS) if status else "",
            "service": event.service,
            "time": datetime.fromtimestamp(event.at, UTC).isoformat().replace("+00:00", "Z"),
            "type": "container",
        }
        return json.dumps(line, separators=(",", ":"))

    def _status(self, container: str, *, made: bool) -> Mapping[str, Any]:
        """Asked for when it is `made`, as it has another id then, and when it is not known yet."""
        if made or container not in self._known:
            client = connect(self._site)
            if client is not None:
                with client:
                    self._known |= {row["container"]: row for row in client.request("ps")}
        return self._known.get(container, {})


def _action(event: Event) -> str | None:
    if event.kind is EventKind.HEALTH_CHANGED:
        return f"health_status: {event.detail.get('health')}"
    return _ACTIONS.get(event.kind)
