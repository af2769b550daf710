"""What some containers of a plan give up and others take: host ports, and addresses that the stack writes down. Whoever
takes comes after whoever gives, whatever else their order is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.contracts.network import Published
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.network import PortMapping
from orchestrator.model.service import Service
from orchestrator.plan.observed import ObservedContainer
from orchestrator.plan.plan import Kind, Operation, OperationId, operation_id
from orchestrator.values import frozen

_ANY = (None, "", "0.0.0.0", "::")


@frozen
class Taking:
    """`operation` takes something that `giver` has and will not have afterwards: its address on `network`, or a `port`."""

    operation: Operation
    giver: ObservedContainer
    network: NetworkName | None = None
    port: Published | None = None


def takings(
    operations: Mapping[OperationId, Operation],
    containers: Iterable[ObservedContainer],
    made_from: Callable[[Operation], Service | None],
) -> Iterator[Taking]:
    """`made_from`: how the container of an operation is on its networks afterwards."""
    givers = [item for item in containers if item.sandbox is not None and _changes(operations, item.container)]
    if not givers:
        return
    making = [item for item in operations.values() if item.kind in _MAKING]
    afterwards = {item.container: made_from(item) for item in making}
    addresses: dict[tuple[NetworkName, str], ObservedContainer] = {}
    ports: dict[tuple[str, int], list[tuple[ObservedContainer, Published]]] = {}
    for item in givers:
        later = afterwards.get(item.container)
        written = set(_written(later)) if later is not None else set()
        for end in item.record.endpoints:
            addresses |= {(end.network, a.ip): item for a in end.addresses if (end.network, a.ip) not in written}
        for port in item.record.published:
            if later is None or not any(covers(mapping, port) for mapping in later.ports):
                ports.setdefault((port.protocol, port.host_port), []).append((item, port))
    for operation in operations.values():
        wanted = made_from(operation) if _takes(operations, operation) else None
        if wanted is None:
            continue
        for key in _written(wanted):
            if key in addresses and addresses[key].container != operation.container:
                yield Taking(operation, addresses[key], network=key[0])
        for mapping in wanted.ports:
            for number in _numbers(mapping, ports):
                for giver, port in ports.get((mapping.protocol, number), ()):
                    if giver.container != operation.container and covers(mapping, port):
                        yield Taking(operation, giver, port=port)


_MAKING = (Kind.CREATE, Kind.RECONNECT)


def covers(mapping: PortMapping, port: Published) -> bool:
    """Whether `mapping` may be for that host port."""
    low, high = mapping.published or (0, 0)
    anywhere = mapping.host_ip in _ANY or port.host_ip in _ANY
    same = mapping.protocol == port.protocol and low <= port.host_port <= high
    return same and (anywhere or mapping.host_ip == port.host_ip)


def _changes(operations: Mapping[OperationId, Operation], container: ContainerId) -> bool:
    return any(operation_id(kind, container) in operations for kind in (Kind.REMOVE, Kind.RECONNECT))


def _takes(operations: Mapping[OperationId, Operation], operation: Operation) -> bool:
    """Whether it is with this operation that its container gets on its networks."""
    if operation.kind is Kind.START and operation.container is not None:
        return not any(operation_id(kind, operation.container) in operations for kind in _MAKING)
    return operation.kind in _MAKING


def _written(service: Service) -> Iterator[tuple[NetworkName, str]]:
    for key, attachment in service.networks.items():
        yield from ((key, text) for text in (attachment.ipv4_address, attachment.ipv6_address) if text is not None)


def _numbers(mapping: PortMapping, held: Mapping[tuple[str, int], object]) -> Iterable[int]:
    """The host ports of `mapping` that may be among those."""
    if mapping.published is None:
        return ()
    low, high = mapping.published
    return range(low, high + 1) if high - low < len(held) else {number for _, number in held}
