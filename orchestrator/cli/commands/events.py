"""``pystack events``."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from orchestrator.cli.connection import require
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.plain import sentence
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import encoded, event_of
from orchestrator.client import EventMessage, SupervisorGone
from orchestrator.contracts.control import Events


def events(settings: Settings, shape: str, as_json: bool, since: str | None) -> None:
    """Follow what happens in the project, until Ctrl-C or until the project is taken down."""
    from orchestrator.cli.instants import parse_instant

    since_s = None if since is None else parse_instant(since, time.time())
    with require(settings.site()) as client:

        def show(message: EventMessage) -> None:
            line = json.dumps(message.value) if as_json or shape == "json" else _text(message.value)
            if line:
                print(line, flush=True)

        try:
            client.request(*encoded(Events(since_s)), show)
        except SupervisorGone:
            # Events end with the supervisor: there is no project any more.
            return


def _text(value: Any) -> str:
    event = event_of(value)
    if event is None:
        return ""
    at = datetime.fromtimestamp(event.at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{at}  {event.kind.value.ljust(18)}  {escape_line(sentence(event))}"
