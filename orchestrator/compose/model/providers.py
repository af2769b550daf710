"""``provider``: services that are no containers."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.choice import Standing
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import profiles_of, services_of
from orchestrator.compose.text.tree import Node
from orchestrator.model.names import ServiceName
from orchestrator.model.provider import Provider


def is_provided(service: Node) -> bool:
    node = service.get("provider")
    return node is not None and node.value is not None


def provider(read: Reader, name: str, node: Node, profiles: Iterable[str]) -> Provider:
    """It is asked before there is any container: that it depends on one is added to `read.found`."""
    own = node.get("provider")
    assert own is not None
    path = f"services.{name}"
    read.mark(node, path, key=True)
    read.mark(own, f"{path}.provider", key=True)
    read.mark(own.get("type") or own, f"{path}.provider.type")
    program = read.text(own, "type") or ""
    if program == "compose":
        read.error(own, f"{path}.provider.type", '"compose" is no program that provides a service')
    services = services_of(read.model)
    needs = []
    for other, entry in _depends_on(node):
        if other in services and is_provided(services[other]):
            needs.append(ServiceName(other))
        elif other in services:
            hint = "providers are asked before any container is made; a provider may depend on another one"
            read.error(entry, f"{path}.depends_on.{other}", f"a provider cannot wait for the container of {other}", hint)
    jobs = read.model.get("jobs")
    everyone = {**services, **(dict(jobs.items()) if jobs is not None else {})}
    dependents = [key for key, each in everyone.items() if name in dict(_depends_on(each)) and not is_provided(each)]
    enabled = Standing(profiles_of(node), {}).active(set(profiles))
    return Provider(ServiceName(name), program, _options(own), tuple(map(ServiceName, dependents)), tuple(needs), enabled)


def _options(node: Node) -> dict[str, tuple[str, ...]]:
    options = node.get("options")
    found = {}
    for key, item in options.items() if options is not None else ():
        elements = item.value if isinstance(item.value, list) else [item]
        found[key] = tuple(go_text(element.value) for element in elements)
    return found


def _depends_on(service: Node) -> list[tuple[str, Node]]:
    node = service.get("depends_on")
    return node.items() if node is not None else []
