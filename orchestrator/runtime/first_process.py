"""A run's first process as it is now, read from /proc."""

from __future__ import annotations

import signal

from orchestrator.contracts.runtime import FirstProcess
from orchestrator.kernel import cgroup


def first_process(pid: int, pidfd: int) -> FirstProcess | None:
    """Of the process `pid`, which `pidfd` is of too; None if it has ended."""
    try:
        name = cgroup.read(f"/proc/{pid}/comm")
        lines = cgroup.read(f"/proc/{pid}/status").splitlines()
        signal.pidfd_send_signal(pidfd, 0)  # It is there, so the number was not another's.
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    inside = fields.get("NSpid", "0").split()
    return FirstProcess(name, int(inside[-1]), _signals(fields.get("SigCgt", "0")), _signals(fields.get("SigIgn", "0")))


def _signals(mask: str) -> frozenset[int]:
    """`mask`: hexadecimal, the lowest bit is signal 1."""
    bits = int(mask, 16)
    return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)
