"""What must hold between the parts of a model, beyond the shape of each: references, contradictions, exclusions.

Source: compose-spec, and the measured behaviour of Docker Compose v5.6.1; where it stops at the first error, all are
reported here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from itertools import pairwise

from orchestrator.compose.kinds.checking import MAX_FOUND
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.model.service_rules import ServiceRules
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic, place_of

MAX_CYCLES = 10
MAX_RELATED = 10
"""So many further places of a finding are named."""


def check_parts(model: Node, found: list[Diagnostic]) -> None:
    """Add to `found` what is wrong with single parts, whether a service uses them or not."""
    for section in ("networks", "volumes", "configs", "secrets"):
        node = model.get(section)
        for key, item in node.items() if node is not None else ():
            path = f"{section}.{key}"
            if section == "volumes":
                _check_external(item, path, found)
            elif section in ("configs", "secrets"):
                _check_file_object(item, path, section == "configs", found)
    for name, service in services_of(model).items():
        _check_requests(service, f"services.{name}", found)
        ports = service.get("ports")
        for number, port in enumerate(ports.elements() if ports is not None else ()):
            _check_host_ip(port, f"services.{name}.ports[{number}]", found)


def _check_external(node: Node, path: str, found: list[Diagnostic]) -> None:
    external = node.get("external")
    if external is None or external.value is not True:
        return
    for key, item in node.items():
        if key not in ("external", "name") and not key.startswith("x-"):
            hint = f'remove "{key}", or "external"'
            message = f'"{key}" has no place beside external: true'
            related = (place_of(external, "external", key=True),)
            found.append(diagnostic(item, path, message, hint=hint, key=True, related=related))


def _check_file_object(node: Node, path: str, is_config: bool, found: list[Diagnostic]) -> None:
    external = node.get("external")
    if external is not None and external.value is True:
        return
    keys = ("file", "environment", "content") if is_config else ("file", "environment")
    given = [key for key in keys if node.get(key) is not None]
    if len(given) > 1:
        first, second, *_ = ((key, item) for key, item in node.items() if key in given)
        related = (place_of(first[1], first[0], key=True),)
        message = f"only one of {', '.join(keys)} may be given"
        found.append(diagnostic(second[1], path, message, key=True, related=related))
    elif not given:
        found.append(diagnostic(node, path, f"one of {', '.join(keys)} must be given", key=True))


def _check_requests(service: Node, path: str, found: list[Diagnostic]) -> None:
    reservations = service
    for key in ("deploy", "resources", "reservations"):
        reservations = reservations.get(key) or service.new(None)
    for holder, key, below in (
        (service, "gpus", "gpus"),
        (reservations, "devices", "deploy.resources.reservations.devices"),
    ):
        node = holder.get(key)
        for number, item in enumerate(node.elements() if node is not None else ()):
            count, ids = item.get("count"), item.get("device_ids")
            if count is not None and ids is not None:
                message = "count and device_ids exclude each other"
                related = (place_of(count, "count", key=True),)
                found.append(diagnostic(ids, f"{path}.{below}[{number}]", message, key=True, related=related))


def _check_host_ip(port: Node, path: str, found: list[Diagnostic]) -> None:
    node = port.get("host_ip")
    if node is None:
        return
    try:
        ipaddress.ip_address(go_text(node.value))
    except ValueError:
        found.append(diagnostic(node, f"{path}.host_ip", f'"{go_text(node.value)}" is not an IP address'))


def check_jobs(model: Node, jobs: Mapping[str, Node], active: set[str], found: list[Diagnostic]) -> None:
    """As `check_references`, of `jobs`, which may depend on the `active` services."""
    services, wrong = services_of(model), _prefixes(found)
    for name, job in jobs.items():
        ServiceRules(model, name, job, services, active, found, wrong, "jobs").check()


def check_references(model: Node, checked: set[str], active: set[str], found: list[Diagnostic]) -> None:
    """Add to `found` what is wrong between the parts of the `checked` services and the resources they name, and cycles of
    the `active` ones, which is what services may depend on."""
    services = services_of(model)
    wrong = _prefixes(found)
    for name in services:
        if len(found) >= MAX_FOUND:
            return
        if name in checked:
            ServiceRules(model, name, services[name], services, active, found, wrong).check()
    _check_cycles(services, active, found)


def _prefixes(found: list[Diagnostic]) -> set[str]:
    """The paths of the findings, and all paths above them."""
    out: set[str] = set()
    for item in found:
        steps = item.path.split(".")
        out.update(".".join(steps[:length]) for length in range(1, len(steps) + 1))
    return out


def check_containers(model: Node, found: list[Diagnostic]) -> None:
    """Add to `found` container names that several services have. `model` holds the services that run."""
    names: dict[str, tuple[str, Node]] = {}
    for key, service in services_of(model).items():
        node = service.get("container_name")
        if node is None or not node.value:
            continue
        name = go_text(node.value)
        if name in names:
            other, first = names[name]
            message = f'container name "{name}" is already in use by service {other}'
            related = (place_of(first, f"services.{other}.container_name"),)
            found.append(diagnostic(node, f"services.{key}.container_name", message, related=related))
        names.setdefault(name, (key, node))


def _check_cycles(services: dict[str, Node], chosen: set[str], found: list[Diagnostic]) -> None:
    """Depth first, without recursion: each edge once, so that layered graphs cost no more than others."""
    edges = {name: _dependencies(services[name], chosen) for name in services if name in chosen}
    done: set[str] = set()
    cycles = 0
    for root in sorted(edges):
        if root in done:
            continue
        path: list[str] = [root]
        waiting = [iter(sorted(edges[root]))]
        on_path = {root}
        while path:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                left = path.pop()
                on_path.discard(left)
                done.add(left)
            elif name in on_path:
                cycle = path[path.index(name) :]
                first = cycle.index(min(cycle))
                shown = " -> ".join([*cycle[first:], *cycle[:first], cycle[first]])
                node = edges[path[-1]][name]
                related = tuple(
                    place_of(edges[one][other], f"{one} waits for {other}", key=True)
                    for one, other in list(pairwise(cycle))[:MAX_RELATED]
                )
                message = f"the services wait for each other: {shown}"
                found.append(diagnostic(node, f"services.{path[-1]}.depends_on", message, key=True, related=related))
                cycles += 1
                if cycles >= MAX_CYCLES:
                    return
            elif name not in done:
                path.append(name)
                on_path.add(name)
                waiting.append(iter(sorted(edges[name])))


def _dependencies(service: Node, chosen: set[str]) -> dict[str, Node]:
    node = service.get("depends_on")
    return {name: item for name, item in node.items() if name in chosen} if node is not None else {}
