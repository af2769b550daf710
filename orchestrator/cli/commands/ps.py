"""``pystack ps``."""

from __future__ import annotations

import sys
import time

from orchestrator.cli.connection import ANSWER_TIMEOUT_S, connect
from orchestrator.cli.render.statuses import ALIVE, FAILED, as_json, as_table, ended_well
from orchestrator.cli.selection import check_services
from orchestrator.cli.terminal import width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.render.statuses import Status
    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.site import Site


def ps(settings: Settings, services: tuple[str, ...], shape: str, everything: bool, quiet: bool, names_only: bool) -> None:
    """List services and their state."""
    site = settings.site()
    client = connect(site)
    if client is not None:
        with client:
            statuses: list[Status] = client.request("ps", {"services": []}, timeout_s=ANSWER_TIMEOUT_S)
    else:
        from orchestrator.cli.records import recorded_statuses
        from orchestrator.model.codec import to_json

        statuses = [to_json(status) for status in recorded_statuses(site)]
        everything = True
        if statuses:
            print("note: nothing of this project runs; this is what was recorded last", file=sys.stderr)
    check_services(services, [status["service"] for status in statuses], site.project)
    shown = [s for s in statuses if (not services or s["service"] in services) and (everything or _notable(s))]
    _print(site, shown, shape, quiet, names_only)


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
