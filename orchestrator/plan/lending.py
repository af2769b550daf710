"""Whose mounts others have (``volumes_from``), as a plan sees it. Pure."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.plan.builder import PlanBuilder
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Kind, operation_id


def replace_borrowers(builder: PlanBuilder, timeout_s: float | None) -> None:
    """Who has anonymous volumes of what gets new ones, whether it was asked for or not: those of before will be gone."""
    observed = builder.observed
    losing: set[str] = set()
    for made in builder.operations.values():
        if made.kind is Kind.REMOVE and made.anonymous and made.container in observed.anonymous:
            known = observed.containers[made.container]
            losing.add(known.container)
            if known is observed.replicas(known.service)[0]:
                losing.add(known.service)
    for name in builder.graph.start_order() if losing else ():
        service = builder.project.services[name]
        lender = next((entry.of for entry in service.volumes_from if entry.of in losing), None)
        for item in observed.replicas(name) if lender is not None else ():
            losing |= {name, item.container}
            if operation_id(Kind.REMOVE, item.container) not in builder.operations and item.sandbox is not None:
                cause = f"{lender}, whose anonymous volumes it has, gets new ones"
                builder.replace(item, service, cause, timeout_s, start=item.live)


def lent(observed: ObservedProject, doomed: Collection[ObservedContainer]) -> frozenset[ContainerId]:
    """Those of whose mounts somebody has some, directly or not, who is not `doomed` too."""
    going = {item.container for item in doomed}
    found: set[ContainerId] = set()
    todo = [item for item in observed.containers.values() if item.container not in going and item.sandbox is not None]
    while todo:
        for entry in todo.pop().definition.volumes_from:
            lender = observed.containers.get(ContainerId(entry.of))
            if not entry.is_container:
                lender = next(iter(observed.replicas(ServiceName(entry.of))), None)
            if lender is not None and lender.container not in found:
                found.add(lender.container)
                todo.append(lender)
    return frozenset(found)
