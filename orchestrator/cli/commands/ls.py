"""``pystack ls``: the projects of this machine, by their records and what their supervisors say."""

from __future__ import annotations

import os

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.statuses import docker_state
from orchestrator.client import Client
from orchestrator.errors import HostError, InputError, PystackError, access_hint
from orchestrator.model.keys import ProjectName

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.site import Site

_COLUMNS = {"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"}
_RUNS = ("running", "paused", "restarting")


def ls(settings: Settings, everything: bool, filters: tuple[str, ...], shape: str, quiet: bool) -> None:
    """List the projects of which something runs, or all."""
    parts = tuple(map(_part, filters))
    rows = [
        row
        for name in _names(settings)
        if (not parts or any(part in name for part in parts))
        and (row := _row(settings.site_named(name), everything)) is not None
    ]
    if quiet:
        print("".join(f"{escape_line(row['Name'])}\n" for row in rows), end="")
    elif shape.strip() == "json":
        import json

        print(json.dumps(rows, separators=(",", ":")))  # To the letter as Docker Compose has it.
    else:
        from orchestrator.cli.render.rows import render_rows

        if text := render_rows(rows, shape, _COLUMNS):
            print(text)


def _part(text: str) -> str:
    """Of ``name=PART``. Raises InputError."""
    key, _, part = text.partition("=")
    if key != "name" or not part:
        raise InputError(f'"{text}" is no filter', hint="there is name=PART")
    return part


def _names(settings: Settings) -> list[ProjectName]:
    """Those of the data directory that are names, sorted. Raises HostError for one that cannot be read."""
    from orchestrator.model.keys import normal_project_name
    from orchestrator.state.directory import DEFAULT_DATA

    root = os.path.join(os.path.abspath(settings.data_root or DEFAULT_DATA), "projects")
    try:
        found = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise HostError(f"cannot read {root}: {exc.strerror}", hint=access_hint(exc)) from exc
    return [ProjectName(name) for name in sorted(found) if normal_project_name(name) == name]


def _row(site: Site, everything: bool) -> dict[str, Any] | None:
    """None for a project of which nothing runs, unless `everything`; and for one that was taken down."""
    statuses = _statuses(site)
    states: dict[str, int] = {}
    for status in statuses:
        state = docker_state(status)
        states[state] = states.get(state, 0) + 1
    if not statuses or not (everything or any(state in _RUNS for state in states)):
        return None
    shown = ", ".join(f"{state}({count})" for state, count in sorted(states.items()))
    return {"Name": site.project, "Status": shown, "ConfigFiles": ",".join(_files(site))}


def _statuses(site: Site) -> Sequence[Mapping[str, Any]]:
    """What its supervisor says; what is recorded, where none answers."""
    try:
        client = Client.connect(site)
        if client is not None:
            with client:
                rows: list[Mapping[str, Any]] = client.request("ps")
                return rows
    except PystackError:
        pass  # A list of all projects does without what one of them has to say.
    from orchestrator.cli.records import observed_statuses
    from orchestrator.model.codec import to_json

    try:
        return [to_json(status) for status in observed_statuses(site)]
    except PystackError:
        return ()


def _files(site: Site) -> tuple[str, ...]:
    """The compose files that it was brought up with."""
    from orchestrator.state.reading import Reading

    try:
        record = Reading(site).record
    except PystackError:
        return ()
    return record.project.compose_files if record is not None else ()
