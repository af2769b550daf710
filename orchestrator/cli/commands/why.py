"""``pystack why SERVICE``."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import click

from orchestrator.cli.connection import connect, explain_unknown
from orchestrator.cli.render.escape import escape_line, escape_text
from orchestrator.cli.render.plain import event_text
from orchestrator.cli.render.statuses import ports_text, state_text
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import event_of, status_of
from orchestrator.contracts.events import ContainerStatus
from orchestrator.errors import PystackError
from orchestrator.model.phase import Phase
from orchestrator.units import format_duration

_SHOWN = 20


@click.command()
@click.argument("service")
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", help="Output format.")
@click.option("-n", "--tail", "count", type=click.IntRange(min=0), default=_SHOWN, help="Events to show.  [default: 20]")
@click.pass_obj
def why(settings: Settings, service: str, shape: str, count: int) -> None:
    """Explain why SERVICE is as it is: its state, its reason, and what led to it."""
    site = settings.site()
    client = connect(site)
    history: list[Any] = []
    if client is None:
        from orchestrator.cli.records import recorded_statuses
        from orchestrator.cli.selection import check_services

        statuses = {status.service: status for status in recorded_statuses(site)}
        check_services([service], statuses, site.project)
        status = next(status for name, status in statuses.items() if name == service)
        raw: Any = None
    else:
        with client:
            try:
                result = client.request("why", {"service": service})
            except PystackError as error:
                raise explain_unknown(site, error, (service,)) from None
        raw, history = result["statuses"][0], result["history"]
        status = status_of(raw)
    if shape == "json":
        from orchestrator.model.codec import to_json

        print(json.dumps({"status": raw if raw is not None else to_json(status), "history": history}, indent=2))
        return
    print("\n".join([*_state(status), *_history(history, count)]))


def _state(status: ContainerStatus) -> list[str]:
    lines = [f"{escape_line(status.service)} is {escape_line(state_text(status))}"]
    if status.reason:
        lines[0] += f": {escape_line(status.reason)}"
    if status.phase is Phase.RUNNING and status.started_at:
        since = format_duration(max(0.0, time.time() - status.started_at))
        lines.append(f"  for {since}, as process {status.pid}")
    if status.restarts:
        lines.append(f"  restarted {status.restarts} {'time' if status.restarts == 1 else 'times'}")
    for endpoint in status.endpoints:
        addresses = ", ".join(address.ip for address in endpoint.addresses)
        lines.append(f"  on network {escape_line(endpoint.network)}: {escape_line(addresses)}")
    if status.published:
        lines.append(f"  published: {escape_line(ports_text(status.published))}")
    if status.last_probe.strip():
        lines.append("  its last probe said:")
        lines += [f"    | {line}" for line in escape_text(status.last_probe.strip()).split("\n")]
    return lines


def _history(history: list[Any], count: int) -> list[str]:
    events = [event for event in map(event_of, history) if event is not None]
    shown = events[-count:] if count else []
    if not shown:
        return []
    lines = [f"what happened (the last {len(shown)} of {len(events)}):" if len(events) > len(shown) else "what happened:"]
    for event in shown:
        at = datetime.fromtimestamp(event.at).strftime("%H:%M:%S.%f")[:-3]
        lines.append(f"  {at}  {event.kind.value.ljust(18)}  {escape_line(event_text(event))}")
    return lines
