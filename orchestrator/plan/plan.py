"""A Plan: what will be done, in which order and why. `pystack plan` prints it, `up` executes that same value.

Operations form a directed acyclic graph through `after`. The conditions of ``depends_on`` are not edges of it: they hold
or not by what happens at run time, so a START carries them as `waits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NewType

from orchestrator.model.manual import Manual
from orchestrator.model.names import ContainerId, Instance, NetworkName, Role, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.service import Dependency, Service
from orchestrator.model.updating import UpdateRules
from orchestrator.values import field, frozen

OperationId = NewType("OperationId", str)
"""``start demo-web-1``, ``create network default``: unique within a plan."""


class Verb(Enum):
    UP = "up"
    SCALE = "scale"
    RUN = "run"
    DOWN = "down"
    RM = "rm"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    KILL = "kill"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    CONNECT = "connect"
    DISCONNECT = "disconnect"


class Kind(Enum):
    OBTAIN_IMAGE = "obtain image"
    CREATE_NETWORK = "create network"
    CREATE_VOLUME = "create volume"
    DISCONNECT = "disconnect"
    """It is taken off networks that are made anew; a RECONNECT follows."""
    CREATE = "create"
    UPDATE = "update"
    """Its limits; its run goes on."""
    RECONNECT = "reconnect"
    """Its networks and published ports; its run goes on."""
    START = "start"
    ANNOUNCE = "announce"
    """It takes the place of the one that it succeeds, as soon as it is ready."""
    WATCH = "watch"
    """Whether it gets ready, and stays so for a while."""
    SIGNAL = "signal"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    STOP = "stop"
    REMOVE = "remove"
    REMOVE_NETWORK = "remove network"
    REMOVE_VOLUME = "remove volume"

    @property
    def leaves_it(self) -> bool:
        """Of a container: it is the same run before and afterwards, whatever others do to it meanwhile."""
        return self in (Kind.SIGNAL, Kind.PAUSE, Kind.UNPAUSE)

    @property
    def tears_down(self) -> bool:
        """Done even when what it comes after has failed: a teardown runs everything. (Not one that makes room, without the
        image to fill it.)"""
        return self in (Kind.STOP, Kind.REMOVE, Kind.REMOVE_NETWORK, Kind.REMOVE_VOLUME)


@frozen
class Operation:
    """One step. `cause`: the reason a user reads. `after`: done only when these are done.

    `container` and `instance` are set for the kinds about containers (`instance` None: a sandbox nobody has recorded),
    `network`, `volume` or `image` (a reference) for the others. `definition`: what a CREATE makes, and what an UPDATE, a
    DISCONNECT or a RECONNECT brings it to (None: as it is). `manual`: what is to be otherwise by hand, of a CREATE, a
    DISCONNECT or a RECONNECT (None: what the record says). `waits`: the dependencies whose conditions a START awaits.
    `grace_s`: of a STOP, before the kill; `hooks_s`: before that, for its ``pre_stop``. `signal`: what a SIGNAL sends.
    `anonymous`: a REMOVE takes the container's anonymous volumes with it, a CREATE finds none of before. `replaces`: a STOP
    or REMOVE that makes room for what follows. `halts`: a STOP until the machine is up again. `succeeds`: of a CREATE or
    ANNOUNCE, the container in whose place it will be. `renames`: of a CREATE, the container that has its place until then,
    by another name: it is gone when the CREATE is done, but for its record, which gets the new name.
    """

    kind: Kind
    cause: str
    container: ContainerId | None = None
    instance: Instance | None = None
    network: NetworkName | None = None
    volume: VolumeName | None = None
    image: str | None = None
    after: tuple[OperationId, ...] = ()
    definition: Service | None = None
    manual: Manual | None = None
    waits: tuple[Dependency, ...] = ()
    grace_s: float = 0.0
    hooks_s: float = 0.0
    signal: int = 0
    anonymous: bool = False
    replaces: bool = False
    halts: bool = False
    succeeds: ContainerId | None = None
    renames: ContainerId | None = None

    @property
    def id(self) -> OperationId:
        return operation_id(self.kind, self.container or self.network or self.volume or self.image or "")

    @property
    def service(self) -> ServiceName | None:
        return self.instance.service if self.instance is not None else None


def operation_id(kind: Kind, subject: str) -> OperationId:
    return OperationId(f"{kind.value} {subject}")


@frozen
class Slot:
    """One replica of a rolling update: `old` is replaced by `new`. They are the same name unless both are there at once, or
    the name has changed."""

    old: ContainerId
    new: ContainerId


@frozen
class Roll:
    """A rolling update of a service: its slots take turns, as `rules` say (`policy.rolling`). `former`, `former_image`:
    what the first of them was made from."""

    service: ServiceName
    rules: UpdateRules
    slots: tuple[Slot, ...]
    former: Service
    former_image: str = ""

    def render(self) -> str:
        rules = self.rules
        many = f"{rules.parallelism} at a time" if rules.parallelism else "all at once"
        text = f"update {self.service}: {len(self.slots)} replicas, {rules.order.value}, {many}"
        text += f", {rules.delay_s:g}s between them" if rules.delay_s else ""
        return f"{text}; when more than {rules.max_failure_ratio:.0%} fail: {rules.on_failure.value}"


@frozen
class Plan:
    """`project`: the stack as it will be recorded. `selection`: the services the verb is about, with what they need; the
    result is judged by their replicas, and by `created` of one-offs. `orphans`: containers that the stack has no use for
    and that no operation touches, with the reason. `rolls`: which of the operations take turns."""

    verb: Verb
    project: Project
    operations: tuple[Operation, ...] = ()
    selection: tuple[ServiceName, ...] = ()
    orphans: Mapping[ContainerId, str] = field(default_factory=dict)
    labels: Mapping[ContainerId, str] = field(default_factory=dict)
    rolls: tuple[Roll, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.operations

    @property
    def containers(self) -> frozenset[ContainerId]:
        """What it starts, stops, makes or removes."""
        named = (name for item in self.operations if not item.kind.leaves_it for name in (item.container, item.renames))
        return frozenset(name for name in named if name)

    @property
    def renamed(self) -> Mapping[ContainerId, ContainerId]:
        """By what names the records of containers are known until these are made."""
        made = self.of(Kind.CREATE)
        return {item.container: item.renames for item in made if item.container is not None and item.renames is not None}

    @property
    def changed(self) -> int:
        """How many containers the plan touches."""
        return len({item.instance or item.container for item in self.operations if item.container is not None})

    def of(self, *kinds: Kind) -> tuple[Operation, ...]:
        return tuple(operation for operation in self.operations if operation.kind in kinds)

    def label(self, operation: Operation) -> str:
        """What the operation is called: by the service alone while that has one container."""
        subject = operation.network or operation.volume or operation.image or ""
        if operation.container is not None:
            subject = self.labels.get(operation.container, operation.container)
        return f"{operation.kind.value} {subject}"

    def render(self) -> str:
        """The plan as text, one operation a line in an order in which they could be done one by one; ends in a newline."""
        names = {operation.id: self.label(operation) for operation in self.operations}
        lines = [f"{self.verb.value} {self.project.name}:" + (" nothing to do" if self.empty else "")]
        for operation in linear(self.operations):
            line = f"  {names[operation.id]}: {operation.cause}"
            order = [names[identity] for identity in operation.after]
            order += [_wait_text(dependency) for dependency in operation.waits]
            if order:
                line += f" [after {', '.join(order)}]"
            lines.append(line)
        lines += [f"  {roll.render()}" for roll in self.rolls]
        lines += [f"  orphan {container}: {why}" for container, why in self.orphans.items()]
        return "\n".join(lines) + "\n"


def label_of(instance: Instance, container: ContainerId, alone: bool, *, age: str = "") -> str:
    """How a container is called in sentences: ``web`` when it is the only replica, ``web-2``, a one-off by its full
    name. `age`: there are two of that number, and this is the ``new`` or the ``old`` one."""
    if instance.role is not Role.REPLICA:
        return container
    label = instance.service if alone else f"{instance.service}-{instance.number}"
    return f"{age} {label}" if age else label


def linear(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The operations in a linear order that respects `after` and, among starts, `waits`; otherwise as they are given."""
    by_id = {operation.id: operation for operation in operations}
    starts: dict[ServiceName, list[OperationId]] = {}
    for operation in by_id.values():
        if operation.kind is Kind.START and operation.service is not None:
            starts.setdefault(operation.service, []).append(operation.id)
    order: list[Operation] = []
    done: set[OperationId] = set()
    for root in by_id.values():
        stack = [root]
        while stack:
            operation = stack[-1]
            needs = [*operation.after, *(need for wait in operation.waits for need in starts.get(wait.service, ()))]
            missing = [by_id[need] for need in needs if need in by_id and need not in done]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if operation.id not in done:
                done.add(operation.id)
                order.append(operation)
    return tuple(order)


def _wait_text(dependency: Dependency) -> str:
    state = dependency.condition.value.removeprefix("service_").replace("_", " ")
    return f"{dependency.service} {state}" + ("" if dependency.required else " (optional)")
