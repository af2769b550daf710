"""The processes of a container, as ``ps -ef`` shows them: read from /proc."""

from __future__ import annotations

import contextlib
import os
import time

from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.runtime.usage import members, stat_of, ticks_of
from orchestrator.values import frozen

_TICKS = os.sysconf("SC_CLK_TCK")
_PTS = range(136, 144)
"""Majors of pseudo-terminals (devices.txt)."""


@frozen
class Shown:
    """One process. `user`: the container's own number, ``root`` for 0. `pid`, `parent`: the machine's. `cpu_percent`: of
    one processor, over its whole life. `began_at`: epoch seconds. `terminal`: ``pts/0``, or ``?``."""

    user: str
    pid: int
    parent: int
    cpu_percent: int
    began_at: float
    terminal: str
    cpu_s: int
    command: str


def processes_of(layout: Layout, group: str) -> list[Shown]:
    """Of the container in `group`, by number. Those that end meanwhile are left out."""
    found = (_shown(pid) for pid in sorted(members(layout, group)) if pid)
    return [item for item in found if item is not None]


def _shown(pid: int) -> Shown | None:
    fields = stat_of(pid)
    if fields is None:
        return None
    try:
        user = _user(pid)
        command = cgroup.read(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")
        name = cgroup.read(f"/proc/{pid}/comm")
    except OSError:
        return None
    used_s = ticks_of(fields) / _TICKS
    began_s = int(fields[19]) / _TICKS
    alive_s = time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
    device = int(fields[4])
    major, minor = os.major(device), os.minor(device)
    return Shown(
        user=user,
        pid=pid,
        parent=int(fields[1]),
        cpu_percent=int(100 * used_s / alive_s) if alive_s > 0 else 0,
        began_at=time.time() - alive_s,
        terminal=f"pts/{minor + (major - _PTS.start) * 256}" if major in _PTS else "?",
        cpu_s=int(used_s),
        command=command or f"[{name}]",
    )


def _user(pid: int) -> str:
    """As the process itself has it."""
    lines = cgroup.read(f"/proc/{pid}/status").splitlines()
    outside = next((int(line.split()[2]) for line in lines if line.startswith("Uid:")), 0)
    inside = outside
    with contextlib.suppress(ValueError):
        for line in cgroup.read(f"/proc/{pid}/uid_map").splitlines():
            first, at, count = map(int, line.split())
            if at <= outside < at + count:
                inside = first + outside - at
    return str(inside) if inside else "root"
