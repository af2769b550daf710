"""``pystack down``."""

from __future__ import annotations

import time

from orchestrator.cli.connection import manage
from orchestrator.cli.operation import Operation
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.settings import Settings
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Down
from orchestrator.contracts.site import Site
from orchestrator.model.project import Project
from orchestrator.state.volumes import FileVolumes
from orchestrator.values import replace

_END_TIMEOUT_S = 10.0
"""For the supervisor to end after its last answer."""


def down(settings: Settings, volumes: bool, remove_orphans: bool, timeout_s: float | None) -> None:
    """Stop and remove everything of the project, dependents first. Named volumes stay, unless -v is given."""
    began_s = time.monotonic()
    site = settings.site()
    board = Board()
    progress = choose(settings.terminal(), f"down {site.project}", board)
    client = manage(site)
    folder, named = settings.origin()
    request = Down(volumes=volumes, remove_orphans=remove_orphans, timeout_s=timeout_s, working_dir=folder, named=named)
    if client is None and volumes and (project := _with_volumes(settings, site)) is not None:
        # It is down already, but its volumes are still there; only the files say which they are.
        request = replace(request, project=project)
        client, _ = ensure_supervisor(site)
    if client is None:
        progress.summary(f"project {site.project} does not exist: nothing to remove", {"removed": 0})
        return
    with client:
        try:
            result = Operation(client, request, progress, board).run()
        finally:
            progress.close()
        # The next command must find no supervisor that is on its way out.
        client.close_and_wait_end(_END_TIMEOUT_S)
    removed = result.get("removed", 0)
    noun = "container" if removed == 1 else "containers"
    progress.summary(f"{removed} {noun} removed in {time.monotonic() - began_s:.2f} s", result)


def _with_volumes(settings: Settings, site: Site) -> Project | None:
    """The project of the compose files, if any of its volumes exists."""
    project = settings.load()
    existing = FileVolumes(site).existing(tuple(project.volumes.values()))
    return project if any(not volume.external for volume in existing) else None
