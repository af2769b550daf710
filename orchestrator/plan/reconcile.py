"""Observed + wanted -> Plan. All decisions of up, down, start, stop and restart are made here; the executor makes none.

A service whose config hash is unchanged and which runs is left alone. A changed one is replaced, that one alone, and what
depends on it with ``restart: true`` is restarted. Sandboxes without a record are removed. Adoption after a reboot is `up`
of what was wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from orchestrator.contracts.state import Wanted
from orchestrator.errors import OperationError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Condition
from orchestrator.plan.draft import Draft
from orchestrator.plan.hashing import config_hash, explain_change
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Plan, Verb


class Recreate(Enum):
    CHANGED = "changed"
    ALWAYS = "always"
    NEVER = "never"


def plan_up(
    project: Project,
    observed: ObservedProject,
    selection: Iterable[ServiceName] = (),
    *,
    images: Mapping[ServiceName, str],
    recreate: Recreate = Recreate.CHANGED,
    no_deps: bool = False,
    remove_orphans: bool = False,
    timeout_s: float | None = None,
) -> Plan:
    """Bring the selected services (none: all), with what they need, to what `project` says. `images`: the identity of each
    service's image. `timeout_s` overrides the grace period of what is replaced. Raises InputError for a cycle or a name
    that is no service."""
    graph = DependencyGraph.of(project)
    asked = frozenset(selection)
    chosen = graph.closure(asked, no_deps=no_deps)
    draft = Draft(project, observed, graph, no_deps)
    moved_networks = _moved_networks(project, observed, chosen) if recreate is not Recreate.NEVER else frozenset()
    for name in chosen:
        service = project.services[name]
        digest = config_hash(project, service, images[name])
        container = observed.containers.get(name)
        if container is None:
            draft.create(service, digest, "not created yet")
        elif cause := _replacement_cause(container, project, digest, observed, recreate, moved_networks):
            draft.replace(container, service, digest, cause, timeout_s)
        elif container.sandbox is None:
            draft.create(service, digest, container.why_gone)
        elif not container.running and (name in asked or not _is_done(container, graph)):
            draft.start(service, container.why_stopped)
    for name, container in observed.containers.items():
        users = sorted(container.networks & moved_networks)
        if users and name not in chosen and name in project.services:
            service = project.services[name]
            digest = config_hash(project, service, images[name])
            draft.replace(container, service, digest, f"network {users[0]} changed", timeout_s)
    if not no_deps:
        draft.follow(graph.restart_closure(draft.replaced), "was replaced")
    if remove_orphans:
        _remove(draft, observed.orphans(project), timeout_s)
    draft.prepare_networks_and_volumes(moved_networks)
    draft.remove_leftovers()
    return draft.finish(Verb.UP, chosen)


def plan_start(
    project: Project,
    observed: ObservedProject,
    selection: Iterable[ServiceName] = (),
    *,
    images: Mapping[ServiceName, str],
    no_deps: bool = False,
) -> Plan:
    """Start existing containers that do not run, and what they need. One that a reboot took is made again. Raises
    OperationError when a selected service was never created."""
    graph = DependencyGraph.of(project)
    asked = frozenset(selection)
    chosen = graph.closure(asked, no_deps=no_deps)
    if not asked:
        chosen = tuple(name for name in chosen if name in observed.containers)
    draft = Draft(project, observed, graph, no_deps)
    for name in chosen:
        container = observed.containers.get(name)
        if container is None:
            raise _no_container(name, "start")
        service = project.services[name]
        if container.sandbox is None:
            draft.create(service, config_hash(project, service, images[name]), container.why_gone)
        elif not container.running:
            draft.start(service, container.why_stopped)
    draft.prepare_networks_and_volumes(frozenset())
    draft.remove_leftovers()
    return draft.finish(Verb.START, chosen)


def plan_resume(
    project: Project, observed: ObservedProject, services: Iterable[ServiceName], *, images: Mapping[ServiceName, str]
) -> Plan:
    """Finish what an earlier supervisor was asked for: make and start `services`, which are wanted and are not there, and
    remove what has no record. Touches nothing else."""
    graph = DependencyGraph.of(project)
    draft = Draft(project, observed, graph, resumes=True)
    asked = frozenset(services)
    chosen = tuple(name for name in graph.start_order() if name in asked)
    for name in chosen:
        service, container = project.services[name], observed.containers.get(name)
        if container is None or container.sandbox is None:
            cause = container.why_gone if container is not None else "not created yet"
            draft.create(service, config_hash(project, service, images[name]), cause)
        elif not container.live:
            draft.start(service, container.why_stopped)
    draft.prepare_networks_and_volumes(frozenset())
    draft.remove_leftovers()
    return draft.finish(Verb.UP, chosen)


def plan_stop(
    project: Project, observed: ObservedProject, selection: Iterable[ServiceName] = (), *, timeout_s: float | None = None
) -> Plan:
    """Stop the selected services (none: all), dependents first. `timeout_s` overrides each service's grace period."""
    graph = DependencyGraph.of(project)
    chosen = frozenset(graph.closure(selection, no_deps=True))
    draft = Draft(project, observed, graph)
    for name in graph.stop_order():
        container = observed.containers.get(name)
        if name in chosen and container is not None and container.live:
            draft.stop(container, "requested", timeout_s)
    return draft.finish(Verb.STOP, tuple(name for name in graph.start_order() if name in chosen))


def plan_restart(
    project: Project,
    observed: ObservedProject,
    selection: Iterable[ServiceName] = (),
    *,
    images: Mapping[ServiceName, str],
    timeout_s: float | None = None,
    no_deps: bool = False,
) -> Plan:
    """Stop and start the selected services (none: all that have a container) in their sandboxes; unless `no_deps`, also
    what depends on them with ``restart: true``."""
    graph = DependencyGraph.of(project)
    asked = frozenset(selection)
    chosen = graph.closure(asked, no_deps=True)
    draft = Draft(project, observed, graph, no_deps)
    for name in chosen:
        container = observed.containers.get(name)
        if container is None:
            if asked:
                raise OperationError(
                    f'service "{name}" has no container to restart', hint=f"create it with: pystack up {name}"
                )
            continue
        service = project.services[name]
        if container.sandbox is None:
            draft.create(service, config_hash(project, service, images[name]), container.why_gone)
        else:
            draft.restart(container, service, "requested", timeout_s)
    if not no_deps:
        draft.follow(graph.restart_closure(asked & frozenset(chosen)), "was restarted")
    draft.prepare_networks_and_volumes(frozenset())
    return draft.finish(Verb.RESTART, chosen)


def plan_down(
    project: Project,
    observed: ObservedProject,
    *,
    volumes: bool = False,
    remove_orphans: bool = False,
    timeout_s: float | None = None,
) -> Plan:
    """Stop and remove all containers, then the networks, and with `volumes` the named (not external) and anonymous volumes.
    Orphans stay, and the networks they are on, unless `remove_orphans`."""
    graph = DependencyGraph.of(project)
    draft = Draft(project, observed, graph)
    orphans = observed.orphans(project)
    doomed = [observed.containers[name] for name in graph.stop_order() if name in observed.containers]
    if remove_orphans:
        doomed = [*orphans, *doomed]
    _remove(draft, doomed, timeout_s, anonymous=volumes)
    draft.remove_leftovers()
    kept = frozenset[NetworkName]() if remove_orphans else frozenset(key for item in orphans for key in item.networks)
    draft.remove_networks(kept)
    if volumes:
        draft.remove_volumes()
    return draft.finish(Verb.DOWN, graph.start_order())


def _remove(
    draft: Draft, doomed: Iterable[ObservedContainer], timeout_s: float | None, *, anonymous: bool = False
) -> None:
    causes = [(item, "the stack goes down" if item.service in draft.project.services else "orphan") for item in doomed]
    for container, cause in causes:
        if container.live:
            draft.stop(container, cause, timeout_s)
    for container, cause in causes:
        draft.remove(container, cause, anonymous=anonymous)


def _is_done(container: ObservedContainer, graph: DependencyGraph) -> bool:
    """A job that has done its work: it ended with 0, and somebody depends on just that. Nobody else can tell a job from a
    service that should run, so anything else that ended is started again."""
    if container.exit is None or container.exit.code != 0 or container.record.wanted is Wanted.STOPPED:
        return False
    users = (edge for name in graph.dependents(container.service) for edge in graph.dependencies(name))
    return any(edge.service == container.service and edge.condition is Condition.COMPLETED for edge in users)


def _no_container(service: ServiceName, verb: str) -> OperationError:
    return OperationError(f'service "{service}" has no container to {verb}', hint=f"create it with: pystack up {service}")


def _replacement_cause(
    container: ObservedContainer,
    project: Project,
    digest: str,
    observed: ObservedProject,
    recreate: Recreate,
    moved_networks: frozenset[NetworkName],
) -> str:
    """Why this container has to be replaced; "" when it need not be. One without a sandbox is made anew anyway."""
    if container.sandbox is None or recreate is Recreate.NEVER:
        return ""
    if container.record.config_hash != digest:
        changed = explain_change(observed.project, project, project.services[container.service])
        return f"config hash changed: {changed}" if changed else "config hash changed"
    if recreate is Recreate.ALWAYS:
        return "recreate requested"
    moved = sorted(container.networks & moved_networks)
    return f"network {moved[0]} changed" if moved else ""


def _moved_networks(project: Project, observed: ObservedProject, chosen: tuple[ServiceName, ...]) -> frozenset[NetworkName]:
    """Networks in use by `chosen` that exist with another definition than the stack now gives them."""
    before = observed.project.networks if observed.project is not None else {}
    used = {key for name in chosen for key in project.services[name].networks}
    candidates = used & observed.networks & project.networks.keys() & before.keys()
    return frozenset(key for key in candidates if _shape(before[key]) != _shape(project.networks[key]))


def _shape(network: Network) -> tuple[object, ...]:
    """What cannot be changed while it exists."""
    return (network.full_name, network.subnets, network.internal)
