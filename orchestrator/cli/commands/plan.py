"""``pystack plan``: what a verb would do, and why. Nothing is changed."""

from __future__ import annotations

import json

from orchestrator.cli import planfile
from orchestrator.cli.connection import explain_unknown
from orchestrator.cli.render.escape import escape_text
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import encoded
from orchestrator.client import ensure_supervisor
from orchestrator.errors import PystackError
from orchestrator.values import replace


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
    output: str | None,
) -> None:
    """Show what VERB (up, down, stop, start, restart; default: up) would do, and why. `output`: the file for `apply`."""
    asked = planfile.Asked(verb, services, force_recreate, no_recreate, no_deps, scale, remove_orphans, volumes)
    site, request, stack = planfile.requested(settings, asked)
    if output is not None:
        asked = planfile.located(settings, asked, stack)
        request = replace(request, sealed=True)
    # A supervisor that is started for the question alone has nothing to supervise, and ends by itself.
    client, _ = ensure_supervisor(site, settings.begun)
    with client:
        try:
            result = client.request(*encoded(request))
        except PystackError as error:
            raise explain_unknown(settings, error, services) from None
    if output is not None:
        steps = tuple(result["steps"])
        stack_seal = planfile.stack_of(stack)
        planfile.write(
            output, planfile.PlanFile(site.project, asked, result["text"], result["seal"], steps, stack_seal)
        )
    print(json.dumps(result["steps"], indent=2) if shape == "json" else escape_text(result["text"].rstrip("\n")))
