"""Observed + wanted -> Plan: the decisions of up, scale and run, and of resuming after a crash. (`plan.teardown` has those
of stop, restart, kill and down.) The executor makes none.

A container whose config hash is unchanged and which runs is left alone. One of which only limits, networks or published
ports have changed gets these, and its run goes on. Another changed one is replaced, that one alone, and what depends on it
with ``restart: true`` is restarted. Sandboxes without a record are removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestrator.contracts.control import Recreate, Run, Scale, Start, Up
from orchestrator.contracts.state import Wanted
from orchestrator.errors import InputError, OperationError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.manual import renamed
from orchestrator.model.names import (
    CONTAINER_NAME,
    ContainerId,
    Instance,
    NetworkName,
    Role,
    ServiceName,
    VolumeName,
    instance_id,
    successor_id,
)
from orchestrator.model.project import Project
from orchestrator.model.service import Condition, Service
from orchestrator.model.volume import MountKind
from orchestrator.plan.builder import PlanBuilder
from orchestrator.plan.hashing import NOTHING, InPlace, changed_in_place, config_hash, explain_change
from orchestrator.plan.lending import replace_borrowers
from orchestrator.plan.moving import called_anew, changed_networks, kept_by_hand, renamed_networks
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Kind, Plan, Verb, operation_id
from orchestrator.plan.replicas import distribute, require_scalable
from orchestrator.plan.rolling import require_start_first, roll, rules_for
from orchestrator.plan.selection import (
    enabled_services,
    no_such_service,
    require_known,
    require_manual,
    require_services,
    with_needs,
)
from orchestrator.plan.sharing import identity, shared_identities, shared_of, shared_services

KEPT_RUNS = 5
"""Runs of a job that have ended; older ones are removed."""

Images = Mapping[ServiceName, str | None]
"""The identity of each service's image; None: it has still to be obtained."""


def plan_up(request: Up, observed: ObservedProject, *, images: Images) -> Plan:
    """Bring the selected services, with what they need, to what the stack says. Raises InputError for a cycle, a name that
    is no service, or a scale that cannot be."""
    project, asked = request.project, frozenset(request.selection.services)
    require_services(project, (*asked, *request.scale))
    enabled = enabled_services(project, asked)
    chosen = chosen_for_up(request)
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph, enabled, images, no_deps=not request.selection.dependencies)
    _reconcile(builder, request, chosen, asked)
    return builder.finish(Verb.UP, chosen)


def chosen_for_up(request: Up) -> tuple[ServiceName, ...]:
    """The services that `request` is about, with what they need, in start order."""
    project, asked = request.project, frozenset(request.selection.services)
    enabled, graph = enabled_services(project, asked), DependencyGraph.of(project)
    return with_needs(project, graph, asked, enabled, dependencies=request.selection.dependencies)


def chosen_for_scale(request: Scale) -> tuple[ServiceName, ...]:
    """As `chosen_for_up`."""
    project, asked = request.project, frozenset(request.scale)
    enabled, graph = enabled_services(project, asked), DependencyGraph.of(project)
    return with_needs(project, graph, asked, enabled, dependencies=request.dependencies)


def chosen_for_run(request: Run) -> tuple[ServiceName, ...]:
    """The service of the one-off after what it needs, in start order."""
    project, name = request.project, request.definition.name
    enabled, graph = enabled_services(project, {name}), DependencyGraph.of(project)
    return with_needs(project, graph, {name}, enabled, dependencies=request.dependencies)


def plan_scale(request: Scale, observed: ObservedProject, *, images: Images) -> Plan:
    """Change numbers of replicas; what the services need comes to the numbers of the stack. What exists is not replaced."""
    project, asked = request.project, frozenset(request.scale)
    require_services(project, asked)
    enabled = enabled_services(project, asked)
    graph = DependencyGraph.of(project)
    chosen = chosen_for_scale(request)
    builder = PlanBuilder(project, observed, graph, enabled, images, no_deps=not request.dependencies)
    up = Up(project, scale=request.scale, recreate=Recreate.NEVER, timeout_s=request.timeout_s)
    _reconcile(builder, up, chosen, frozenset())
    return builder.finish(Verb.SCALE, chosen)


def plan_run(request: Run, observed: ObservedProject, *, images: Images, slug: str) -> Plan:
    """A one-off container beside the service's replicas, or a run of a job, after what it needs. `slug`: hex digits for its
    name. Raises InputError for a job that is not to be run by hand."""
    project, definition = request.project, request.definition
    name = definition.name
    if not request.due_at:
        require_manual(project, name)
    if request.name and not re.fullmatch(CONTAINER_NAME, request.name):
        raise InputError(f'"{request.name}" is not a container name', hint="letters, digits, and then also . _ -")
    enabled = enabled_services(project, {name})
    graph = DependencyGraph.of(project)
    chosen = tuple(item for item in chosen_for_run(request) if item != name)
    builder = PlanBuilder(project, observed, graph, enabled, images, no_deps=not request.dependencies)
    up = Up(project, remove_orphans=request.remove_orphans)
    if not request.due_at:
        _reconcile(builder, up, chosen, frozenset())
    role = Role.JOB if name in project.jobs else Role.ONE_OFF
    former = [item for item in observed.of(name) if item.instance.role is role]
    if role is Role.JOB:
        _forget_runs(builder, former)
    instance = Instance(name, role, max((item.instance.number for item in former), default=0) + 1)
    container = ContainerId(request.name) if request.name else instance_id(project.name, instance, slug)
    if container in observed.containers or container in observed.leftovers:
        raise InputError(
            f'the container name "{container}" is already in use', hint=f"remove it, or choose another name: {container}-2"
        )
    builder.create(instance, container, definition, "requested")
    builder.start(instance, container, "created")
    builder.prepare()
    return builder.finish(Verb.RUN, chosen)


def _forget_runs(builder: PlanBuilder, runs: Iterable[ObservedContainer]) -> None:
    """Of the runs of a job that have ended, the last ones stay, with the one that is about to be made."""
    ended = [item for item in runs if item.exit is not None and not item.live]
    ended.sort(key=lambda item: item.instance.number)
    for item in ended[: max(0, len(ended) - KEPT_RUNS + 1)]:
        builder.remove(item, f"the last {KEPT_RUNS} runs of a job are kept", anonymous=True)


def plan_start(request: Start, observed: ObservedProject, project: Project) -> Plan:
    """Start existing containers that do not run, and what they need. One that a reboot took is made again. Raises
    OperationError when a selected service was never created."""
    require_known(request.selection, observed, project)
    graph = DependencyGraph.of(project)
    asked = frozenset(request.selection.services)
    containers = frozenset(request.selection.containers)
    if request.resume:
        return _plan_to_resume_work(observed, project, asked)
    roots = asked | {observed.containers[name].service for name in containers if name in observed.containers}
    enabled = frozenset(project.services)
    known = roots & enabled
    chosen = graph.closure(known, no_deps=not request.selection.dependencies) if known or not roots else ()
    builder = PlanBuilder(project, observed, graph, enabled, no_deps=not request.selection.dependencies)
    for name in (*chosen, *sorted(roots - enabled)):
        whole = name in asked or not containers
        found = [item for item in observed.replicas(name) if whole or item.container in containers]
        if not found and name in asked and name not in project.jobs:
            raise _no_container(name, "start")
        for item in found:
            if item.paused:
                builder.unpause(item, "paused")
            elif not item.running or item.stopping:
                _begin(builder, item, project.services.get(name, item.definition))
    builder.prepare()
    builder.remove_leftovers()
    return builder.finish(Verb.START, tuple(name for name in chosen if observed.replicas(name)))


def _plan_to_resume_work(observed: ObservedProject, project: Project, asked: frozenset[ServiceName]) -> Plan:
    """Start what was halted, or was lost when the machine went down, from what it was made from, in order; of the services
    `asked` for, if there are any. What was stopped by hand, and what had ended, stays so."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph, frozenset(project.services), resumes=True)
    for item in observed.containers.values():
        replica = item.instance.role is Role.REPLICA and item.service in project.services
        if replica and (not asked or item.service in asked) and not item.live and (item.record.halted or item.lost):
            _begin(builder, item, item.definition)
    builder.prepare()
    return builder.finish(Verb.START, tuple(name for name in graph.start_order() if observed.replicas(name)))


def plan_resume(observed: ObservedProject, project: Project, containers: Iterable[ContainerId]) -> Plan:
    """Finish what an earlier supervisor was asked for: make and start `containers`, which are wanted and are not there,
    from what they were recorded to be made from, and remove what has no record. Touches nothing else."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph, frozenset(project.services), resumes=True)
    for container in containers:
        item = observed.containers[container]
        if item.sandbox is None or not item.live:
            _begin(builder, item, item.definition)
    builder.prepare()
    builder.remove_leftovers()
    return builder.finish(Verb.UP, graph.start_order())


def _begin(builder: PlanBuilder, item: ObservedContainer, definition: Service) -> None:
    """Start what exists, or make again what is gone."""
    if item.sandbox is None:
        builder.create(item.instance, item.container, definition, item.why_gone)
        builder.start(item.instance, item.container, "created")
    else:
        builder.start(item.instance, item.container, item.why_stopped)


def _reconcile(
    builder: PlanBuilder,
    request: Up,
    chosen: tuple[ServiceName, ...],
    asked: frozenset[ServiceName],
) -> None:
    """Each chosen service as the stack has it; `chosen` is in start order, so that what a service needs is decided
    first."""
    project, observed = request.project, builder.observed
    numbers = request.scale
    for name in sorted(numbers):
        if name not in project.services:
            raise no_such_service(project, name)
    never = request.recreate is Recreate.NEVER
    builder.renamed = {} if never else renamed_networks(project, observed)
    moved = {} if never else changed_networks(project, observed, chosen)
    moved |= {old: f"is called {new} now: left, and not removed" for old, new in builder.renamed.items()}
    for name in chosen:
        service = project.services[name]
        wanted = numbers.get(name, service.replicas)
        require_scalable(project, service, wanted)
        require_start_first(project, service)
        recreate = request.recreate
        if asked and name not in asked:  # What these need.
            needs = Recreate.CHANGED if recreate is Recreate.ALWAYS else recreate
            recreate = Recreate.ALWAYS if request.recreate_dependencies else needs
        builder.renews = request.renew_volumes and (not asked or name in asked)
        _reconcile_service(builder, request, service, wanted, recreate, moved, name in asked)
    builder.renews = False
    replace_borrowers(builder, request.timeout_s)
    _replace_sharers(builder, request)
    if not builder.no_deps:
        builder.follow(builder.graph.restart_closure(builder.replaced), "was replaced")
    if request.remove_orphans:
        for item in observed.orphans(project):
            builder.discard(item, "orphan", request.timeout_s)
    _reconnect_others(builder, moved)
    builder.exchange()
    builder.prepare(moved, everything=request.all_resources)
    builder.remove_leftovers()


def _reconnect_others(builder: PlanBuilder, moved: Mapping[NetworkName, str]) -> None:
    """Whoever else is on a network that is made anew, whether it was asked for or not: one-offs, and other services'."""
    for item in builder.observed.containers.values():
        on = sorted(item.networks & moved.keys())
        handled = any(operation_id(kind, item.container) in builder.operations for kind in (Kind.REMOVE, Kind.DISCONNECT))
        if on and item.sandbox is not None and not handled:
            builder.disconnect(item, moved)
            definition = called_anew(item.definition, builder.renamed)
            builder.reconnect(item, definition, builder.why_moved(on), renamed(item.record.manual, builder.renamed))


def _replace_sharers(builder: PlanBuilder, request: Up) -> None:
    """Who is in a namespace of what is replaced, whether it was asked for or not: that namespace will be gone."""
    for name in builder.graph.start_order():
        service = builder.project.services[name]
        shared = shared_services(builder.project, service)
        gone = sorted(other for other in shared if builder.replaced.get(other))
        for item in builder.observed.replicas(name) if gone else ():
            if operation_id(Kind.REMOVE, item.container) not in builder.operations and item.sandbox is not None:
                cause = f"{gone[0]}, whose {shared[gone[0]]} namespace it is in, is replaced"
                builder.replace(item, service, cause, request.timeout_s, start=item.live)


def _reconcile_service(
    builder: PlanBuilder,
    request: Up,
    service: Service,
    wanted: int,
    recreate: Recreate,
    moved: Mapping[NetworkName, str],
    asked: bool,
) -> None:
    existing = builder.observed.replicas(service.name)
    causes = {item.container: _replacement_cause(builder, item, service, recreate) for item in existing}
    if builder.renews:
        causes |= {
            item.container: "new anonymous volumes requested"
            for item in existing
            if item.sandbox is not None and item.container in builder.observed.anonymous and not causes[item.container]
        }
    obsolete = frozenset(container for container, cause in causes.items() if cause)
    kept, surplus, missing = distribute(existing, wanted, obsolete)
    for item in surplus:
        builder.discard(item, f"scaled to {wanted}", request.timeout_s, anonymous=request.renew_volumes)
    replaced = [(item, cause) for item in kept if (cause := causes[item.container])]
    rules = rules_for(service, [item for item, _ in replaced], moved) if request.start else None
    if rules is not None and replaced:
        roll(builder, service, rules, replaced, request.timeout_s, renew_volumes=request.renew_volumes)
    for item in kept:
        if cause := causes[item.container]:
            if rules is not None:
                continue
            builder.replace(
                item, service, cause, request.timeout_s, renew_volumes=request.renew_volumes, start=request.start
            )
            continue
        if item.sandbox is not None and recreate is not Recreate.NEVER:
            _change_in_place(builder, item, service, moved)
        if item.sandbox is None:
            manual, _ = kept_by_hand(item, service, builder.project, builder.renamed)
            name = _name_by_now(builder, item, service)
            builder.create(item.instance, name, service, item.why_gone, manual, renames=item.container)
            if request.start:
                builder.start(item.instance, name, "created")
        elif request.start and item.paused:
            builder.unpause(item, "paused")
        elif request.start and (not item.running or item.stopping):
            cause = item.why_stopped if asked else _why_started(builder, item)
            if cause:
                builder.start(item.instance, item.container, cause)
    for number in missing:
        builder.make(Instance(service.name, number=number), service, "not created yet", start=request.start)


def _name_by_now(builder: PlanBuilder, item: ObservedContainer, service: Service) -> ContainerId:
    """What the stack calls a replica that has to be made again; of the two names that take turns, the one that it has."""
    usual = builder.name_of(item.instance, service)
    other = successor_id(builder.project.name, item.instance, usual)
    has_it = item.container == usual or (item.container == other and service.container_name is None)
    return usual if not has_it and builder.may_be_called(item, usual) else item.container


def _change_in_place(
    builder: PlanBuilder, item: ObservedContainer, service: Service, moved: Mapping[NetworkName, str]
) -> None:
    """What can be given to it as it is, and what of its networks is not as the stack says."""
    changes = _in_place(builder, item, service)
    if changes.limits:
        builder.update(item, service, f"limits changed: {', '.join(changes.limits)}")
    manual, by_hand = kept_by_hand(item, service, builder.project, builder.renamed)
    wiring = (*changes.wiring, *([f"networks {', '.join(by_hand)}"] if by_hand else []))
    if wiring and item.networks & moved.keys():
        builder.disconnect(item, moved)
    if wiring:
        builder.reconnect(item, service, "; ".join(wiring), manual)


def _why_started(builder: PlanBuilder, item: ObservedContainer) -> str:
    """Why one that does not run is started; "" for a job that has done its work.

    A job ended with 0, and somebody depends on just that. Nobody else can tell a job from a service that should run, so
    anything else that ended is started again. A job runs again when what it ran against was replaced or is new: a migration
    must meet the new database.
    """
    if item.exit is None or item.exit.code != 0 or item.record.wanted is Wanted.STOPPED:
        return item.why_stopped
    graph = builder.graph
    users = (edge for name in graph.dependents(item.service) for edge in graph.dependencies(name))
    if not any(edge.service == item.service and edge.condition is Condition.COMPLETED for edge in users):
        return item.why_stopped
    return _new_ground(builder, item)


def _new_ground(builder: PlanBuilder, item: ObservedContainer) -> str:
    """Which of the things that a job ran against is another one now; "" when all are the same."""
    observed, before = builder.observed, item.record.ran_against
    for edge in builder.graph.dependencies(item.service):
        ran = before.get(edge.service)
        if not ran:
            continue
        going = set(builder.replaced.get(edge.service, ()))
        stay = {
            identity_of(other)
            for other in observed.replicas(edge.service)
            if other.sandbox is not None and other.container not in going
        }
        if not stay & set(ran):
            return f"{edge.service} was replaced"
    needs = [edge.service for edge in builder.graph.dependencies(item.service)]
    for volume in used_volumes(builder.project, item.definition, needs):
        ran = before.get(f"volume {volume}")
        if ran and observed.volumes.get(volume) not in ran:
            return f"volume {volume} is new"
    return ""


def identity_of(item: ObservedContainer) -> str:
    """A name for this very container: another one of the same name has another."""
    return identity(item.container, item.record.created_at)


def used_volumes(project: Project, service: Service, needs: Iterable[ServiceName]) -> tuple[VolumeName, ...]:
    """The named volumes of `service` and of the services it `needs`, sorted."""
    users = [service, *(project.services[name] for name in needs if name in project.services)]
    mounts = (mount for user in users for mount in user.volumes)
    found = {VolumeName(mount.source) for mount in mounts if mount.kind is MountKind.VOLUME and mount.source is not None}
    return tuple(sorted(found))


def _no_container(service: ServiceName, verb: str) -> OperationError:
    return OperationError(f'service "{service}" has no container to {verb}', hint=f"create it with: pystack up {service}")


def _in_place(builder: PlanBuilder, item: ObservedContainer, service: Service) -> InPlace:
    """What of it has changed that it can be given as it is, if nothing else has."""
    if item.sandbox is None:
        return NOTHING
    shared = shared_identities(service, builder.observed)
    identity, record = _identity_for(builder, item, service), item.record
    recorded, existing = builder.observed.project, builder.observed.networks
    networks = {**(recorded.networks if recorded is not None else {}), **existing}
    return changed_in_place(
        record.definition, record.config_hash, networks, builder.project, service, identity, shared
    )


def _identity_for(builder: PlanBuilder, item: ObservedContainer, service: Service) -> str:
    """Of its images. While they are not obtained: what runs was made from what was here."""
    return builder.images.get(service.name) or item.record.definition.image


def _replacement_cause(
    builder: PlanBuilder, item: ObservedContainer, service: Service, recreate: Recreate
) -> str:
    """Why this container has to be replaced; "" when it need not be. One without a sandbox is made anew anyway."""
    if item.sandbox is None or recreate is Recreate.NEVER:
        return ""
    project, record, image = builder.project, item.record, _identity_for(builder, item, service)
    shared = shared_services(project, service)
    for name in sorted(shared):
        if builder.replaced.get(name) or not builder.observed.replicas(name):
            return f"{name}, whose {shared[name]} namespace it is in, is replaced"
    made = config_hash(project, service, image, shared_identities(service, builder.observed))
    if record.config_hash != made and not _in_place(builder, item, service):
        changed = explain_change(builder.observed.project, record.definition, project, service, image)
        if not changed and shared_of(service):
            changed = f"{', '.join(shared_of(service))} namespace of another container"
        return f"config hash changed: {changed}" if changed else "config hash changed"
    return "recreate requested" if recreate is Recreate.ALWAYS else ""
