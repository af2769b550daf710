"""``pystack scale``."""

from __future__ import annotations

import time

from orchestrator.cli.dryrun import shown_instead
from orchestrator.cli.operation import Operation, report_failures, report_left
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.scaling import replicas
from orchestrator.cli.settings import Settings
from orchestrator.cli.wanted_images import caller_variables
from orchestrator.cli.wire import statuses_of
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Scale
from orchestrator.errors import PystackError
from orchestrator.model.names import Role


def scale(settings: Settings, numbers: tuple[str, ...], no_deps: bool, timeout_s: float | None) -> None:
    """Change how many containers services have."""
    began_s = time.monotonic()
    project, _ = settings.load_to_run(tuple(number.partition("=")[0] for number in numbers))
    wanted = replicas(numbers, project)
    if project.providers:
        from orchestrator.cli.providers import recall

        project = recall(settings, project)
    site = settings.site_named(project.name)
    request = Scale(
        project,
        wanted,
        dependencies=not no_deps,
        timeout_s=timeout_s,
        named=settings.origin()[1],
        registry=caller_variables(settings.environ),
    )
    if shown_instead(settings, request, site):
        return
    board = Board(project.services)
    progress = choose(settings.terminal(), f"scale {project.name}", board)
    client, _ = ensure_supervisor(site, settings.begun)
    with client:
        try:
            result = Operation(client, request, progress, board).run()
        except PystackError:
            progress.close()
            report_failures(site, board, progress)
            report_left(site, board, progress)
            raise
        finally:
            progress.close()
    statuses = statuses_of(result.get("statuses", []))
    there = {name: sum(s.service == name and s.role is Role.REPLICA for s in statuses) for name in wanted}
    counts = ", ".join(f"{name}: {count}" for name, count in there.items())
    progress.summary(f"{counts} in {time.monotonic() - began_s:.2f} s", result)
