"""``pystack wait``: until containers have ended.

The events are asked for from before the first look on, so that no end falls between the two. When the supervisor ends it is
because nothing is left to supervise, or it was killed: then the next look says what has become of the containers.
"""

from __future__ import annotations

import time

from orchestrator.cli.connection import connect
from orchestrator.cli.render.statuses import last_status
from orchestrator.cli.selection import check_named
from orchestrator.client import EventMessage, SupervisorGone
from orchestrator.errors import OperationError
from orchestrator.model.phase import LIVE, Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site

_PENDING = LIVE | {Phase.WAITING}
_ENDS = ("container.exited", "container.stopped", "container.removed", "service.failed", "service.blocked")
_LOST = 255


class _Over(Exception):
    """Something may have ended: look again."""


def wait(settings: Settings, services: tuple[str, ...], down_project: bool) -> int:
    """Wait for all containers of SERVICEs, or with `down_project` for the first; the exit code of the last that ended."""
    site = settings.site()
    ended: dict[str, int] = {}
    code = 0
    while True:
        asked_at = time.time()
        rows = _rows(settings, site, services, begun=bool(ended))
        for container, status in _ended(rows).items():
            if container not in ended:
                ended[container] = code = status
                print(f'container "{container}" exited with status code {status}', flush=True)
        pending = [row["container"] for row in rows if Phase(row["phase"]) in _PENDING]
        if settings.dry_run or not pending or (down_project and ended):
            break
        _await_an_end(site, pending, asked_at)
    if down_project and not settings.dry_run:
        from orchestrator.cli.commands.down import down

        down(settings, (), volumes=False, remove_orphans=False, timeout_s=None, rmi=None)
    return code


def _rows(settings: Settings, site: Site, services: tuple[str, ...], *, begun: bool) -> list[Mapping[str, Any]]:
    """The replicas of `services`. Raises InputError for an unknown service, OperationError when none has a container,
    unless the wait has `begun`: they may have been removed meanwhile."""
    client = connect(site)
    if client is not None:
        with client:
            every: list[Mapping[str, Any]] = client.request("ps")
    else:
        from orchestrator.cli.records import recorded_statuses
        from orchestrator.model.codec import to_json

        every = [to_json(status) for status in recorded_statuses(site)]
    rows = [row for row in every if row["service"] in services and row.get("role", "replica") == "replica"]
    if not rows and not begun:
        from orchestrator.state.services import recorded

        check_named(settings, services, {*(row["service"] for row in every), *recorded(site).services})
        raise OperationError(
            f"{', '.join(services)}: there is no container to wait for", hint="`pystack up -d` makes and starts them"
        )
    return rows


def _ended(rows: list[Mapping[str, Any]]) -> dict[str, int]:
    """Exit codes by container. One that has never run has none: 0."""
    return {row["container"]: last_status(row) for row in rows if Phase(row["phase"]) not in _PENDING}


def _await_an_end(site: Site, pending: list[str], since: float) -> None:
    """Returns when one of `pending` may have ended since then (epoch seconds)."""

    def see(message: EventMessage) -> None:
        event = message.value
        if event.get("kind") in _ENDS and event.get("container") in (None, *pending):
            raise _Over

    client: Client | None = connect(site)
    if client is None:
        return
    with client:
        try:
            client.request("events", {"since": since}, see)
        except (_Over, SupervisorGone):
            return
