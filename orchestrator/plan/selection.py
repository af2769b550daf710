"""What a selection means for a stack: which services are enabled, and which a verb is about."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.contracts.control import Selection
from orchestrator.errors import InputError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import Role, ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.observed import ObservedContainer, ObservedProject


def enabled_services(project: Project, asked: Collection[ServiceName]) -> frozenset[ServiceName]:
    """Those of active profiles; and those asked for by name, with all others of their profiles if these were not active
    (compose-spec, "profiles"). Raises InputError for a name that is no service."""
    for name in sorted(asked):
        if name not in project.services:
            raise no_such_service(project, name)
    woken = {profile for name in project.inactive & frozenset(asked) for profile in project.services[name].profiles}
    also = {name for name in project.inactive if not woken.isdisjoint(project.services[name].profiles)}
    return (frozenset(project.services) - project.inactive) | frozenset(asked) | also


def require_services(project: Project, asked: Collection[ServiceName]) -> None:
    """Raise InputError for a job: it has no replicas."""
    for name in sorted(asked):
        if name in project.jobs:
            raise InputError(
                f'"{name}" is a job, which runs by itself or when it is told to',
                hint=f"run it with: pystack run {name}",
                place=project.where(f"jobs.{name}"),
            )


def require_manual(project: Project, name: ServiceName) -> None:
    """Raise InputError for a job that nobody may run by hand."""
    job = project.jobs.get(name)
    if job is not None and not job.manual:
        raise InputError(
            f'job "{name}" is not to be run by hand',
            hint="only its schedule starts it; remove `manual: false` to change that",
            place=project.where(f"jobs.{name}.triggers"),
        )


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
                    place=project.where(f"{project.services[name].place}.depends_on.{edge.service}"),
                )
    return tuple(name for name in graph.start_order() if name in chosen)


def selected(
    selection: Selection, observed: ObservedProject, project: Project, *, one_offs: bool = True, jobs: bool = True
) -> list[ObservedContainer]:
    """The containers that `selection` names: of its services, and its own; nothing named: all, orphans too. `one_offs`:
    with those of ``run``; `jobs`: with the runs of jobs (one that is named itself is meant anyway). Raises InputError for
    what is neither in the stack nor there."""
    require_known(selection, observed, project)
    services, containers = frozenset(selection.services), frozenset(selection.containers)
    return [
        item
        for item in observed.containers.values()
        if item.container in containers
        or (
            (selection.everything or item.service in services)
            and (one_offs or item.instance.role is Role.REPLICA or (jobs and item.instance.role is Role.JOB))
        )
    ]


def require_known(selection: Selection, observed: ObservedProject, project: Project) -> None:
    """Raise InputError for a service or container that is neither in the stack nor there."""
    for name in selection.services:
        if name not in project.services and not observed.of(name):
            raise no_such_service(project, name)
    for container in selection.containers:
        if container not in observed.containers:
            raise InputError(f'no such container: "{container}"', hint="`pystack ps -a` lists them")


def no_such_service(project: Project, name: ServiceName) -> InputError:
    known = ", ".join(sorted(project.services)) or "none: nothing is up"
    return InputError(f"no such service: {name}", hint=f"the services are: {known}")
