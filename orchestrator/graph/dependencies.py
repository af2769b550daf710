"""Who waits for whom: the ``depends_on`` edges of a project as a directed acyclic graph.

An edge points from a service to what it depends on. All results are tuples sorted by name, or in an order that depends
on names and edges alone, so that a plan and an error message are the same on every run.

Ordering and reachability are a few lines and run on plain dictionaries. networkx, which takes longer to import than a
container takes to start, is loaded only when there is a cycle to explain.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from orchestrator.errors import InputError
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Dependency

Edges = Mapping[ServiceName, tuple[ServiceName, ...]]


class DependencyGraph:
    """The dependencies of one project. Make it with `of`, which is where a cycle is found."""

    __slots__ = ("_dependencies", "_dependents", "_edges", "_order")

    def __init__(
        self, edges: Mapping[ServiceName, Mapping[ServiceName, Dependency]], project: Project | None = None
    ) -> None:
        self._edges = edges
        self._dependencies: Edges = {name: tuple(sorted(edges[name])) for name in sorted(edges)}
        dependents: dict[ServiceName, list[ServiceName]] = {name: [] for name in self._dependencies}
        for name, targets in self._dependencies.items():
            for target in targets:
                dependents[target].append(name)
        self._dependents: Edges = {name: tuple(sources) for name, sources in dependents.items()}
        order = _topological(self._dependencies, self._dependents)
        if len(order) < len(edges):
            raise _cycle_error(self._dependencies, frozenset(order), project)
        self._order = order

    @classmethod
    def of(cls, project: Project) -> DependencyGraph:
        """The graph of `project`. A dependency that is not required and not there (a profile that is off) has no edge.

        Raises InputError for a cycle, and for a required dependency that does not exist.
        """
        edges: dict[ServiceName, dict[ServiceName, Dependency]] = {}
        for name, service in project.services.items():
            kept: dict[ServiceName, Dependency] = {}
            for target, dependency in service.depends_on.items():
                if target in project.services:
                    kept[target] = dependency
                elif dependency.required:
                    place = project.where(f"{service.place}.depends_on.{target}")
                    raise InputError(f'"{target}" is not a service of this project', place=place)
            edges[name] = kept
        return cls(edges, project)

    @property
    def names(self) -> tuple[ServiceName, ...]:
        """All services, sorted."""
        return tuple(self._dependencies)

    def start_order(self) -> tuple[ServiceName, ...]:
        """Dependencies before dependents; among those that could come next, the first by name."""
        return self._order

    def stop_order(self) -> tuple[ServiceName, ...]:
        """The reverse of `start_order`: dependents before dependencies."""
        return self._order[::-1]

    def dependencies(self, name: ServiceName) -> tuple[Dependency, ...]:
        """The direct dependencies of `name`, sorted by name."""
        edges = self._edges[name]
        return tuple(edges[target] for target in self._dependencies[name])

    def dependents(self, name: ServiceName) -> tuple[ServiceName, ...]:
        """The services that directly depend on `name`, sorted."""
        return self._dependents[name]

    def edge(self, dependent: ServiceName, dependency: ServiceName) -> Dependency:
        """The edge between the two. Raises KeyError when there is none."""
        return self._edges[dependent][dependency]

    def closure(self, selection: Iterable[ServiceName] = (), *, no_deps: bool = False) -> tuple[ServiceName, ...]:
        """The selected services (none: all) with everything they need, in start order; with `no_deps` they alone.

        Raises InputError for a name that is not a service.
        """
        chosen = self._checked(selection)
        wanted = chosen if no_deps else _reachable(self._dependencies, chosen)
        return tuple(name for name in self._order if name in wanted)

    def dependents_closure(self, selection: Iterable[ServiceName]) -> tuple[ServiceName, ...]:
        """Everything that needs one of `selection`, directly or not, without `selection` itself, in start order."""
        chosen = self._checked(selection)
        found = _reachable(self._dependents, chosen) - chosen
        return tuple(name for name in self._order if name in found)

    def restart_closure(self, changed: Iterable[ServiceName]) -> Mapping[ServiceName, ServiceName]:
        """Who is to be restarted because a dependency was, by ``depends_on.S.restart: true``, directly or through another:
        service -> the dependency it follows. Without `changed` itself; in start order."""
        moved = set(changed)
        followed: dict[ServiceName, ServiceName] = {}
        for name in self._order:
            if name in moved:
                continue
            for target in self._dependencies[name]:
                if target in moved and self._edges[name][target].restart:
                    followed[name] = target
                    moved.add(name)
                    break
        return followed

    def _checked(self, selection: Iterable[ServiceName]) -> frozenset[ServiceName]:
        chosen = frozenset(selection)
        for name in sorted(chosen - self._dependencies.keys()):
            raise InputError(f"no such service: {name}", hint=f"the services are: {', '.join(self._dependencies)}")
        return chosen or frozenset(self._dependencies)


def _topological(dependencies: Edges, dependents: Edges) -> tuple[ServiceName, ...]:
    """Kahn's algorithm with a heap. Services on a cycle, or behind one, are missing from the result."""
    missing = {name: len(targets) for name, targets in dependencies.items()}
    ready = [name for name, count in missing.items() if count == 0]
    heapq.heapify(ready)
    order: list[ServiceName] = []
    while ready:
        name = heapq.heappop(ready)
        order.append(name)
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                heapq.heappush(ready, dependent)
    return tuple(order)


def _reachable(edges: Edges, roots: frozenset[ServiceName]) -> frozenset[ServiceName]:
    seen = set(roots)
    stack = list(roots)
    while stack:
        for target in edges[stack.pop()]:
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return frozenset(seen)


def _cycle_error(dependencies: Edges, acyclic: frozenset[ServiceName], project: Project | None) -> InputError:
    """Name the shortest cycle through the first service, by name, that is on one; point at the cycle's first edge."""
    import networkx

    # Nodes and edges go in sorted: a search then finds the same one of several shortest ways back every time.
    graph: networkx.DiGraph[ServiceName] = networkx.DiGraph()
    for name, targets in dependencies.items():
        graph.add_edges_from((name, target) for target in targets if name not in acyclic and target not in acyclic)
    components = networkx.strongly_connected_components(graph)
    component = min((found for found in components if len(found) > 1 or graph.has_edge(min(found), min(found))), key=min)
    first = min(component)
    if graph.has_edge(first, first):
        cycle = [first, first]
    else:
        paths = networkx.single_source_shortest_path(graph.subgraph(component), first)
        back = min(
            (path for name, path in paths.items() if graph.has_edge(name, first)), key=lambda path: (len(path), path)
        )
        cycle = [*back, first]
    place = f"services.{cycle[0]}.depends_on.{cycle[1]}"
    where = project.where(place) if project is not None else place
    return InputError(f"dependency cycle: {' -> '.join(cycle)}", hint="remove one of these depends_on entries", place=where)
