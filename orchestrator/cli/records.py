"""What the project's records say while no supervisor does."""

from __future__ import annotations

import os

from orchestrator.contracts.events import ContainerStatus
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Wanted
from orchestrator.model.health import Health
from orchestrator.model.phase import Phase
from orchestrator.policy.exits import describe_exit
from orchestrator.state.records import FileState
from orchestrator.values import replace


def recorded_statuses(site: Site) -> tuple[ContainerStatus, ...]:
    """All recorded containers, as exited: without a supervisor and a monitor none can run."""
    record = FileState(site).load()
    return tuple(_status(item) for item in record.containers) if record is not None else ()


def observed_statuses(site: Site) -> tuple[ContainerStatus, ...]:
    """All recorded containers beside a supervisor that does not answer: whether one runs is seen from its control group."""
    from orchestrator.kernel import cgroup
    from orchestrator.runtime.bundle import group_path

    roots = cgroup.detect().roots()

    def seen(status: ContainerStatus) -> ContainerStatus:
        group = group_path(site, status.container)
        if any(cgroup.members(os.path.join(root, group)) for root in roots):
            return replace(status, phase=Phase.RUNNING, exit=None, reason="it runs; its supervisor does not answer")
        return replace(status, reason="" if status.wanted is Wanted.STOPPED else "its supervisor does not answer")

    return tuple(seen(status) for status in recorded_statuses(site))


def _status(item: ContainerRecord) -> ContainerStatus:
    return ContainerStatus(
        service=item.instance.service,
        container=item.container,
        image=item.definition.service.image,
        role=item.instance.role,
        number=item.instance.number,
        phase=_phase(item),
        health=Health.NONE,
        wanted=item.wanted,
        exit=item.last_exit,
        restarts=item.restarts,
        created_at=item.created_at,
        reason=_reason(item),
        endpoints=item.endpoints,
        labels=item.definition.service.labels,
        command=(*(item.definition.service.entrypoint or ()), *(item.definition.service.command or ())),
        mounts=tuple(mount.source for mount in item.definition.service.volumes if mount.source is not None),
        refused=item.refused if item.gave_up else 0,
    )


def _phase(item: ContainerRecord) -> Phase:
    if item.gave_up:
        return Phase.FAILED
    return Phase.CREATED if _is_only_made(item) else Phase.EXITED


def _is_only_made(item: ContainerRecord) -> bool:
    """By ``create``: it was not to run, and has not."""
    return item.wanted is Wanted.STOPPED and item.last_exit is None


def _reason(item: ContainerRecord) -> str:
    if item.gave_up:
        return item.gave_up
    if _is_only_made(item):
        return "created, never started"
    if item.wanted is Wanted.STOPPED:
        return "stopped by request"
    if item.last_exit is not None:
        return describe_exit(item.last_exit)
    return "nothing of the project runs: no supervisor since the last boot or crash"
