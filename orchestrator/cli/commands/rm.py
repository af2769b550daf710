"""``pystack rm``."""

from __future__ import annotations

from orchestrator.cli.asking import agreed
from orchestrator.cli.commands.lifecycle import operate
from orchestrator.cli.connection import manage
from orchestrator.cli.failures import note
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected
from orchestrator.contracts.control import Remove
from orchestrator.model.phase import LIVE, Phase


def rm(settings: Settings, services: tuple[str, ...], force: bool, stop: bool, volumes: bool) -> None:
    """Remove containers that do not run, and with `stop` those that do too, after asking."""
    request = Remove(selected(services), stop, volumes)
    if not (force or settings.dry_run) and (names := _doomed(settings, services, stop)) and not _confirmed(names):
        return
    operate(settings, request, "removed", needs_project=False)


def _doomed(settings: Settings, services: tuple[str, ...], stop: bool) -> list[str]:
    """What is asked about. The supervisor decides again when it removes: what has been started meanwhile stays."""
    client = manage(settings.site())
    if client is None:
        return []
    with client:
        rows = client.request("ps")
    return [
        row["container"]
        for row in rows
        if row.get("role", "replica") == "replica"
        and (not services or row["service"] in services)
        and (stop or Phase(row["phase"]) not in LIVE)
    ]


def _confirmed(names: list[str]) -> bool:
    """The user's answer; no, where nobody can be asked."""
    answer = agreed(f"Going to remove {escape_line(', '.join(names))}\nAre you sure? [yN] ")
    if answer is None:
        note(f"nothing is removed of {', '.join(names)}: nobody can be asked", "-f removes without asking")
    return bool(answer)
