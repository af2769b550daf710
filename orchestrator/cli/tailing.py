"""``logs -f``: what is written, until all containers have ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.cli.connection import connect
from orchestrator.cli.failures import note
from orchestrator.cli.logfollower import LogFollower
from orchestrator.cli.operation import wait_any
from orchestrator.cli.render.statuses import ALIVE
from orchestrator.cli.wire import encoded, event_of, statuses_of
from orchestrator.client import Client, EventMessage, SupervisorGone, Unanswered
from orchestrator.contracts.control import Events
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.site import Site
from orchestrator.model.names import ContainerId, ServiceName

MAY_END = frozenset(
    {
        EventKind.CONTAINER_EXITED,
        EventKind.CONTAINER_STOPPED,
        EventKind.CONTAINER_REMOVED,
        EventKind.SERVICE_FAILED,
        EventKind.OPERATION_FINISHED,
    }
)
"""After these nothing may be left that runs or will run."""


def any_alive(client: Client, services: Iterable[str]) -> bool:
    """Whether one of `services` runs or will run by itself (none given: of all)."""
    wanted = set(services)
    statuses = statuses_of(client.request("ps"))
    return any(status.phase.value in ALIVE for status in statuses if not wanted or status.service in wanted)


def follow_logs(
    site: Site,
    logs: LogFollower,
    containers: Mapping[ContainerId, ServiceName],
    services: tuple[str, ...],
    tail: int | None,
    since: float | None,
) -> None:
    """Print the logs of `containers` and go on until all of `services` (none: all of the project) have ended. Containers
    that are made meanwhile are followed too."""
    for container, service in containers.items():
        logs.add(container, service, tail=tail, since=since)
    logs.pump()
    try:
        while (events := connect(site)) is not None:
            with events:
                events.send(*encoded(Events()))
                if _follow(site, events, logs, services):
                    break
    except Unanswered as error:
        note(f"{error}; the end of its containers is not seen without it, Ctrl-C ends this", error.hint)
        while True:
            wait_any(logs.sources(), None)
            logs.pump()
    logs.finish()


def _follow(site: Site, events: Client, logs: LogFollower, services: tuple[str, ...]) -> bool:
    """Until all have ended (True), or the supervisor has (False)."""
    try:
        may_end = True
        while True:
            if may_end:
                client = Client.connect(site)
                if client is None:
                    return False
                with client:
                    if not any_alive(client, services):
                        return True
                may_end = False
            wait_any([events, *logs.sources()], None)
            logs.pump()
            while (message := events.receive(0)) is not None:
                event = event_of(message.value) if isinstance(message, EventMessage) else None
                if event is None:
                    continue
                may_end = may_end or event.kind in MAY_END
                started = event.kind is EventKind.CONTAINER_STARTED and (not services or event.service in services)
                if started and event.container and event.service:
                    logs.add(event.container, event.service)
                    logs.pump()
    except SupervisorGone:
        return False
