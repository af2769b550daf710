"""``pystack ps``."""

from __future__ import annotations

import os
import sys
import time

from orchestrator.cli.connection import connect
from orchestrator.cli.render.statuses import ALIVE, FAILED, as_json, as_table, docker_state, ended_well, identity
from orchestrator.cli.selection import check_named
from orchestrator.cli.table.looking import STATES
from orchestrator.cli.terminal import width
from orchestrator.client import Unanswered
from orchestrator.kernel import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.cli.render.statuses import Status
    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.events import ContainerStatus
    from orchestrator.contracts.site import Site


_COLUMNS = {"CreatedAt": "CREATED AT", "RunningFor": "CREATED", "ID": "CONTAINER ID", "LocalVolumes": "LOCAL VOLUMES"}
"""Headers that are not the field's name."""


def ps(
    settings: Settings,
    services: tuple[str, ...],
    shape: str,
    everything: bool,
    quiet: bool,
    names_only: bool,
    states: tuple[str, ...],
    filters: tuple[str, ...],
    orphans: bool,
    no_trunc: bool,
) -> None:
    """List containers and their state."""
    site = settings.site()
    labels = tuple(text.removeprefix("label=") for text in filters if text.startswith("label="))
    wanted = (*states, *(_state(text) for text in filters if not text.startswith("label=")))
    statuses, complete = _statuses(site)
    everything = everything or not complete or bool(wanted or labels)
    check_named(settings, services, _known(site, services, statuses))
    stack = None if orphans else _stack(site)
    shown = [
        status
        for status in statuses
        if (not services or status["service"] in services)
        and (everything or _notable(status))
        and (not wanted or docker_state(status) in wanted)
        and all(_has_label(status, label) for label in labels)
        and (stack is None or status["service"] in stack)
    ]
    columns = None if no_trunc or not sys.stdout.isatty() else width()
    _print(site, shown, shape or _configured(settings.environ), quiet, names_only, columns)


def _with_methods(row: dict[str, Any], status: Status) -> dict[str, Any]:
    labels = status.get("labels", {})
    return {**row, "Label": lambda key: labels.get(key, "")}


def _has_label(status: Status, label: str) -> bool:
    """``KEY``, or ``KEY=VALUE``."""
    key, equals, value = label.partition("=")
    found = status.get("labels", {}).get(key)
    return found is not None and (not equals or found == value)


def _state(text: str) -> str:
    """Of ``--filter status=running``. Raises InputError."""
    name, _, state = text.partition("=")
    if name != "status" or state not in STATES:
        from orchestrator.errors import InputError

        hint = f"label=KEY[=VALUE], or status=STATE, with one of {', '.join(STATES)}"
        raise InputError(f'"{text}" is no filter', hint=hint)
    return state


def _known(site: Site, services: tuple[str, ...], statuses: Sequence[Status]) -> set[str]:
    """The services that may be named; those without a container are looked for in the record when one of them is."""
    there = {status["service"] for status in statuses}
    return there if there.issuperset(services) else there | _stack(site)


def _stack(site: Site) -> set[str]:
    from orchestrator.state.services import recorded

    return set(recorded(site).services)


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


def _configured(environ: Mapping[str, str]) -> str:
    """The ``psFormat`` of Docker's configuration file (docs.docker.com/reference/cli/docker); "" where there is none."""
    home = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME", ""), ".docker")
    try:
        with open(os.path.join(home, "config.json"), "rb") as file:
            found = jsontext.loads(file.read()).get("psFormat", "")
    except (OSError, ValueError, AttributeError):
        return ""  # Whoever logs in to a registry is told what is wrong with it.
    return found if isinstance(found, str) else ""


def _print(
    site: Site, statuses: list[Status], shape: str, quiet: bool, names_only: bool, columns: int | None
) -> None:
    if names_only:
        lines = list(dict.fromkeys(status["service"] for status in statuses))
    elif quiet:
        lines = [identity(status) for status in statuses]
    elif shape.strip() == "json":
        lines = [jsontext.dumps(as_json(status, site.project, time.time())) for status in statuses]
    elif shape.strip() not in ("", "table"):
        from orchestrator.cli.render.rows import render_rows

        rows = [_with_methods(as_json(status, site.project, time.time()), status) for status in statuses]
        lines = [text] if (text := render_rows(rows, shape, _COLUMNS, width=columns)) else []
    else:
        lines = [as_table(statuses, time.time(), columns, links=sys.stdout.isatty())]
    if lines:
        print("\n".join(lines))
