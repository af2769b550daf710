"""``pystack env``: where services are reached, for shells."""

from __future__ import annotations

from orchestrator.cli.connection import require
from orchestrator.cli.render.published import protocol_of, reachable, url_of
from orchestrator.cli.selection import check_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from orchestrator.cli.settings import Settings


def env(settings: Settings, services: tuple[str, ...], export: bool, shape: str) -> None:
    """Print NAME=VALUE for what runs; values have no character that a shell takes for anything else."""
    site = settings.site()
    with require(site) as client:
        rows = [row for row in client.request("ps") if row.get("role", "replica") == "replica"]
    check_named(settings, services, {row["service"] for row in rows})
    shown = [row for row in rows if not services or row["service"] in services]
    found: dict[str, str] = {"COMPOSE_PROJECT_NAME": site.project}
    for name, value in variables(shown):
        found.setdefault(name, value)
    if shape == "json":
        from orchestrator.kernel.jsontext import dumps

        print(dumps(found))
        return
    word = "export " if export else ""
    print("\n".join(f"{word}{name}={value}" for name, value in found.items()))


def variables(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Of two with one name the first counts. The first container of a service has the service's name."""
    firsts: dict[str, int] = {}
    for row in rows:
        number = row.get("number", 1)
        firsts[row["service"]] = min(number, firsts.get(row["service"], number))
    for row in sorted(rows, key=lambda row: row.get("number", 1)):
        number = row.get("number", 1)
        prefix = name_of(row["service"]) if number == firsts[row["service"]] else f"{name_of(row['service'])}_{number}"
        yield from _of_container(prefix, row)


def _of_container(prefix: str, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    published = sorted(row.get("published", []), key=lambda port: protocol_of(port) != "tcp")
    for first in published[:1]:
        yield f"{prefix}_HOST", reachable(first["host_ip"])
        yield f"{prefix}_PORT", str(first["host_port"])
        if url := url_of(first):
            yield f"{prefix}_URL", url
    best: dict[str, dict[str, Any]] = {}
    for port in published:
        kind = "" if protocol_of(port) == "tcp" else f"_{protocol_of(port).upper()}"
        known = best.setdefault(f"{port['target']}{kind}", port)
        if not is_at(published[0], known) and is_at(published[0], port):
            best[f"{port['target']}{kind}"] = port
    for target, port in best.items():
        yield f"{prefix}_PORT_{target}", str(port["host_port"])
        if not is_at(published[0], port):
            yield f"{prefix}_HOST_{target}", reachable(port["host_ip"])
    addresses = [address["ip"] for endpoint in row.get("endpoints", ()) for address in endpoint["addresses"]]
    for name, six in (("ADDRESS", False), ("ADDRESS_6", True)):
        for ip in [ip for ip in addresses if (":" in ip) == six][:1]:
            yield f"{prefix}_{name}", ip


def is_at(first: dict[str, Any], port: dict[str, Any]) -> bool:
    """Whether `port` is reached by the address that `first` is reached by."""
    host = reachable(first["host_ip"])
    return reachable(port["host_ip"]) == host or port["host_ip"] == ("::" if ":" in host else "0.0.0.0")


def name_of(service: str) -> str:
    """The service's name, as a variable may have it."""
    made = "".join(char if char.isascii() and char.isalnum() else "_" for char in service).upper()
    return f"_{made}" if made[:1].isdigit() else made
