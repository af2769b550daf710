"""What is done to a process that was just born, from outside and with the host's rights: limits, scheduling, OOM score."""

from __future__ import annotations

import os
import resource
import struct

from orchestrator.errors import HostError, InputError
from orchestrator.kernel.limits import above
from orchestrator.kernel.syscalls import call, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1,
    "SCHED_FLAG_RECLAIM": 2,
    "SCHED_FLAG_DL_OVERRUN": 4,
    "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}
_IO_CLASSES = {"IOPRIO_CLASS_NONE": 0, "IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


def raise_limits(pid: int, limits: Sequence[tuple[int, int, int]]) -> None:
    """The hard limits, so far that it can set its own ones last. Raises HostError."""
    for kind, _, hard in limits:
        soft_now, hard_now = resource.prlimit(pid, kind)
        if above(hard, hard_now):
            try:
                resource.prlimit(pid, kind, (soft_now, hard))
            except (OSError, ValueError) as exc:
                hint = "CAP_SYS_RESOURCE would allow it"
                raise HostError(f"cannot raise the resource limit {kind} to {hard}: {exc}", hint=hint) from exc


def apply_to_process(pid: int, process: Mapping[str, Any]) -> None:
    """Raises InputError, HostError."""
    score = process.get("oomScoreAdj")
    if score is not None:
        try:
            fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"%d" % score)
            finally:
                os.close(fd)
        except OSError as exc:
            hint = "CAP_SYS_RESOURCE would allow it"
            raise HostError(f"cannot set oom_score_adj to {score}: {exc.strerror}", hint=hint) from exc
    if scheduler := process.get("scheduler"):
        _schedule(pid, scheduler)
    if priority := process.get("ioPriority"):
        kind = _IO_CLASSES.get(priority.get("class") or "")
        if kind is None:
            message = f"{priority.get('class')!r} is not one of {', '.join(_IO_CLASSES)}"
            raise InputError(message, place="process.ioPriority")
        try:
            call(number_of("ioprio_set"), 1, pid, kind << 13 | (priority.get("priority") or 0))
        except OSError as exc:
            raise HostError(f"cannot set the I/O priority: {exc.strerror}") from exc


def _schedule(pid: int, given: Mapping[str, Any]) -> None:
    """sched_setattr(2)."""
    place = "process.scheduler"
    policy = _POLICIES.get(given.get("policy") or "")
    if policy is None:
        raise InputError(f"{given.get('policy')!r} is not one of {', '.join(_POLICIES)}", place=place)
    flags = 0
    for flag in given.get("flags") or ():
        if flag not in _FLAGS:
            raise InputError(f"{flag!r} is not one of {', '.join(_FLAGS)}", place=place)
        flags |= _FLAGS[flag]
    numbers = [given.get(key) or 0 for key in ("nice", "priority", "runtime", "deadline", "period")]
    nice, priority, runtime, deadline, period = numbers
    attributes = struct.pack("=IIQiIQQQ", 48, policy, flags, nice, priority & 0xFFFFFFFF, runtime, deadline, period)
    try:
        call(number_of("sched_setattr"), pid, attributes, 0)
    except OSError as exc:
        raise HostError(f"cannot set the scheduler {given['policy']}: {exc.strerror}", place=place) from exc
