"""A plan being written: `reconcile` says what is to be done, a Draft knows in which order that can be done.

The rules of order are in `_after`: what has to be done before an operation of each kind. An edge to something that is not
in the plan is no edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, VolumeName, container_id
from orchestrator.model.project import Project
from orchestrator.model.service import Dependency, Service
from orchestrator.model.volume import MountKind
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Kind, Operation, OperationId, Plan, Verb
from orchestrator.values import entity, field, replace

_SECTIONS = (
    Kind.STOP,
    Kind.REMOVE,
    Kind.REMOVE_NETWORK,
    Kind.CREATE_NETWORK,
    Kind.CREATE_VOLUME,
    Kind.REMOVE_VOLUME,
    Kind.CREATE,
    Kind.START,
)


@entity
class Draft:
    """Operations by id, with their causes; `finish` orders them. `resumes`: see `reconcile.plan_resume`."""

    project: Project
    observed: ObservedProject
    graph: DependencyGraph
    no_deps: bool = False
    resumes: bool = False
    operations: dict[OperationId, Operation] = field(default_factory=dict)
    hashes: dict[ServiceName, str] = field(default_factory=dict)
    replaced: list[ServiceName] = field(default_factory=list)
    _ranks: Mapping[ServiceName, int] = field(init=False)

    def __post_init__(self) -> None:
        self._ranks = {name: number for number, name in enumerate(self.graph.start_order())}

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

    def replace(
        self, container: ObservedContainer, service: Service, digest: str, cause: str, timeout_s: float | None = None
    ) -> None:
        self.replaced.append(service.name)
        if container.live:
            self.stop(container, cause, timeout_s, replaces=True)
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
        operations = [self._ordered(item) for item in self.operations.values()]
        if verb not in (Verb.DOWN, Verb.STOP):
            operations.sort(key=self._place)
        return Plan(
            verb=verb,
            project=self.project,
            operations=tuple(operations),
            selection=selection,
            hashes=dict(sorted(self.hashes.items())),
            orphans=tuple(item.container for item in self.observed.orphans(self.project) if self._untouched(item)),
        )

    def _place(self, operation: Operation) -> tuple[int, int, int, str]:
        """Where a reader expects it: what goes (dependents first), networks, volumes, then what comes, by service."""
        kind = _SECTIONS.index(operation.kind)
        service = operation.service
        rank = self._ranks.get(service, 0) if service is not None else 0
        match operation.kind:
            case Kind.STOP | Kind.REMOVE:
                return (kind, -rank, 0, operation.subject)
            case Kind.CREATE | Kind.START:
                return (len(_SECTIONS), rank, kind, operation.subject)
            case _:
                return (kind, 0, 0, operation.subject)

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
        """A restart in place, or a resumed start, waits only for what starts with it (or, resumed, what lives): it must not
        be refused because something it once needed is gone by now."""
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
