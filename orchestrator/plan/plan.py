"""A Plan: what will be done, in which order and why. `pystack plan` prints it, `up` executes that same value.

Operations form a directed acyclic graph through `after`. The conditions of ``depends_on`` are not edges of it: they hold
or not by what happens at run time, so a START carries them as `waits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NewType

from orchestrator.model.names import ContainerId, NetworkName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.service import Dependency
from orchestrator.values import field, frozen

OperationId = NewType("OperationId", str)
"""``start web``, ``create network default``: unique within a plan, and what `render` shows."""


class Verb(Enum):
    UP = "up"
    DOWN = "down"
    START = "start"
    STOP = "stop"
    RESTART = "restart"


class Kind(Enum):
    CREATE_NETWORK = "create network"
    CREATE_VOLUME = "create volume"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"
    REMOVE_NETWORK = "remove network"
    REMOVE_VOLUME = "remove volume"

    @property
    def tears_down(self) -> bool:
        """Done even when what it comes after has failed: a teardown runs everything."""
        return self in (Kind.STOP, Kind.REMOVE, Kind.REMOVE_NETWORK, Kind.REMOVE_VOLUME)


@frozen
class Operation:
    """One step. `cause`: the reason a user reads. `after`: done only when these are done.

    `service` and `container` are set for the four kinds about containers, `network` or `volume` for the others.
    `waits`: the dependencies whose conditions a START awaits. `grace_s`: of a STOP, before the kill. `anonymous`: a REMOVE
    takes the container's anonymous volumes with it. `replaces`: a STOP or REMOVE that makes room for a new container.
    """

    kind: Kind
    cause: str
    service: ServiceName | None = None
    container: ContainerId | None = None
    network: NetworkName | None = None
    volume: VolumeName | None = None
    after: tuple[OperationId, ...] = ()
    waits: tuple[Dependency, ...] = ()
    grace_s: float = 0.0
    anonymous: bool = False
    replaces: bool = False

    @property
    def id(self) -> OperationId:
        return OperationId(f"{self.kind.value} {self.subject}")

    @property
    def subject(self) -> str:
        return self.service or self.network or self.volume or self.container or ""


@frozen
class Plan:
    """`project`: the stack as it will be recorded. `selection`: the services the verb is about, with what they need; the
    result is judged by them. `hashes`: the config hash of each service that will be created. `orphans`: containers of
    services that the stack no longer has and that no operation touches."""

    verb: Verb
    project: Project
    operations: tuple[Operation, ...] = ()
    selection: tuple[ServiceName, ...] = ()
    hashes: Mapping[ServiceName, str] = field(default_factory=dict)
    orphans: tuple[ContainerId, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.operations

    @property
    def changed(self) -> int:
        """How many services the plan touches."""
        return len({operation.service for operation in self.operations if operation.service is not None})

    def of(self, *kinds: Kind) -> tuple[Operation, ...]:
        return tuple(operation for operation in self.operations if operation.kind in kinds)

    def render(self) -> str:
        """The plan as text, one operation a line in an order in which they could be done one by one; ends in a newline."""
        lines = [f"{self.verb.value} {self.project.name}:" + (" nothing to do" if self.empty else "")]
        for operation in linear(self.operations):
            line = f"  {operation.id}: {operation.cause}"
            order = [str(identity) for identity in operation.after]
            order += [_wait_text(dependency) for dependency in operation.waits]
            if order:
                line += f" [after {', '.join(order)}]"
            lines.append(line)
        lines += [f"  orphan {container}: its service is no longer in the stack" for container in self.orphans]
        return "\n".join(lines) + "\n"


def linear(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The operations in a linear order that respects `after` and, among starts, `waits`; otherwise as they are given."""
    by_id = {operation.id: operation for operation in operations}
    order: list[Operation] = []
    done: set[OperationId] = set()
    for root in by_id.values():
        stack = [root]
        while stack:
            operation = stack[-1]
            needs = [*operation.after, *(OperationId(f"{Kind.START.value} {wait.service}") for wait in operation.waits)]
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
