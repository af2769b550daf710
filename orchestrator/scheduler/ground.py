"""What a job starts on: the containers and volumes that stand there at that moment (`ContainerRecord.ran_against`)."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.service import Condition, Dependency
from orchestrator.plan.reconcile import used_volumes
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState


def ground_of(state: EngineState, container: Container) -> Mapping[str, tuple[str, ...]]:
    """For each direct dependency the names of its containers with the moments they were made, for each volume that the job
    or they use its identity. Empty for what nobody waits for to complete: only a job is done once and for all."""
    project, service = state.project, container.definition
    if not any(_completes(item.depends_on.get(service.name)) for item in project.services.values()):
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


def _completes(edge: Dependency | None) -> bool:
    return edge is not None and edge.condition is Condition.COMPLETED
