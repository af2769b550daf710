"""``pystack net``: who may talk to whom, who says that it needs whom, and who does."""

from __future__ import annotations

import json
import sys

from orchestrator.cli.render.table import table
from orchestrator.cli.settings import Settings
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ProjectRecord
from orchestrator.errors import OperationError
from orchestrator.model.names import ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.network_options import parse_options
from orchestrator.model.project import Project
from orchestrator.plan.edges import Edge, Use, declared_edges, networks_of, reached_from, unused_edges, used_edges
from orchestrator.state.records import FileState

_HINT = "hint: `pystack net --observe on` counts what containers of one network say to each other"


def net(settings: Settings, observed: bool, observe: str | None, shape: str) -> None:
    """Show the project's edges; with `observed` those that were seen. `observe`: begin or end to count them."""
    site = settings.site()
    record = FileState(site).load()
    if observe is not None:
        _switch(site, record, observe)
        if not observed:
            return
    if observed:
        _show_observed(site, record, shape)
    else:
        _show_declared(record.project if record is not None else settings.load(), shape)


def _switch(site: Site, record: ProjectRecord | None, observe: str) -> None:
    from orchestrator.network.observing import observe as begin
    from orchestrator.network.observing import stop_observing

    if observe == "off":
        stop_observing(site.key)
    else:
        _on_networks(site, record)
        begin(site.key)


def _on_networks(site: Site, record: ProjectRecord | None) -> ProjectRecord:
    """`record`, if a container of it is on a network. Raises OperationError."""
    if record is None or not any(item.endpoints for item in record.containers):
        message = f"project {site.project} has no containers on networks"
        raise OperationError(message, hint="`pystack up -d` brings it up")
    return record


# -- what the stack says ----------------------------------------------------------------------------------------------


def _show_declared(project: Project, shape: str) -> None:
    edges = declared_edges(project)
    if shape == "json":
        services = [
            {
                "service": service.name,
                "networks": list(networks_of(project, service)),
                "reaches": sorted(reached_from(project, service)),
                "published": [_port_text(port) for port in service.ports],
            }
            for service in project.services.values()
        ]
        told = {"services": services, "networks": _networks(project), "edges": list(map(_edge_json, edges))}
        print(json.dumps(told, indent=2))
        return
    used = {key for service in project.services.values() for key in networks_of(project, service)}
    networks = [network for network in _networks(project) if network["network"] in used]
    header = ["SERVICE", *(_title(network) for network in networks), "PUBLISHED"]
    rows = []
    for service in project.services.values():
        mine = networks_of(project, service)
        marks = ["x" if network["network"] in mine else "" for network in networks]
        rows.append([service.name, *marks, ", ".join(map(_port_text, service.ports))])
    print(table(header, rows))
    if edges:
        print()
        print(table(["FROM", "TO", "DECLARED", "NETWORKS"], [[e.source, e.target, *_edge_words(e)] for e in edges]))


def _networks(project: Project) -> list[dict[str, object]]:
    return [
        {
            "network": network.key,
            "internal": network.internal,
            "apart": not parse_options(network.driver, network.options).icc,
        }
        for network in project.networks.values()
    ]


def _title(network: dict[str, object]) -> str:
    """``back (internal)``; those of which containers do not reach each other say so too."""
    notes = [word for word in ("internal", "apart") if network[word]]
    return f"{network['network']} ({', '.join(notes)})" if notes else str(network["network"])


def _edge_json(edge: Edge) -> dict[str, object]:
    keys = ("source", "target", "order", "together")
    return {**{key: getattr(edge, key) for key in keys}, "by": list(edge.by), "networks": list(edge.networks)}


def _edge_words(edge: Edge) -> tuple[str, str]:
    by = ", ".join(edge.by) + (" (completed)" if edge.order else "")
    return by, "(the same namespace)" if edge.together else ", ".join(edge.networks) or "none in common"


def _port_text(port: PortMapping) -> str:
    """``127.0.0.1:8080-8089->80/tcp``; without a number where the kernel chooses."""
    low, high = port.published or (0, 0)
    host = "" if not low else str(low) if low == high else f"{low}-{high}"
    ip = f"[{port.host_ip}]" if port.host_ip and ":" in port.host_ip else port.host_ip
    at = f"{ip}:{host}" if ip else host
    return f"{at}->{port.target}/{port.protocol}" if at else f"{port.target}/{port.protocol}"


# -- what was seen ----------------------------------------------------------------------------------------------------


def _show_observed(site: Site, record: ProjectRecord | None, shape: str) -> None:
    from orchestrator.network.observing import flows

    record = _on_networks(site, record)
    counting, seen = flows(site.key)
    ends = [(item.instance.service, end) for item in record.containers for end in item.endpoints]
    whose: dict[str, ServiceName] = {address.ip: service for service, end in ends for address in end.addresses}
    ours = {address.gateway for _, end in ends for address in end.addresses if address.gateway}
    ours |= {end.name_server for _, end in ends if end.name_server}
    uses = used_edges(record.project, seen, whose, ours)
    unused = unused_edges(record.project, uses) if counting else ()
    if shape == "json":
        keys = ("source", "target", "protocol", "port", "count", "now", "declared")
        used = [{key: getattr(use, key) for key in keys} for use in uses]
        print(json.dumps({"counting": counting, "used": used, "unused": list(map(_edge_json, unused))}, indent=2))
        return
    rows = [
        [use.source, use.target, f"{use.port}/{use.protocol}", str(use.count or ""), str(use.now or ""), _declared(use)]
        for use in uses
    ]
    rows += [[edge.source, edge.target, "", "never", "", ", ".join(edge.by)] for edge in unused]
    print(table(["FROM", "TO", "PORT", "SEEN", "NOW", "DECLARED"], rows))
    if not counting:
        print(_HINT, file=sys.stderr)


def _declared(use: Use) -> str:
    return use.declared or ("no" if use.between_services else "")
