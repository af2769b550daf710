"""``logs -f``: what is written, until all containers have ended."""

from __future__ import annotations

import time
from collections.abc import Iterable

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
from orchestrator.model.names import Role

MAY_END = frozenset(
    {
        EventKind.CONTAINER_EXITED,
        EventKind.SERVICE_FAILED,
        EventKind.OPERATION_FINISHED,
    }
)
"""After these nothing may be left that runs or will run."""


def any_alive(client: Client, services: Iterable[str], role: Role | None = None) -> bool:
    """Whether a container of `services` (none given: of all) runs or will run by itself. `role`: only of this one."""
    wanted = set(services)
    return any(
        status.phase.value in ALIVE
        for status in statuses_of(client.request("ps"))
        if (not wanted or status.service in wanted) and (role is None or status.role is role)
    )


def follow_logs(
    site: Site, logs: LogFollower, services: tuple[str, ...], tail: int | None, since: float | None, until: float | None
) -> None:
    """Print what `logs` follows and go on until all of `services` (none: all of the project) have ended, or it is `until`
    (epoch seconds). Containers that are made meanwhile are followed too."""
    try:
        while (events := connect(site)) is not None:
            with events:
                # What appears after this look is told by an event: a subscription alone begins whenever it is served.
                looked_at = time.time()
                logs.add_all(tail=tail, since=since)
                logs.pump()
                tail = None
                events.send(*encoded(Events(looked_at)))
                if _follow(site, events, logs, services, until):
                    break
    except Unanswered as error:
        note(f"{error}; the end of its containers is not seen without it, Ctrl-C ends this", error.hint)
        logs.add_all(tail=tail, since=since)
        logs.pump()
        while (left_s := _left_s(until)) != 0:
            wait_any(logs.sources(), left_s)
            logs.pump()
    logs.add_all(tail=tail, since=since)  # One may have begun and ended since the last look.
    logs.finish()


def _left_s(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.time())


def _follow(site: Site, events: Client, logs: LogFollower, services: tuple[str, ...], until: float | None) -> bool:
    """Until all have ended or it is time (True), or the supervisor has ended (False)."""
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
            if (left_s := _left_s(until)) == 0:
                return True
            wait_any([events, *logs.sources()], left_s)
            logs.pump()
            while (message := events.receive(0)) is not None:
                event = event_of(message.value) if isinstance(message, EventMessage) else None
                if event is not None:
                    may_end = may_end or event.kind in MAY_END
                    logs.notice(event)
    except SupervisorGone:
        return False
