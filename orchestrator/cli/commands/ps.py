"""``pystack ps``."""

from __future__ import annotations

import sys
import time

from orchestrator.cli.connection import connect
from orchestrator.cli.render.statuses import ALIVE, FAILED, as_json, as_table, ended_well
from orchestrator.cli.selection import check_services
from orchestrator.cli.terminal import width
from orchestrator.client import Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cli.render.statuses import Status
    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.events import ContainerStatus
    from orchestrator.contracts.site import Site


def ps(settings: Settings, services: tuple[str, ...], shape: str, everything: bool, quiet: bool, names_only: bool) -> None:
    """List services and their state."""
    site = settings.site()
    statuses, complete = _statuses(site)
    everything = everything or not complete
    check_services(services, [status["service"] for status in statuses], site.project)
    shown = [s for s in statuses if (not services or s["service"] in services) and (everything or _notable(s))]
    _print(site, shown, shape, quiet, names_only)


def _statuses(site: Site) -> tuple[list[Status], bool]:
    """The rows, and whether they are the supervisor's own; stderr says what else they are."""
    try:
        if (client := connect(site)) is not None:
            with client:
                return client.request("ps"), True
    except Unanswered as error:
        from orchestrator.cli.failures import note
        from orchestrator.cli.records import observed_statuses

        note(f"{error}; this is what can be seen without it", error.hint)
        return _as_sent(observed_statuses(site)), False
    from orchestrator.cli.failures import note
    from orchestrator.cli.records import recorded_statuses

    statuses = recorded_statuses(site)
    if statuses:
        note("nothing of this project runs; this is what was recorded last")
    return _as_sent(statuses), False


def _as_sent(statuses: Sequence[ContainerStatus]) -> list[Status]:
    from orchestrator.model.codec import to_json

    return [to_json(status) for status in statuses]


def _notable(status: Status) -> bool:
    """Not what ended as it should."""
    phase = status["phase"]
    return phase in ALIVE or phase in FAILED or (phase == "exited" and not ended_well(status))


def _print(site: Site, statuses: list[Status], shape: str, quiet: bool, names_only: bool) -> None:
    if names_only:
        lines = [status["service"] for status in statuses]
    elif quiet:
        lines = [status["container"] for status in statuses]
    elif shape == "json":
        from orchestrator.kernel.jsontext import dumps

        lines = [dumps(as_json(status, site.project, time.time())) for status in statuses]
    else:
        lines = [as_table(statuses, time.time(), width() if sys.stdout.isatty() else None)]
    if lines:
        print("\n".join(lines))
