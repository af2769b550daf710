"""The state of a container (runtime.md, "State"): what `state` prints, and what hooks and listeners are told."""

from __future__ import annotations

import os

from orchestrator.kernel import cgroup
from orchestrator.standalone.groups import Group
from orchestrator.standalone.records import (
    CREATED,
    CREATING,
    PAUSED,
    RUNNING,
    STOPPED,
    Record,
    StateRoot,
    is_being_made,
    open_process,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def status_of(records: StateRoot, record: Record) -> str:
    """As it is this moment: the kernel knows."""
    process = open_process(record)
    if process is None:
        # One whose `create` was killed is stopped: it can be deleted.
        return CREATING if record.pid == 0 and is_being_made(record) else STOPPED
    os.close(process)
    channel = records.connect(record.id)
    if channel is not None:
        channel.close()
        return CREATING if is_being_made(record) else CREATED
    if not record.made:
        return CREATING
    if record.cgroup and _is_frozen(record):
        return PAUSED
    return RUNNING


def _is_frozen(record: Record) -> bool:
    try:
        return Group(cgroup.detect(), record.cgroup).is_frozen()
    except OSError:
        return False


def state_of(record: Record, status: str) -> dict[str, Any]:
    """As the spec has it."""
    state: dict[str, Any] = {"ociVersion": record.oci_version, "id": record.id, "status": status}
    if status != STOPPED:
        state["pid"] = record.pid
    state["bundle"] = record.bundle
    if record.annotations:
        state["annotations"] = record.annotations
    return state
