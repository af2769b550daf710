"""``pystack port``: where a container's port is published."""

from __future__ import annotations

from orchestrator.cli.connection import explain_unknown, require
from orchestrator.cli.render.published import at, ports_text, protocol_of, url_of
from orchestrator.errors import InputError, OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orchestrator.cli.settings import Settings


def port(settings: Settings, service: str, private_port: str | None, protocol: str, index: int, url: bool) -> None:
    """Print HOST:PORT, where PRIVATE_PORT of SERVICE is published; without PRIVATE_PORT, all that it publishes."""
    target = _target(private_port) if private_port is not None else None
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
        raise explain_unknown(settings, error, (service,))
    row = rows[0]
    published = row.get("published", [])
    if target is None:
        _print_all(published, url)
        return
    for one in published:
        if (one["target"], protocol_of(one)) == (target, protocol):
            print((url and url_of(one)) or at(one["host_ip"], one["host_port"]))
            return
    raise OperationError(
        f"port {private_port}/{protocol} of {row['container']} is not published",
        hint="`ports:` of the service says which are; `pystack ps` shows them",
    )


def _target(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise InputError(f'"{text}" is not a port', hint="a number from 1 to 65535")
    return int(text)


def _print_all(published: list[dict[str, Any]], url: bool) -> None:
    lines = [link for one in published if (link := url_of(one))] if url else ports_text(published)
    if lines:
        print("\n".join(lines))
