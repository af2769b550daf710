"""What the project's records say while nothing of it runs."""

from __future__ import annotations

from orchestrator.contracts.events import Health, Phase, ServiceStatus
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, ProjectRecord, Wanted
from orchestrator.state.records import FileState


def recorded_statuses(site: Site) -> tuple[ServiceStatus, ...]:
    """All recorded containers, as exited: without a supervisor and a monitor none can run."""
    record = FileState(site).load()
    return tuple(_status(record, item) for item in record.containers) if record is not None else ()


def _status(record: ProjectRecord, item: ContainerRecord) -> ServiceStatus:
    service = record.project.services.get(item.service)
    return ServiceStatus(
        service=item.service,
        container=item.container,
        image=service.image if service is not None else "",
        phase=Phase.FAILED if item.gave_up else Phase.EXITED,
        health=Health.NONE,
        wanted=item.wanted,
        exit=item.last_exit,
        restarts=item.restarts,
        created_at=item.created_at,
        reason=_reason(item),
        endpoints=item.endpoints,
    )


def _reason(item: ContainerRecord) -> str:
    if item.gave_up:
        return item.gave_up
    if item.wanted is Wanted.STOPPED:
        return "stopped on request"
    return "nothing of the project runs: no supervisor since the last boot or crash"
