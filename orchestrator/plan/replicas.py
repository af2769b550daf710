"""How many containers a service has, and which: numbers fill gaps, and what goes first is what is obsolete or last."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count, islice

from orchestrator.errors import InputError
from orchestrator.model.names import ContainerId
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.plan.observed import ObservedContainer

MOST = 10_000


def distribute(
    existing: Sequence[ObservedContainer], wanted: int, obsolete: Collection[ContainerId]
) -> tuple[tuple[ObservedContainer, ...], tuple[ObservedContainer, ...], tuple[int, ...]]:
    """Which of the existing replicas stay, which go, and the numbers of those that are to be made, ascending.

    Scaling down takes obsolete ones first, and of the others the highest numbers."""
    ranked = sorted(existing, key=lambda item: (item.container in obsolete, item.instance.number))
    kept = sorted(ranked[:wanted], key=lambda item: item.instance.number)
    surplus = sorted(ranked[wanted:], key=lambda item: item.instance.number)
    taken = {item.instance.number for item in kept}
    free = (number for number in count(1) if number not in taken)
    return tuple(kept), tuple(surplus), tuple(islice(free, wanted - len(kept)))


def require_scalable(project: Project, service: Service, wanted: int) -> None:
    """Raise InputError when `service` cannot have `wanted` replicas."""
    if not 0 <= wanted <= MOST:
        raise InputError(
            f'service "{service.name}" cannot have {wanted} replicas', hint=f"a number from 0 to {MOST}"
        )
    if wanted <= 1:
        return
    if service.container_name is not None:
        raise InputError(
            f'service "{service.name}" has a container_name, so it cannot have {wanted} replicas: '
            "container names are unique",
            hint="remove `container_name`",
            place=project.where(f"{service.place}.container_name"),
        )
    for port in service.ports:
        if port.published is not None and port.published[0] < port.published[1] < port.published[0] + wanted - 1:
            first, last = port.published
            raise InputError(
                f'there are {last - first + 1} host ports ({first}-{last}), so service "{service.name}" '
                f"cannot have {wanted} replicas",
                hint=f"publish a wider range ({first}-{first + wanted - 1}:{port.target})",
                place=project.where(port.place or f"{service.place}.ports"),
            )
        if port.published is not None and port.published[0] == port.published[1]:
            raise InputError(
                f'host port {port.published[0]} is fixed, so service "{service.name}" cannot have {wanted} replicas',
                hint=f"publish a range ({port.published[0]}-{port.published[0] + wanted - 1}:{port.target}), or any port "
                f'("{port.target}")',
                place=project.where(port.place or f"{service.place}.ports"),
            )
