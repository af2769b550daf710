"""Who may talk to whom in a stack, who says so, and who does (``pystack net``). Pure.

An edge is declared by ``depends_on`` and ``links`` (and by what implies the first). One that only says when to start
(``service_completed_successfully``: the other is gone by then) need not be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.namespaces import Sharing
from orchestrator.model.network_options import parse_options
from orchestrator.model.project import Project
from orchestrator.model.service import Condition, Service
from orchestrator.values import frozen

HOST, OUTSIDE = "(host)", "(outside)"
"""Ends of edges that are no services, and that no service can be called."""
_DNS = 53


@frozen
class Edge:
    """`source` says that it needs `target`. `by`: the attributes that say so. `networks`: those that both are on; ():
    they cannot talk. `together`: they are in one network namespace, so nobody sees them talk. `order`: it is about starting
    alone."""

    source: ServiceName
    target: ServiceName
    by: tuple[str, ...]
    networks: tuple[NetworkName, ...] = ()
    together: bool = False
    order: bool = False


@frozen
class Flow:
    """What was seen between two addresses, by who began. `port`: that of the other one. `count`: connections that began; of
    UDP, datagrams, with the answers. `now`: connections that are tracked."""

    source: str
    target: str
    protocol: str
    port: int
    count: int = 0
    now: int = 0


@frozen
class Use:
    """Flows between two services, by one port. `source`, `target`: a service, `HOST` or `OUTSIDE`. `declared`: what says
    so, "" if nothing does."""

    source: str
    target: str
    protocol: str
    port: int
    count: int
    now: int
    declared: str = ""

    @property
    def between_services(self) -> bool:
        return not {self.source, self.target} & {HOST, OUTSIDE}


def networks_of(project: Project, service: Service) -> tuple[NetworkName, ...]:
    """Also for one that is in the network of another service."""
    return tuple(attachment.network for attachment in _owner(project, service).networks.values())


def _owner(project: Project, service: Service) -> Service:
    """Whose network namespace `service` is in, as far as that is a service of the stack."""
    seen = {service.name}
    while (shared := service.namespaces.network).sharing is Sharing.SERVICE:
        other = project.services.get(ServiceName(shared.of))
        if other is None or other.name in seen:
            return service
        seen.add(other.name)
        service = other
    return service


def reached_from(project: Project, service: Service) -> dict[ServiceName, tuple[NetworkName, ...]]:
    """The other services that `service` may talk to, and by which networks; () for one in the same namespace."""
    mine, own = _owner(project, service), set(networks_of(project, service))
    open_ = {key for key in own if _lets_talk(project, key)}
    found: dict[ServiceName, tuple[NetworkName, ...]] = {}
    for other in project.services.values():
        if other.name == service.name:
            continue
        if _owner(project, other).name == mine.name:
            found[other.name] = ()
        elif common := tuple(key for key in networks_of(project, other) if key in open_):
            found[other.name] = common
    return found


def _lets_talk(project: Project, key: NetworkName) -> bool:
    network = project.networks.get(key)
    return network is None or parse_options(network.driver, network.options).icc


def declared_edges(project: Project) -> tuple[Edge, ...]:
    """In the order of the stack."""
    found = []
    for service in project.services.values():
        reach = reached_from(project, service)
        linked = {ServiceName(link.target) for link in service.links if not link.external}
        conditions = {name: dependency.condition for name, dependency in service.depends_on.items()}
        for target in dict.fromkeys((*conditions, *linked)):
            if target not in project.services or target == service.name:
                continue
            order = target not in linked and conditions.get(target) is Condition.COMPLETED
            by = ("links",) if target in linked else ("depends_on",)
            together = target in reach and not reach[target]
            found.append(Edge(service.name, target, by, reach.get(target, ()), together, order))
    return tuple(found)


def used_edges(
    project: Project, flows: Iterable[Flow], services: Mapping[str, ServiceName], ours: Iterable[str]
) -> tuple[Use, ...]:
    """What the flows say about the project. `services`: whose each address is. `ours`: those of the host and of the name
    servers on the project's networks; questions for names to these are of everybody, and left out."""
    host = {*ours, "127.0.0.1", "::1"}
    edges = {_ends(project, edge): edge for edge in declared_edges(project)}

    def end(address: str) -> str:
        return services.get(address) or (HOST if address in host else OUTSIDE)

    totals: dict[tuple[str, str, str, int], tuple[int, int]] = {}
    for flow in flows:
        source, target = end(flow.source), end(flow.target)
        if {source, target} <= {HOST, OUTSIDE} or (target == HOST and flow.port == _DNS):
            continue
        key = (source, target, flow.protocol, flow.port)
        count, now = totals.get(key, (0, 0))
        totals[key] = (count + flow.count, now + flow.now)
    order = {name: number for number, name in enumerate(project.services)}
    found = []
    for (source, target, protocol, port), (count, now) in totals.items():
        edge = edges.get((source, target))
        says = " ".join(edge.by) if edge is not None else _says(project, source, target, protocol, port)
        found.append(Use(source, target, protocol, port, count, now, says))

    def place(use: Use) -> tuple[object, ...]:
        return order.get(ServiceName(use.source), len(order)), use.source, use.target, use.port, use.protocol

    return tuple(sorted(found, key=place))


def _says(project: Project, source: str, target: str, protocol: str, port: int) -> str:
    """Why it is no surprise, where no edge is declared."""
    if source == target:
        return "itself"
    service = project.services.get(ServiceName(target))
    if source in (HOST, OUTSIDE) and service is not None:
        published = {(item.protocol, item.target) for item in service.ports}
        return "ports" if (protocol, port) in published else ""
    return ""


def unused_edges(project: Project, uses: Sequence[Use]) -> tuple[Edge, ...]:
    """Declared, and never seen; only those that could be."""
    seen = {(use.source, use.target) for use in uses}
    edges = (edge for edge in declared_edges(project) if not edge.order and not edge.together)
    return tuple(edge for edge in edges if _ends(project, edge) not in seen)


def _ends(project: Project, edge: Edge) -> tuple[str, str]:
    """The services by whose addresses it is seen."""
    source, target = (_owner(project, project.services[name]) for name in (edge.source, edge.target))
    return source.name, target.name
