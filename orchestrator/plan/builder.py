"""A plan being written: `reconcile` says what is to be done, a PlanBuilder knows in which order that can be done
(`plan.order`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from orchestrator.contracts.network import Published
from orchestrator.errors import InputError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.keys import MOST_NAME
from orchestrator.model.manual import Manual, connected
from orchestrator.model.names import (
    ContainerId,
    Instance,
    NetworkName,
    Role,
    ServiceName,
    VolumeName,
    init_id,
    instance_id,
)
from orchestrator.model.project import Project
from orchestrator.model.service import Dependency, Service
from orchestrator.model.volume import MountKind, mounted_images
from orchestrator.plan.exchange import covers, takings
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.order import Order
from orchestrator.plan.plan import Kind, Operation, OperationId, Plan, Roll, Verb, label_of, operation_id
from orchestrator.plan.sharing import shared_services
from orchestrator.values import entity, field, replace

GONE, LEFT_OVER = "its service is no longer in the stack", "left over from `run`"
"""Why a container is an orphan."""


@entity
class PlanBuilder:
    """Operations by id, with their causes; `finish` orders them.

    `enabled`: services that may be waited for. `images`: the identity of each service's images (`hashing.identity_with`),
    None where one has still to be obtained. `renamed`: networks that the stack calls otherwise now. `resumes`: see
    `reconcile.plan_resume`. `renews`: what is made has new anonymous volumes.
    """

    project: Project
    observed: ObservedProject
    graph: DependencyGraph
    enabled: frozenset[ServiceName] = frozenset()
    images: Mapping[ServiceName, str | None] = field(default_factory=dict)
    no_deps: bool = False
    resumes: bool = False
    renews: bool = False
    operations: dict[OperationId, Operation] = field(default_factory=dict)
    replaced: dict[ServiceName, list[ContainerId]] = field(default_factory=dict)
    predecessors: dict[ContainerId, ContainerId] = field(default_factory=dict)
    rolls: dict[ServiceName, Roll] = field(default_factory=dict)
    renamed: dict[NetworkName, NetworkName] = field(default_factory=dict)
    _names: dict[ContainerId, ServiceName] = field(default_factory=dict)
    _takes: dict[OperationId, list[OperationId]] = field(default_factory=dict)

    def create(
        self,
        instance: Instance,
        container: ContainerId,
        definition: Service,
        cause: str,
        manual: Manual | None = None,
        renames: ContainerId | None = None,
    ) -> None:
        """`container` must be free, but for what has the same place. `renames`: see `Operation`. Raises InputError."""
        names = [container]
        if definition.pre_start:
            names.append(init_id(self.project.name, instance, len(definition.pre_start) - 1))
        if max(len(name.encode("utf-8", "surrogateescape")) for name in names) > MOST_NAME:
            raise InputError(
                f'the container name "{container[:40]}..." is longer than {MOST_NAME} bytes',
                hint="give the service a shorter name, or a `container_name`",
                place=self.project.where(definition.place),
            )
        owner, hint = self._names.get(container), "give it another `container_name`, or leave that out"
        known = self.observed.containers.get(container)
        if owner is None and known is not None and known.instance != instance:
            owner = known.service  # Also of one that goes: the name is its own until it is gone.
            hint = f"remove the container that has it first: pystack rm -fs {owner}"
        if owner is not None:
            raise InputError(
                f'container name "{container}" is already in use by service {owner}', hint=hint,
                place=self.project.where(f"{definition.place}.container_name"),
            )
        self._names[container] = definition.name
        renames = renames if renames != container else None
        made = Operation(Kind.CREATE, cause, container, instance, definition=definition, manual=manual, renames=renames)
        self._add(replace(made, anonymous=self.renews))

    def start(self, instance: Instance, container: ContainerId, cause: str) -> None:
        waits: tuple[Dependency, ...] = ()
        if not self.no_deps and instance.service in self.graph.names:
            waits = tuple(edge for edge in self.graph.dependencies(instance.service) if edge.service in self.enabled)
        self._add(Operation(Kind.START, cause, container, instance, waits=waits))

    def make(self, instance: Instance, definition: Service, cause: str, *, start: bool = True) -> ContainerId:
        """A new replica, and its start."""
        container = self.name_of(instance, definition)
        self.create(instance, container, definition, cause)
        if start:
            self.start(instance, container, "created")
        return container

    def name_of(self, instance: Instance, definition: Service) -> ContainerId:
        if definition.container_name is not None and instance.role is Role.REPLICA and instance.number == 1:
            return ContainerId(definition.container_name)
        return instance_id(self.project.name, instance)

    def stop(
        self,
        item: ObservedContainer,
        cause: str,
        timeout_s: float | None,
        *,
        replaces: bool = False,
        halts: bool = False,
    ) -> None:
        own_s = item.definition.stop_grace_s
        grace_s = timeout_s if timeout_s is not None else own_s
        # A short `-t` is for who does not heed the signal: what is to be done before that has its time nevertheless.
        hooks_s = max(grace_s, own_s)
        stop = Operation(Kind.STOP, cause, item.container, item.instance, grace_s=grace_s, hooks_s=hooks_s)
        self._add(replace(stop, replaces=replaces, halts=halts))

    def kill(self, item: ObservedContainer, cause: str) -> None:
        self._add(Operation(Kind.STOP, cause, item.container, item.instance))

    def signal(self, item: ObservedContainer, number: int, cause: str) -> None:
        self._add(Operation(Kind.SIGNAL, cause, item.container, item.instance, signal=number))

    def update(self, item: ObservedContainer, definition: Service, cause: str) -> None:
        self._add(Operation(Kind.UPDATE, cause, item.container, item.instance, definition=definition))

    def disconnect(
        self, item: ObservedContainer, networks: Collection[NetworkName], cause: str = "", ports: Collection[Published] = ()
    ) -> None:
        """Take it off those of `networks` that it is on, and take `ports` from it. `cause` "": the networks are made anew.
        It publishes nothing while it is on no network."""
        before = self.operations.get(operation_id(Kind.DISCONNECT, item.container))
        definition, manual = item.definition, item.record.manual
        if before is not None and before.definition is not None and before.manual is not None:
            definition, manual = before.definition, before.manual
        leaving = sorted(item.networks & set(networks))
        kept = {key: attachment for key, attachment in definition.networks.items() if key not in leaving}
        stay = tuple(each for each in definition.ports if not any(covers(each, port) for port in ports))
        joined = [each.network for each in manual.joined if each.network in leaving and each.network not in manual.left]
        cause = cause or self.why_moved(leaving)
        self._add(
            Operation(
                Kind.DISCONNECT,
                f"{before.cause}; {cause}" if before is not None else cause,
                item.container,
                item.instance,
                definition=replace(definition, networks=kept, ports=stay if kept else ()),
                manual=replace(manual, left=(*manual.left, *joined)),
            ),
            again=True,
        )

    def why_moved(self, networks: Collection[NetworkName]) -> str:
        """Of networks that whoever is on them has to leave for a moment."""
        anew = ", ".join(key for key in networks if key not in self.renamed)
        found = [f"network {anew} is made anew"] if anew else []
        found += [f"network {key} is called {self.renamed[key]} now" for key in networks if key in self.renamed]
        return "; ".join(found)

    def exchange(self) -> None:
        """Whoever takes a port, or an address that the stack writes, comes after whoever gives it up. One that is
        reconnected for it, and takes something itself or would keep its address, is taken off first. Nobody waits for the
        replicas of a rolling update: they go when it is their turn, which may have to wait for whoever takes."""
        late = {slot.old for roll in self.rolls.values() for slot in roll.slots}
        givers = [item for item in self.observed.containers.values() if item.container not in late]
        found = list(takings(self.operations, givers, self._definition))
        takers = {item.operation.container for item in found}
        for each in found:
            giver, taker = each.giver.container, each.operation
            by = Kind.REMOVE if operation_id(Kind.REMOVE, giver) in self.operations else Kind.RECONNECT
            if by is Kind.RECONNECT and (each.network is not None or giver in takers):
                by, who = Kind.DISCONNECT, taker.service or taker.container
                if each.network is not None:
                    self.disconnect(each.giver, [each.network], f"its address on network {each.network} is for {who}")
                elif each.port is not None:
                    self.disconnect(each.giver, (), f"port {each.port.host_port} is for {who}", [each.port])
            self._takes.setdefault(taker.id, []).append(operation_id(by, giver))

    def reconnect(
        self, item: ObservedContainer, definition: Service | None, cause: str, manual: Manual | None = None
    ) -> None:
        """`manual` None: as it is now, whatever is done to it before."""
        manual = item.record.manual if manual is None else manual
        operation = Operation(
            Kind.RECONNECT, cause, item.container, item.instance, definition=definition, manual=manual
        )
        self._add(operation)

    def pause(self, item: ObservedContainer, cause: str) -> None:
        self._add(Operation(Kind.PAUSE, cause, item.container, item.instance))

    def unpause(self, item: ObservedContainer, cause: str) -> None:
        self._add(Operation(Kind.UNPAUSE, cause, item.container, item.instance))

    def remove(
        self, item: ObservedContainer, cause: str, *, anonymous: bool = False, replaces: bool = False
    ) -> None:
        self._add(
            Operation(Kind.REMOVE, cause, item.container, item.instance, anonymous=anonymous, replaces=replaces)
        )

    def discard(
        self, item: ObservedContainer, cause: str, timeout_s: float | None, *, anonymous: bool = False
    ) -> None:
        """Stop and remove it for good."""
        if item.live:
            self.stop(item, cause, timeout_s)
        self.remove(item, cause, anonymous=anonymous)

    def replace(
        self,
        item: ObservedContainer,
        definition: Service,
        cause: str,
        timeout_s: float | None = None,
        *,
        renew_volumes: bool = False,
        start: bool = True,
    ) -> None:
        self.replaced.setdefault(item.service, []).append(item.container)
        container = self.name_of(item.instance, definition)
        stays = self.may_be_called(item, container)
        if item.live:
            self.stop(item, cause, timeout_s, replaces=stays)
        self.remove(item, cause, replaces=stays, anonymous=renew_volumes)
        if container != item.container:
            self.predecessors[container] = item.container
        self.create(item.instance, container, definition, cause, renames=item.container if stays else None)
        if start:
            self.start(item.instance, container, "created")

    def may_be_called(self, item: ObservedContainer, name: ContainerId) -> bool:
        """Whether its record can have that name: nothing else has it."""
        return name == item.container or name not in self.observed.containers

    def succeed(
        self, item: ObservedContainer, new: ContainerId, definition: Service, cause: str, timeout_s: float | None
    ) -> None:
        """Replace `item`, which goes on until `new` has taken its place."""
        self.replaced.setdefault(item.service, []).append(item.container)
        self.create(item.instance, new, definition, cause)
        created = operation_id(Kind.CREATE, new)
        self.operations[created] = replace(self.operations[created], succeeds=item.container)
        self.start(item.instance, new, "created")
        taking = f"in the place of {item.container}, when it is ready"
        self._add(Operation(Kind.ANNOUNCE, taking, new, item.instance, succeeds=item.container))
        self.stop(item, f"{new} is in its place", timeout_s)
        self.remove(item, f"{new} is in its place")

    def watch(self, instance: Instance, container: ContainerId, how_long: str) -> None:
        self._add(Operation(Kind.WATCH, how_long, container, instance))

    def restart(self, item: ObservedContainer, cause: str, timeout_s: float | None) -> None:
        if item.live:
            self.stop(item, cause, timeout_s, replaces=True)
        self.start(item.instance, item.container, cause)

    def follow(self, followers: Mapping[ServiceName, ServiceName], what: str) -> None:
        """Restart what runs, stays, and follows a service that was replaced or restarted."""
        for name, leader in followers.items():
            for item in self.observed.replicas(name):
                handled = any(operation_id(kind, item.container) in self.operations for kind in (Kind.START, Kind.REMOVE))
                if item.running and not handled:
                    self.restart(item, f"dependency {leader} {what}", None)

    def remove_leftovers(self) -> None:
        for container in self.observed.leftovers:
            replaces = operation_id(Kind.CREATE, container) in self.operations
            cause = "left over from an operation that did not end"
            self._add(Operation(Kind.REMOVE, cause, container, replaces=replaces))

    def prepare(
        self, moved: Mapping[NetworkName, str] = MappingProxyType({}), *, everything: bool = False
    ) -> None:
        """The images, networks and volumes that what is created or started needs and that are not there, and the networks
        of what is reconnected. `moved`: networks that have to be made anew, and why. `everything`: the stack's networks and
        volumes whoever needs them."""
        operations = list(self.operations.values())
        starting = [item for item in operations if item.kind in (Kind.CREATE, Kind.START)]
        made = [one for item in starting if (one := self._definition(item)) is not None]
        services = [*made, *(step.definition for service in made for step in service.pre_start)]
        moved_in = [self._definition(item) for item in operations if item.kind is Kind.RECONNECT]
        networks = {key for service in (*services, *moved_in) if service is not None for key in service.networks}
        for key in sorted(networks | (self.project.networks.keys() if everything else set())):
            if key in moved:
                self._add(Operation(Kind.REMOVE_NETWORK, moved[key], network=key))
                self._add(Operation(Kind.CREATE_NETWORK, moved[key], network=key))
            elif key not in self.observed.networks and key in self.project.networks:
                external = self.project.networks[key].external
                cause = "shared with other projects: it has to be there" if external else "does not exist yet"
                self._add(Operation(Kind.CREATE_NETWORK, cause, network=key))
        for old, new in self.renamed.items():
            self._add(Operation(Kind.REMOVE_NETWORK, moved[old], network=old))
            self._takes[operation_id(Kind.CREATE_NETWORK, new)] = [operation_id(Kind.REMOVE_NETWORK, old)]
        mounts = (mount for service in services for mount in service.volumes if mount.kind is MountKind.VOLUME)
        volumes = {VolumeName(mount.source) for mount in mounts if mount.source is not None}
        for volume in sorted(volumes | (self.project.volumes.keys() if everything else set())):
            found = self.project.volumes.get(volume)
            if found is not None and volume not in self.observed.volumes and not found.external:
                self._add(Operation(Kind.CREATE_VOLUME, "does not exist yet", volume=volume))
        for service in services:
            if service.name in self.images and self.images[service.name] is None:
                mounted = mounted_images(service.volumes)
                cause = f"not all images of {service.name} are here yet" if mounted else "not here yet"
                for image in (service.image, *mounted):
                    self._add(Operation(Kind.OBTAIN_IMAGE, cause, image=image))

    def remove_networks(self, kept: frozenset[NetworkName]) -> None:
        for key in sorted((self.project.networks.keys() | self.observed.networks.keys()) - kept):
            known = self.observed.networks.get(key) or self.project.networks[key]
            cause = "the stack goes down" + (": left, and not removed" if known.external else "")
            self._add(Operation(Kind.REMOVE_NETWORK, cause, network=key))

    def remove_volumes(self) -> None:
        for key in sorted(self.observed.volumes):
            definition = self.project.volumes.get(key)
            if definition is not None and not definition.external:
                self._add(Operation(Kind.REMOVE_VOLUME, "volumes are to be removed", volume=key))

    def finish(self, verb: Verb, selection: tuple[ServiceName, ...]) -> Plan:
        order = Order(
            self.operations, self.graph, self.predecessors, self._needs, self._frees, self._takes, self.rolls.values()
        )
        operations = [
            replace(item, after=order.after(item), waits=self._waits(item)) for item in self.operations.values()
        ]
        if verb not in (Verb.DOWN, Verb.RM, Verb.STOP, Verb.KILL, Verb.PAUSE, Verb.UNPAUSE):
            operations.sort(key=order.place)
        return Plan(
            verb=verb,
            project=self.project,
            operations=tuple(operations),
            selection=selection,
            orphans={
                item.container: LEFT_OVER if item.service in self.project.services else GONE
                for item in self.observed.orphans(self.project)
                if self._untouched(item)
            },
            labels=self._labels(),
            rolls=tuple(self.rolls[name] for name in selection if name in self.rolls),
        )

    def _labels(self) -> dict[ContainerId, str]:
        instances = {item.container: item.instance for item in self.observed.containers.values()}
        for item in self.operations.values():
            if item.container is not None and item.instance is not None:
                instances[item.container] = item.instance
        replicas: dict[ServiceName, set[int]] = {}
        for instance in instances.values():
            if instance.role is Role.REPLICA:
                replicas.setdefault(instance.service, set()).add(instance.number)
        successors = {item.container for item in self.operations.values() if item.succeeds is not None}
        return {
            container: label_of(
                instance,
                container,
                replicas.get(instance.service) == {1},
                age="new" if container in successors else "",
            )
            for container, instance in instances.items()
        }

    def _untouched(self, item: ObservedContainer) -> bool:
        return operation_id(Kind.REMOVE, item.container) not in self.operations

    def _add(self, operation: Operation, *, again: bool = False) -> None:
        """What is there already stays, unless it is to be put in its place."""
        if again or operation.id not in self.operations:
            self.operations[operation.id] = operation

    def _definition(self, operation: Operation) -> Service | None:
        """What the container of `operation` is, or will be, made from, with what is otherwise by hand."""
        found = self._made_from(operation)
        if found is None or operation.container is None:
            return found
        known = self.observed.containers.get(operation.container)
        manual = operation.manual
        if manual is None and known is not None and operation_id(Kind.REMOVE, operation.container) not in self.operations:
            manual = known.record.manual
        return connected(found, manual) if manual is not None else found

    def _made_from(self, operation: Operation) -> Service | None:
        if operation.definition is not None or operation.container is None:
            return operation.definition
        created = self.operations.get(operation_id(Kind.CREATE, operation.container))
        if created is not None:
            return created.definition
        known = self.observed.containers.get(operation.container)
        return known.definition if known is not None else None

    def _waits(self, operation: Operation) -> tuple[Dependency, ...]:
        """A restart in place, or a resumed start, waits only for what starts with it (or, resumed, what lives): it must not
        be refused because something it once needed is gone by now."""
        if operation.kind is not Kind.START or operation.container is None:
            return operation.waits
        stopped = operation_id(Kind.STOP, operation.container) in self.operations
        in_place = stopped and operation_id(Kind.CREATE, operation.container) not in self.operations
        if not in_place and not self.resumes:
            return operation.waits
        starting = {item.service for item in self.operations.values() if item.kind is Kind.START}
        return tuple(wait for wait in operation.waits if wait.service in starting or self._lives(wait))

    def _lives(self, wait: Dependency) -> bool:
        return self.resumes and any(item.live for item in self.observed.replicas(wait.service))

    def _needs(self, operation: Operation) -> list[OperationId]:
        definition = self._definition(operation)
        if definition is None:
            return []
        if operation.kind is Kind.RECONNECT:
            return [operation_id(Kind.CREATE_NETWORK, key) for key in sorted(definition.networks)]
        made = (definition, *(step.definition for step in definition.pre_start))
        images = (image for each in made for image in (each.image, *mounted_images(each.volumes)))
        needs = [operation_id(Kind.OBTAIN_IMAGE, image) for image in dict.fromkeys(images)]
        needs += [operation_id(Kind.CREATE_NETWORK, key) for key in sorted({key for each in made for key in each.networks})]
        needs += [operation_id(Kind.CREATE, self._first_of(of)) for of in sorted(shared_services(self.project, definition))]
        lenders = {entry.of for entry in definition.volumes_from}
        if lenders:
            needs += [item.id for item in self.operations.values() if item.kind is Kind.CREATE and lenders & _called(item)]
        mounts = (mount for each in made for mount in each.volumes)
        volumes = {mount.source for mount in mounts if mount.kind is MountKind.VOLUME and mount.source}
        return [*needs, *(operation_id(Kind.CREATE_VOLUME, key) for key in sorted(volumes))]

    def _first_of(self, name: ServiceName) -> ContainerId:
        """The container whose namespaces others of the stack are in."""
        return self.name_of(Instance(name), self.project.services[name])

    def _frees(self, operation: Operation, network: NetworkName) -> bool:
        """Whether a REMOVE or DISCONNECT is of something that is, or may be, on `network`."""
        known = self.observed.containers.get(operation.container) if operation.container is not None else None
        return known is None or network in known.networks or network in known.definition.networks


def _called(operation: Operation) -> set[str]:
    """What `VolumesFrom.of` may call the container of an operation."""
    return {text for text in (operation.service, operation.container) if text is not None}
