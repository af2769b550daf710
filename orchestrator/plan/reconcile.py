"""Observed + wanted -> Plan. All decisions of up, down, start, stop and restart are made here; the executor makes none.

A service whose config hash is unchanged and which runs is left alone. A changed one is replaced, that one alone, and what
depends on it with ``restart: true`` is restarted. Sandboxes without a record are removed. Adoption after a reboot is `up`
of what was wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from orchestrator.errors import OperationError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, VolumeName, container_id
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Dependency, Service
from orchestrator.model.volume import MountKind
from orchestrator.plan.hashing import config_hash, explain_change
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Kind, Operation, OperationId, Plan, Verb


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
) -> Plan:
    """Bring the selected services (none: all), with what they need, to what `project` says. `images`: the identity of each
    service's image. Raises InputError for a cycle or a name that is no service."""
    graph = DependencyGraph.of(project)
    chosen = graph.closure(selection, no_deps=no_deps)
    draft = _Draft(project, observed, graph, no_deps)
    moved_networks = _moved_networks(project, observed, chosen) if recreate is not Recreate.NEVER else frozenset()
    for name in chosen:
        service = project.services[name]
        digest = config_hash(project, service, images[name])
        container = observed.containers.get(name)
        if container is None:
            draft.create(service, digest, "not created yet")
        elif cause := _replacement_cause(container, project, digest, observed, recreate, moved_networks):
            draft.replace(container, service, digest, cause)
        elif container.sandbox is None:
            draft.create(service, digest, container.why_gone)
        elif not container.running:
            draft.start(service, container.why_stopped)
    for name, container in observed.containers.items():
        users = sorted(container.networks & moved_networks)
        if users and name not in chosen and name in project.services:
            service = project.services[name]
            draft.replace(container, service, config_hash(project, service, images[name]), f"network {users[0]} changed")
    if not no_deps:
        draft.follow(graph.restart_closure(draft.replaced), "was replaced")
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
    draft = _Draft(project, observed, graph, no_deps)
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
    draft = _Draft(project, observed, graph, resumes=True)
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
    draft = _Draft(project, observed, graph)
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
    draft = _Draft(project, observed, graph, no_deps)
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
    draft = _Draft(project, observed, graph)
    orphans = observed.orphans(project)
    doomed = [observed.containers[name] for name in graph.stop_order() if name in observed.containers]
    if remove_orphans:
        doomed = [*orphans, *doomed]
    for container in doomed:
        if container.live:
            cause = "the stack goes down" if container.service in project.services else "orphan"
            draft.stop(container, cause, timeout_s)
    for container in doomed:
        cause = "the stack goes down" if container.service in project.services else "orphan"
        draft.remove(container, cause, anonymous=volumes)
    draft.remove_leftovers()
    kept = frozenset[NetworkName]() if remove_orphans else frozenset(key for item in orphans for key in item.networks)
    draft.remove_networks(kept)
    if volumes:
        draft.remove_volumes()
    return draft.finish(Verb.DOWN, graph.start_order())


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
    return (network.full_name, network.subnet, network.gateway, network.internal)


@dataclass(slots=True)
class _Draft:
    """A plan being written: keeps the operations by id and knows which edges each kind needs."""

    project: Project
    observed: ObservedProject
    graph: DependencyGraph
    no_deps: bool = False
    resumes: bool = False
    operations: dict[OperationId, Operation] = field(default_factory=dict)
    hashes: dict[ServiceName, str] = field(default_factory=dict)
    replaced: list[ServiceName] = field(default_factory=list)

    def create(self, service: Service, digest: str, cause: str) -> None:
        self.hashes[service.name] = digest
        self._add(Kind.CREATE, cause, service.name)
        self.start(service, "created")

    def start(self, service: Service, cause: str) -> None:
        waits: tuple[Dependency, ...] = () if self.no_deps else self.graph.dependencies(service.name)
        self._add(Kind.START, cause, service.name, waits=waits)

    def stop(self, container: ObservedContainer, cause: str, timeout_s: float | None, replaces: bool = False) -> None:
        service = self.project.services.get(container.service)
        grace_s = timeout_s if timeout_s is not None else service.stop_grace_s if service is not None else 10.0
        self._add(Kind.STOP, cause, container.service, container.container, grace_s=grace_s, replaces=replaces)

    def remove(self, container: ObservedContainer, cause: str, anonymous: bool = False, replaces: bool = False) -> None:
        self._add(Kind.REMOVE, cause, container.service, container.container, anonymous=anonymous, replaces=replaces)

    def replace(self, container: ObservedContainer, service: Service, digest: str, cause: str) -> None:
        self.replaced.append(service.name)
        if container.live:
            self.stop(container, cause, None, replaces=True)
        self.remove(container, cause, replaces=True)
        self.create(service, digest, cause)

    def restart(self, container: ObservedContainer, service: Service, cause: str, timeout_s: float | None) -> None:
        if container.live:
            self.stop(container, cause, timeout_s, replaces=True)
        self.start(service, cause)

    def follow(self, followers: Mapping[ServiceName, ServiceName], what: str) -> None:
        """Restart what runs and follows a service that was replaced or restarted."""
        for name, leader in followers.items():
            container = self.observed.containers.get(name)
            touched = OperationId(f"{Kind.START.value} {name}") in self.operations
            if container is not None and container.running and not touched:
                self.restart(container, self.project.services[name], f"dependency {leader} {what}", None)

    def remove_leftovers(self) -> None:
        for container in self.observed.leftovers:
            service = self._service_of(container)
            replaces = _id(Kind.CREATE, service) in self.operations
            self._add(Kind.REMOVE, "left over from an operation that did not end", service, container, replaces=replaces)

    def prepare_networks_and_volumes(self, moved: frozenset[NetworkName]) -> None:
        starting = [
            self.project.services[item.service]
            for item in self.operations.values()
            if item.kind is Kind.START and item.service
        ]
        for key in sorted({key for service in starting for key in service.networks}):
            if key in moved:
                self._add(Kind.REMOVE_NETWORK, "its definition changed", network=key)
                self._add(Kind.CREATE_NETWORK, "its definition changed", network=key)
            elif key not in self.observed.networks and key in self.project.networks:
                self._add(Kind.CREATE_NETWORK, "does not exist yet", network=key)
        mounts = (mount for service in starting for mount in service.volumes if mount.kind is MountKind.VOLUME)
        for volume in sorted({VolumeName(mount.source) for mount in mounts if mount.source is not None}):
            definition = self.project.volumes.get(volume)
            if definition is not None and volume not in self.observed.volumes and not definition.external:
                self._add(Kind.CREATE_VOLUME, "does not exist yet", volume=volume)

    def remove_networks(self, kept: frozenset[NetworkName]) -> None:
        recorded = self.observed.project.networks if self.observed.project is not None else {}
        for key in sorted((self.project.networks.keys() | recorded.keys() | self.observed.networks) - kept):
            self._add(Kind.REMOVE_NETWORK, "the stack goes down", network=key)

    def remove_volumes(self) -> None:
        for key in sorted(self.observed.volumes):
            definition = self.project.volumes.get(key)
            if definition is not None and not definition.external:
                self._add(Kind.REMOVE_VOLUME, "volumes are to be removed", volume=key)

    def finish(self, verb: Verb, selection: tuple[ServiceName, ...]) -> Plan:
        order = {kind: number for number, kind in enumerate(Kind)}
        if verb in (Verb.DOWN, Verb.STOP):
            operations = [self._ordered(item) for item in self.operations.values()]
        else:
            rank = {name: number for number, name in enumerate(self.graph.start_order())}
            operations = [self._ordered(item) for item in self.operations.values()]
            teardown = [item for item in operations if item.kind in (Kind.STOP, Kind.REMOVE)]
            teardown.sort(key=lambda item: (order[item.kind], -rank.get(item.service or ServiceName(""), 0), item.subject))
            networks = [item for item in operations if item.kind is Kind.REMOVE_NETWORK]
            rest = [item for item in operations if item not in teardown and item not in networks]
            made = [item for item in rest if item.kind in (Kind.CREATE_NETWORK, Kind.CREATE_VOLUME)]
            built = [item for item in rest if item.kind in (Kind.CREATE, Kind.START)]
            built.sort(key=lambda item: (rank[item.service or ServiceName("")], order[item.kind]))
            operations = [*teardown, *networks, *made, *built]
        return Plan(
            verb=verb,
            project=self.project,
            operations=tuple(operations),
            selection=selection,
            hashes=dict(sorted(self.hashes.items())),
            orphans=tuple(item.container for item in self.observed.orphans(self.project) if self._untouched(item)),
        )

    def _untouched(self, container: ObservedContainer) -> bool:
        return OperationId(f"{Kind.REMOVE.value} {container.service}") not in self.operations

    def _service_of(self, container: ContainerId) -> ServiceName:
        """The service a left-over sandbox belonged to, by its name; the whole name when no service has that container."""
        for name in self.project.services:
            if container_id(self.project.name, name) == container:
                return name
        return ServiceName(container)

    def _add(
        self,
        kind: Kind,
        cause: str,
        service: ServiceName | None = None,
        container: ContainerId | None = None,
        *,
        network: NetworkName | None = None,
        volume: VolumeName | None = None,
        waits: tuple[Dependency, ...] = (),
        grace_s: float = 0.0,
        anonymous: bool = False,
        replaces: bool = False,
    ) -> None:
        """`container` None: the service's own."""
        if service is not None and container is None:
            container = container_id(self.project.name, service)
        operation = Operation(
            kind, cause, service, container, network, volume, (), waits, grace_s, anonymous=anonymous, replaces=replaces
        )
        self.operations.setdefault(operation.id, operation)

    def _ordered(self, operation: Operation) -> Operation:
        """The operation with its `after` edges, of which only those in this plan are kept."""
        after: list[OperationId] = []
        match operation.kind:
            case Kind.STOP if operation.service in self.graph.names:
                after = [_id(Kind.STOP, name) for name in self._nearest_stopped_dependents(operation.service)]
            case Kind.REMOVE if operation.service is not None:
                after = [_id(Kind.STOP, operation.service)]
            case Kind.REMOVE_NETWORK if operation.network is not None:
                after = [item.id for item in self.operations.values() if self._removal_frees(item, operation.network)]
            case Kind.CREATE_NETWORK if operation.network is not None:
                after = [_id(Kind.REMOVE_NETWORK, operation.network)]
            case Kind.REMOVE_VOLUME:
                after = [item.id for item in self.operations.values() if item.kind is Kind.REMOVE]
            case Kind.CREATE if operation.service is not None:
                after = [_id(Kind.REMOVE, operation.service), *self._needs(operation.service)]
            case Kind.START if _id(Kind.CREATE, operation.subject) in self.operations:
                after = [_id(Kind.CREATE, operation.subject)]
            case Kind.START if operation.service is not None:
                after = [_id(Kind.STOP, operation.service), *self._needs(operation.service)]
            case _:
                pass
        known = tuple(dict.fromkeys(item for item in after if item in self.operations))
        return replace(operation, after=known, waits=self._waits(operation))

    def _waits(self, operation: Operation) -> tuple[Dependency, ...]:
        """A restart in place, or a resumed start, waits only for what starts with it (or, resumed, what lives): it must not be
        refused because something it once needed is gone by now."""
        in_place = (
            _id(Kind.STOP, operation.subject) in self.operations
            and _id(Kind.CREATE, operation.subject) not in self.operations
        )
        if not in_place and not self.resumes:
            return operation.waits
        return tuple(
            wait for wait in operation.waits if _id(Kind.START, wait.service) in self.operations or self._lives(wait)
        )

    def _lives(self, wait: Dependency) -> bool:
        container = self.observed.containers.get(wait.service)
        return self.resumes and container is not None and container.live

    def _nearest_stopped_dependents(self, service: ServiceName | None) -> list[ServiceName]:
        """Who uses `service`, directly or through services that this plan does not stop, and is stopped by this plan."""
        assert service is not None
        found: list[ServiceName] = []
        seen: set[ServiceName] = set()
        stack = list(self.graph.dependents(service))
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if _id(Kind.STOP, name) in self.operations:
                found.append(name)
            else:
                stack.extend(self.graph.dependents(name))
        return sorted(found)

    def _needs(self, service: ServiceName) -> list[OperationId]:
        definition = self.project.services[service]
        needs = [_id(Kind.CREATE_NETWORK, key) for key in sorted(definition.networks)]
        volumes = {mount.source for mount in definition.volumes if mount.kind is MountKind.VOLUME and mount.source}
        return [*needs, *(_id(Kind.CREATE_VOLUME, key) for key in sorted(volumes))]

    def _removal_frees(self, operation: Operation, network: NetworkName) -> bool:
        if operation.kind is not Kind.REMOVE or operation.service is None:
            return False
        container = self.observed.containers.get(operation.service)
        return container is None or network in container.networks or network in self._declared_networks(operation.service)

    def _declared_networks(self, service: ServiceName) -> Iterable[NetworkName]:
        return self.project.services[service].networks if service in self.project.services else ()


def _id(kind: Kind, subject: str) -> OperationId:
    return OperationId(f"{kind.value} {subject}")
