"""What a selection means for a stack: which services are enabled, and which a verb is about."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.errors import InputError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project


def enabled_services(project: Project, asked: Collection[ServiceName]) -> frozenset[ServiceName]:
    """Those of active profiles, and those asked for by name (compose-spec, "profiles"). Raises InputError for a name that
    is no service."""
    for name in sorted(asked):
        if name not in project.services:
            known = ", ".join(sorted(project.services)) or "none: nothing is up"
            raise InputError(f'no such service: "{name}"', hint=f"the services are: {known}")
    return (frozenset(project.services) - project.inactive) | frozenset(asked)


def with_needs(
    project: Project,
    graph: DependencyGraph,
    asked: Collection[ServiceName],
    enabled: frozenset[ServiceName],
    *,
    dependencies: bool,
) -> tuple[ServiceName, ...]:
    """The services asked for (none: all that are enabled) with what they need of the enabled ones, in start order. Raises
    InputError when one needs a service whose profile is not active."""
    chosen = set(asked) or set(enabled)
    stack = list(chosen) if dependencies else []
    while stack:
        name = stack.pop()
        for edge in graph.dependencies(name):
            if edge.service in enabled:
                if edge.service not in chosen:
                    chosen.add(edge.service)
                    stack.append(edge.service)
            elif edge.required:
                profiles = ", ".join(project.services[edge.service].profiles)
                raise InputError(
                    f'service "{name}" needs "{edge.service}", whose profile is not active',
                    hint=f"activate it with --profile, or name it too; its profiles: {profiles}",
                    place=project.where(f"services.{name}.depends_on.{edge.service}"),
                )
    return tuple(name for name in graph.start_order() if name in chosen)
