"""``pystack port``: where a container's port is published."""

from __future__ import annotations

from orchestrator.cli.connection import explain_unknown, require
from orchestrator.errors import InputError, OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orchestrator.cli.settings import Settings


def port(settings: Settings, service: str, private_port: str, protocol: str, index: int) -> None:
    """Print HOST:PORT, where PRIVATE_PORT of SERVICE is published."""
    if not private_port.isdecimal() or not 1 <= int(private_port) <= 65535:
        raise InputError(f'"{private_port}" is not a port', hint="a number from 1 to 65535")
    site = settings.site()
    with require(site) as client:
        # Their classes take longer to import than the command to run.
        rows: list[dict[str, Any]] = [
            row
            for row in client.request("ps")
            if row["service"] == service and row.get("role", "replica") == "replica" and index in (0, row.get("number", 1))
        ]
    if not rows:
        which = f"no container {index} of service" if index else "no container of service"
        error = InputError(f'project {site.project} has {which} "{service}"', hint="`pystack ps` lists what it has")
        raise explain_unknown(site, error, (service,))
    row = rows[0]
    for published in row.get("published", []):
        if published["target"] == int(private_port) and published.get("protocol", "tcp") == protocol:
            print(f"{published['host_ip']}:{published['host_port']}")
            return
    raise OperationError(
        f"port {private_port}/{protocol} of {row['container']} is not published",
        hint="`ports:` of the service says which are; `pystack ps` shows them",
    )
