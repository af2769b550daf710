"""In which order the operations of a plan can be done: what each comes after, and where a reader expects it.

An edge to something that is not in the plan is no edge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.plan.plan import Kind, Operation, OperationId, Roll, operation_id

_SECTIONS = (
    Kind.SIGNAL,
    Kind.PAUSE,
    Kind.UNPAUSE,
    Kind.STOP,
    Kind.REMOVE,
    Kind.DISCONNECT,
    Kind.REMOVE_NETWORK,
    Kind.OBTAIN_IMAGE,
    Kind.CREATE_NETWORK,
    Kind.CREATE_VOLUME,
    Kind.REMOVE_VOLUME,
    Kind.CREATE,
    Kind.UPDATE,
    Kind.RECONNECT,
    Kind.START,
    Kind.ANNOUNCE,
    Kind.WATCH,
)


class Order:
    """`predecessors`: a new container -> the one of another name that it replaces. `needs`: the images, networks and
    volumes that a CREATE or START needs, and the networks of a RECONNECT. `frees`: whether a REMOVE or DISCONNECT takes
    something off a network. `takes`: what gives up something that an operation takes. `rolls`: whose replicas take
    turns."""

    def __init__(
        self,
        operations: Mapping[OperationId, Operation],
        graph: DependencyGraph,
        predecessors: Mapping[ContainerId, ContainerId],
        needs: Callable[[Operation], list[OperationId]],
        frees: Callable[[Operation, NetworkName], bool],
        takes: Mapping[OperationId, Sequence[OperationId]],
        rolls: Collection[Roll] = (),
    ) -> None:
        self._operations = operations
        self._graph = graph
        self._predecessors = predecessors
        self._needs = needs
        self._frees = frees
        self._takes = takes
        self._ranks = {name: number for number, name in enumerate(graph.start_order())}
        slots = {slot.old: slot for roll in rolls for slot in roll.slots}
        self._slots = {slot.new: slot for slot in slots.values()} | slots
        self._announced: dict[ServiceName, list[OperationId]] = {}
        for item in operations.values():
            if item.kind is Kind.ANNOUNCE and item.service is not None:
                self._announced.setdefault(item.service, []).append(item.id)
        self._stops: dict[ServiceName, list[OperationId]] = {}
        for item in operations.values():
            if item.kind is Kind.STOP and item.service is not None and not self._comes_late(item):
                self._stops.setdefault(item.service, []).append(item.id)
        self._images = [item.id for item in operations.values() if item.kind is Kind.OBTAIN_IMAGE]
        # What is paused can meet no condition.
        self._resumed = [item.id for item in operations.values() if item.kind is Kind.UNPAUSE]
        self._stopped_first: dict[ServiceName, list[OperationId]] = {}

    def after(self, operation: Operation) -> tuple[OperationId, ...]:
        """What has to be done before it."""
        found: list[OperationId] = []
        container = operation.container or ContainerId("")
        stop = operation_id(Kind.STOP, container)
        match operation.kind:
            case Kind.STOP if container in self._slots and self._is_succeeded(container):
                found = [operation_id(Kind.ANNOUNCE, self._slots[container].new)]
            case Kind.STOP if operation.service in self._graph.names:
                found = [*self._needs_of_slot(container), *self._stops_of_dependents(operation.service)]
                if container not in self._slots:
                    found += self._announced_to(operation)
            case Kind.REMOVE:
                found = [stop]
            case Kind.REMOVE_NETWORK if operation.network is not None:
                found = [
                    item.id
                    for item in self._operations.values()
                    if item.kind in (Kind.REMOVE, Kind.DISCONNECT) and self._frees(item, operation.network)
                ]
            case Kind.CREATE_NETWORK if operation.network is not None:
                found = [operation_id(Kind.REMOVE_NETWORK, operation.network)]
            case Kind.REMOVE_VOLUME:
                found = [item.id for item in self._operations.values() if item.kind is Kind.REMOVE]
            case Kind.CREATE:
                before = self._predecessors.get(container, container)
                found = [operation_id(Kind.REMOVE, before), *self._needs(operation)]
            case Kind.RECONNECT:
                before_it = (Kind.DISCONNECT, Kind.UPDATE)
                found = [*(operation_id(kind, container) for kind in before_it), *self._needs(operation)]
            case Kind.ANNOUNCE:
                found = [operation_id(Kind.START, container)]
            case Kind.WATCH:
                announced = operation_id(Kind.ANNOUNCE, container)
                found = [announced if announced in self._operations else operation_id(Kind.START, container)]
            case Kind.START if operation_id(Kind.CREATE, container) in self._operations:
                found = [operation_id(Kind.CREATE, container), *self._resumed]
            case Kind.START:
                found = [operation_id(kind, container) for kind in (Kind.STOP, Kind.UPDATE, Kind.RECONNECT)]
                found += [*self._needs(operation), *self._resumed]
            case _:
                pass
        found += self._takes.get(operation.id, ())
        if operation.replaces and (operation.id == stop or stop not in self._operations):
            found += self._images  # What runs goes on until there is all that the next ones are made from.
        return tuple(dict.fromkeys(item for item in found if item in self._operations))

    def place(self, operation: Operation) -> tuple[int, int, int, int, str]:
        """Where a reader expects it: what goes (dependents first), networks, volumes, then what comes, by service."""
        kind = _SECTIONS.index(operation.kind)
        rank = self._ranks.get(operation.service, 0) if operation.service is not None else 0
        number = operation.instance.number if operation.instance is not None else 0
        if operation.container in self._slots and self._slots[operation.container].old == operation.container:
            late = len(_SECTIONS) if self._is_succeeded(operation.container) else 0
            return (len(_SECTIONS), rank, number, late + kind, operation.id)
        match operation.kind:
            case Kind.SIGNAL | Kind.PAUSE | Kind.UNPAUSE | Kind.STOP | Kind.REMOVE | Kind.DISCONNECT:
                return (kind, -rank, number, 0, operation.id)
            case Kind.CREATE | Kind.UPDATE | Kind.RECONNECT | Kind.START | Kind.ANNOUNCE | Kind.WATCH:
                return (len(_SECTIONS), rank, number, kind, operation.id)
            case _:
                return (kind, 0, 0, 0, operation.id)

    def _is_succeeded(self, container: ContainerId) -> bool:
        """It goes on until another one has its place."""
        return operation_id(Kind.ANNOUNCE, self._slots[container].new) in self._operations

    def _needs_of_slot(self, container: ContainerId) -> list[OperationId]:
        """A replica of a rolling update is not stopped before there is what the next one is made from."""
        slot = self._slots.get(container)
        created = self._operations.get(operation_id(Kind.CREATE, slot.new)) if slot is not None else None
        return self._needs(created) if created is not None else []

    def _comes_late(self, stop: Operation) -> bool:
        """Nothing waits for it that others wait for: it has to wait for its turn in a rolling update, which may come after
        these; or for one to be through."""
        return stop.container in self._slots or bool(self._announced_to(stop))

    def _announced_to(self, stop: Operation) -> list[OperationId]:
        """What is restarted because of containers that succeed others is so when they are there."""
        removed = operation_id(Kind.REMOVE, stop.container or "") in self._operations
        if removed or not stop.replaces or stop.service not in self._graph.names:
            return []
        leaders = (edge.service for edge in self._graph.dependencies(stop.service) if edge.restart)
        return [announced for leader in leaders for announced in self._announced.get(leader, ())]

    def _stops_of_dependents(self, service: ServiceName | None) -> list[OperationId]:
        """The stops of who uses `service`, directly or through services that this plan does not stop."""
        assert service is not None
        if (known := self._stopped_first.get(service)) is not None:
            return known
        found: list[OperationId] = []
        seen: set[ServiceName] = set()
        stack = list(self._graph.dependents(service))
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._stops:
                found += self._stops[name]
            else:
                stack.extend(self._graph.dependents(name))
        self._stopped_first[service] = sorted(found)
        return self._stopped_first[service]
