"""``ps``: a service's status as a table row, and as JSON with the keys of ``docker compose ps --format json``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.cli.render.table import table
from orchestrator.contracts.events import ContainerStatus
from orchestrator.contracts.network import Published
from orchestrator.contracts.runtime import Exit
from orchestrator.model.health import Health
from orchestrator.model.names import ProjectName
from orchestrator.model.phase import Phase
from orchestrator.units import format_duration

ALIVE = frozenset({Phase.WAITING, Phase.CREATED, Phase.STARTING, Phase.RUNNING, Phase.BACKOFF, Phase.STOPPING})
_HEADER = ("SERVICE", "STATE", "UP", "RESTARTS", "ADDRESS", "PORTS", "NOTE")


def state_text(status: ContainerStatus) -> str:
    """``running (healthy)``, ``exited (1)``, ``waiting``."""
    if status.phase is Phase.RUNNING and status.health is not Health.NONE:
        return f"running ({status.health.value})"
    if status.phase in (Phase.EXITED, Phase.FAILED) and status.exit is not None:
        return f"{status.phase.value} ({exit_code_text(status.exit)})"
    return status.phase.value


def exit_code_text(ended: Exit) -> str:
    if ended.lost:
        return "status lost"
    return f"{ended.status}, out of memory" if ended.oom_killed else str(ended.status)


def ports_text(published: Sequence[Published]) -> str:
    return ", ".join(f"{port.host_ip}:{port.host_port}->{port.target}/{port.protocol}" for port in published)


def as_table(statuses: Sequence[ContainerStatus], now: float, columns: int | None = None) -> str:
    """`now`: epoch seconds."""
    rows = []
    for status in statuses:
        running = status.phase is Phase.RUNNING
        rows.append(
            (
                status.service,
                state_text(status),
                format_duration(max(0.0, now - status.started_at)) if running and status.started_at else "",
                str(status.restarts) if status.restarts else "",
                ", ".join(address.ip for endpoint in status.endpoints for address in endpoint.addresses),
                ports_text(status.published),
                "" if running and status.health is not Health.UNHEALTHY else status.reason,
            )
        )
    return table(_HEADER, rows, columns)


def as_json(status: ContainerStatus, project: ProjectName, now: float) -> dict[str, Any]:
    """Docker's keys first, so that scripts for it work; then what Docker does not know."""
    created = datetime.fromtimestamp(status.created_at, UTC)
    running = status.phase is Phase.RUNNING
    return {
        "ID": status.container,
        "Name": status.container,
        "Image": status.image,
        "Service": status.service,
        "Project": project,
        "State": status.phase.value,
        "Health": "" if status.health is Health.NONE else status.health.value,
        "ExitCode": status.exit.status if status.exit is not None and not running else 0,
        "Status": state_text(status)
        + (f" for {format_duration(max(0.0, now - status.started_at))}" if running and status.started_at else ""),
        "CreatedAt": created.isoformat(timespec="seconds"),
        "Ports": ports_text(status.published),
        "Publishers": [
            {
                "URL": port.host_ip,
                "TargetPort": port.target,
                "PublishedPort": port.host_port,
                "Protocol": port.protocol,
            }
            for port in status.published
        ],
        "Pid": status.pid,
        "Restarts": status.restarts,
        "OOMKilled": status.exit is not None and status.exit.oom_killed,
        "Addresses": {endpoint.network: endpoint.addresses[0].ip for endpoint in status.endpoints},
        "Wanted": status.wanted.value,
        "Reason": status.reason,
        "LastProbe": status.last_probe,
    }
