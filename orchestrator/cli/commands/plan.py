"""``pystack plan``: what a verb would do, and why. Nothing is changed."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.cli.connection import ANSWER_TIMEOUT_S, explain_unknown
from orchestrator.cli.render.escape import escape_text
from orchestrator.cli.settings import Settings
from orchestrator.client import ensure_supervisor
from orchestrator.errors import PystackError

VERBS = ("up", "down", "stop", "start", "restart")


def plan(
    settings: Settings,
    verb: str,
    services: tuple[str, ...],
    force_recreate: bool,
    no_recreate: bool,
    no_deps: bool,
    remove_orphans: bool,
    volumes: bool,
    shape: str,
) -> None:
    """Show what VERB (up, down, stop, start, restart; default: up) would do, and why."""
    from orchestrator.cli.commands.up import recreate_mode, up_arguments

    args: dict[str, Any] = {"services": services, "timeout_s": None, "no_deps": no_deps}
    if verb == "up":
        project = settings.load(services)
        site = settings.site_named(project.name)
        recreate = recreate_mode(force_recreate, no_recreate)
        args = up_arguments(project, services, recreate=recreate, no_deps=no_deps, remove_orphans=remove_orphans)
    else:
        site = settings.site()
    if verb == "down":
        args = {"volumes": volumes, "timeout_s": None, "remove_orphans": remove_orphans}
    # A supervisor that is started for the question alone has nothing to supervise, and ends by itself.
    client, _ = ensure_supervisor(site, settings.begun)
    with client:
        try:
            result = client.request("plan", {**args, "verb": verb}, timeout_s=ANSWER_TIMEOUT_S)
        except PystackError as error:
            raise explain_unknown(site, error, services) from None
    print(json.dumps(result["operations"], indent=2) if shape == "json" else escape_text(result["text"].rstrip("\n")))
