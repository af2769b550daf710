"""``pystack plan``: what a verb would do, and why. Nothing is changed."""

from __future__ import annotations

import json

from orchestrator.cli.connection import explain_unknown
from orchestrator.cli.orphans import orphans, removes_orphans
from orchestrator.cli.render.escape import escape_text
from orchestrator.cli.scaling import replicas
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import encoded, selected
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Down, PlanOf, Restart, Start, Stop, Up
from orchestrator.errors import PystackError


def plan(
    settings: Settings,
    verb: str,
    services: tuple[str, ...],
    force_recreate: bool,
    no_recreate: bool,
    no_deps: bool,
    scale: tuple[str, ...],
    remove_orphans: bool,
    volumes: bool,
    shape: str,
) -> None:
    """Show what VERB (up, down, stop, start, restart; default: up) would do, and why."""
    from orchestrator.cli.commands.up import recreate_mode

    selection = selected(services, no_deps=no_deps)
    if verb == "up":
        project, _ = settings.load_to_run(services)
        if project.providers:
            from orchestrator.cli.providers import recall

            project = recall(settings, project)
        site = settings.site_named(project.name)
        recreate = recreate_mode(force_recreate, no_recreate)
        remove, ignore = orphans(settings, remove_orphans)
        numbers = replicas(scale, project)
        up = Up(project, selection, numbers, recreate=recreate, remove_orphans=remove, ignore_orphans=ignore)
        request = PlanOf(up=up)
    else:
        site = settings.site()
        stack = settings.load_if_possible() if verb == "down" else None
        request = {
            "down": PlanOf(down=Down(stack, selection, volumes, removes_orphans(settings, remove_orphans))),
            "start": PlanOf(start=Start(selection)),
            "stop": PlanOf(stop=Stop(selection)),
            "restart": PlanOf(restart=Restart(selection)),
        }[verb]
    # A supervisor that is started for the question alone has nothing to supervise, and ends by itself.
    client, _ = ensure_supervisor(site, settings.begun)
    with client:
        try:
            result = client.request(*encoded(request))
        except PystackError as error:
            raise explain_unknown(site, error, services) from None
    print(json.dumps(result["steps"], indent=2) if shape == "json" else escape_text(result["text"].rstrip("\n")))
