"""Observed + wanted -> Plan, when a dependency has crashed and is back: who is restarted for that."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.builder import PlanBuilder
from orchestrator.plan.observed import ObservedProject
from orchestrator.plan.plan import Plan, Verb


def plan_cascade(
    leader: ServiceName,
    followers: Collection[ContainerId],
    observed: ObservedProject,
    project: Project,
    *,
    alone: bool = False,
) -> Plan:
    """Restart those of `followers` that run and, unless `alone`, what depends on them with ``restart: true``."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph, frozenset(project.services))
    moved: set[ServiceName] = set()
    for item in observed.containers.values():
        if item.container in followers and item.running:
            builder.restart(item, f"dependency {leader} had crashed", None)
            moved.add(item.service)
    if moved and not alone:
        builder.follow(graph.restart_closure(moved), "was restarted")
    builder.prepare()
    return builder.finish(Verb.RESTART, tuple(name for name in graph.start_order() if name in moved))
