"""What a job starts on: the containers and volumes that stand there at that moment (`ContainerRecord.ran_against`)."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Condition
from orchestrator.plan.reconcile import used_volumes
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState


def ground_of(state: EngineState, container: Container) -> Mapping[str, tuple[str, ...]]:
    """For each direct dependency the names of its containers with the moments they were made, for each volume that the job
    or they use its identity. Empty for what nobody waits for to complete: only a job is done once and for all."""
    project, service = state.project, container.definition
    if service.name not in _jobs(project):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(service.depends_on):
        there = [f"{item.id}@{item.record.created_at:.6f}" for item in state.replicas(name) if item.record.created_at]
        found[name] = tuple(sorted(there))
    for key in used_volumes(project, service, service.depends_on):
        volume = project.volumes.get(key)
        identity = state.adapters.volumes.identity(volume) if volume is not None else None
        if identity is not None:
            found[f"volume {key}"] = (identity,)
    return found


_known: tuple[Project | None, frozenset[ServiceName]] = None, frozenset()
"""The last project that was asked about: it is asked for each of its containers."""


def _jobs(project: Project) -> frozenset[ServiceName]:
    """What somebody waits for to complete."""
    global _known
    if _known[0] is not project:
        edges = (edge for item in project.services.values() for edge in item.depends_on.items())
        _known = project, frozenset(name for name, edge in edges if edge.condition is Condition.COMPLETED)
    return _known[1]
