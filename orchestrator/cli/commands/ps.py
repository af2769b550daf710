"""``pystack ps``."""

from __future__ import annotations

import json
import sys
import time

import click

from orchestrator.cli.commands import options
from orchestrator.cli.connection import connect
from orchestrator.cli.failures import note
from orchestrator.cli.render.statuses import ALIVE, as_json, as_table
from orchestrator.cli.selection import check_services
from orchestrator.cli.settings import Settings
from orchestrator.cli.terminal import width
from orchestrator.cli.wire import statuses_of
from orchestrator.client import Unanswered
from orchestrator.contracts.events import ContainerStatus
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Wanted
from orchestrator.model.phase import Phase


@click.command()
@options.services
@click.option("--format", "shape", type=click.Choice(["table", "json"]), default="table", help="json: an object a line.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also what was stopped, or ended with code 0.")
@click.option("-q", "--quiet", is_flag=True, help="Only container ids.")
@click.option("--services", "names_only", is_flag=True, help="Only service names.")
@click.pass_obj
def ps(settings: Settings, services: tuple[str, ...], shape: str, everything: bool, quiet: bool, names_only: bool) -> None:
    """List services and their state."""
    site = settings.site()
    statuses, complete = _statuses(site)
    everything = everything or not complete
    check_services(services, [status.service for status in statuses], site.project)
    shown = [s for s in statuses if (not services or s.service in services) and (everything or _notable(s))]
    _print(site, shown, shape, quiet, names_only)


def _statuses(site: Site) -> tuple[tuple[ContainerStatus, ...], bool]:
    """The rows, and whether they are the supervisor's own; stderr says what else they are."""
    try:
        if (client := connect(site)) is not None:
            with client:
                return statuses_of(client.request("ps")), True
    except Unanswered as error:
        from orchestrator.cli.records import observed_statuses

        note(f"{error}; this is what can be seen without it", error.hint)
        return observed_statuses(site), False
    from orchestrator.cli.records import recorded_statuses

    statuses = recorded_statuses(site)
    if statuses:
        note("nothing of this project runs; this is what was recorded last")
    return statuses, False


def _notable(status: ContainerStatus) -> bool:
    """Not what ended as it should."""
    if status.phase in ALIVE or status.phase in (Phase.FAILED, Phase.BLOCKED):
        return True
    ended_well = status.exit is None or status.exit.ok or status.wanted is Wanted.STOPPED
    return status.phase is Phase.EXITED and not ended_well


def _print(site: Site, statuses: list[ContainerStatus], shape: str, quiet: bool, names_only: bool) -> None:
    if names_only:
        lines = [str(status.service) for status in statuses]
    elif quiet:
        lines = [str(status.container) for status in statuses]
    elif shape == "json":
        lines = [json.dumps(as_json(status, site.project, time.time())) for status in statuses]
    else:
        lines = [as_table(statuses, time.time(), width() if sys.stdout.isatty() else None)]
    if lines:
        print("\n".join(lines))
