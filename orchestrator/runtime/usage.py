"""What a container uses: read from its control groups and /proc, by whoever may read them; nobody has to be asked.

Each number comes from where this machine has it (cgroup-v2.rst; cgroup-v1/memory.rst, pids.rst, blkio-controller.rst).
Without a counter of the group's the processes that live are added up.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.values import frozen

_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Usage:
    """`at_s`: when, of the monotonic clock. `cpu_s`: of all processors together, since it was made. `memory_bytes`: without
    the file pages that could go at once, as Docker counts it; `limit_bytes`: what it may use, at most the machine's memory.
    `pids`: threads. The bytes of networks and disks: since the run began, and since it was made."""

    at_s: float
    cpu_s: float = 0.0
    memory_bytes: int = 0
    limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0

    def cpu_share(self, before: Usage) -> float:
        """Processors that it has used since `before`: 1.5 is one and a half."""
        passed_s = self.at_s - before.at_s
        return max(0.0, self.cpu_s - before.cpu_s) / passed_s if passed_s > 0 else 0.0


def usage_of(layout: Layout, group: str, pid: int) -> Usage:
    """Of the container in `group` (relative to each hierarchy), whose first process is `pid`. What cannot be read, because
    it is just ending, is 0."""
    memory, limit = _memory(layout, group)
    received, sent = _network(pid)
    read, written = _disks(layout, group)
    return Usage(
        time.monotonic(), _cpu_s(layout, group), memory, limit, received, sent, read, written, _pids(layout, group)
    )


def members(layout: Layout, group: str) -> list[int]:
    """Its processes, those of `exec` and probes too."""
    for root in layout.roots():
        if os.path.isdir(f"{root}/{group}"):
            return cgroup.members(f"{root}/{group}")
    return []


def peak_memory_bytes(layout: Layout, group: str) -> int | None:
    """The most that it has used since it was made, file pages included; None when this machine does not say."""
    text = _read(layout, "memory", group, "memory.max_usage_in_bytes", "memory.peak")
    return int(text) if text.isdecimal() else None


def stalled_us(layout: Layout, group: str) -> dict[str, int]:
    """For how long some process of it has waited for ``cpu``, ``memory`` and ``io`` (psi.rst), in microseconds since it was
    made; without those that the machine does not count."""
    found = {}
    for resource in ("cpu", "memory", "io") if layout.unified is not None else ():
        with contextlib.suppress(OSError, ValueError):
            some = cgroup.read(f"{layout.unified}/{group}/{resource}.pressure").partition("\n")[0]
            found[resource] = int(some.rpartition("total=")[2])
    return found


def _read(layout: Layout, controller: str, group: str, v1: str, unified: str) -> str:
    """The file of `controller`, by its name in a v1 hierarchy or in the unified one; "" when there is none."""
    root, name = (layout.controllers[controller], v1) if controller in layout.controllers else (layout.unified, unified)
    with contextlib.suppress(OSError):
        return cgroup.read(f"{root}/{group}/{name}")
    return ""


def _memory(layout: Layout, group: str) -> tuple[int, int]:
    used = _read(layout, "memory", group, "memory.usage_in_bytes", "memory.current")
    stat = _keyed(_read(layout, "memory", group, "memory.stat", "memory.stat"))
    idle = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    limit = _read(layout, "memory", group, "memory.limit_in_bytes", "memory.max")
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bytes_used = int(used) if used.isdecimal() else 0
    return max(0, bytes_used - idle), min(whole, int(limit)) if limit.isdecimal() else whole


def _cpu_s(layout: Layout, group: str) -> float:
    if layout.unified is not None:  # It counts this also where the controller is elsewhere.
        with contextlib.suppress(OSError):
            if usec := _keyed(cgroup.read(f"{layout.unified}/{group}/cpu.stat")).get("usage_usec"):
                return usec / 1e6
    if nanoseconds := _read(layout, "cpuacct", group, "cpuacct.usage", "-"):
        return int(nanoseconds) / 1e9
    return sum(ticks_of(fields) for _, fields in _stats(layout, group)) / _TICKS


def _pids(layout: Layout, group: str) -> int:
    text = _read(layout, "pids", group, "pids.current", "pids.current")
    return int(text) if text.isdecimal() else sum(int(fields[17]) for _, fields in _stats(layout, group))


def _disks(layout: Layout, group: str) -> tuple[int, int]:
    if text := _read(layout, "blkio", group, "blkio.throttle.io_service_bytes_recursive", "-"):
        lines = [line.split() for line in text.splitlines()]
        return _sum(lines, "Read"), _sum(lines, "Write")
    if "blkio" not in layout.controllers and layout.unified is not None:
        with contextlib.suppress(OSError):
            pairs = [pair.partition("=") for pair in cgroup.read(f"{layout.unified}/{group}/io.stat").split()]
            lines = [["", key, value] for key, _, value in pairs]
            return _sum(lines, "rbytes"), _sum(lines, "wbytes")
    read = written = 0
    for pid in members(layout, group):
        with contextlib.suppress(OSError):
            counted = _keyed(cgroup.read(f"/proc/{pid}/io").replace(":", ""))
            read, written = read + counted.get("read_bytes", 0), written + counted.get("write_bytes", 0)
    return read, written


def _sum(lines: list[list[str]], name: str) -> int:
    return sum(int(line[2]) for line in lines if len(line) == 3 and line[1] == name)


def _network(pid: int) -> tuple[int, int]:
    """Of its network namespace, but for the loopback; nothing where that is the machine's."""
    received = sent = 0
    with contextlib.suppress(OSError):
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return 0, 0
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            for line in file.readlines()[2:]:
                name, _, numbers = line.partition(":")
                fields = numbers.split()
                if name.strip() != "lo":
                    received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def _keyed(text: str) -> dict[str, int]:
    """Of a flat keyed file."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _stats(layout: Layout, group: str) -> Iterator[tuple[int, list[str]]]:
    for pid in members(layout, group):
        if (fields := stat_of(pid)) is not None:
            yield pid, fields


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on (proc_pid_stat(5) calls that number 3); None when the
    process has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].decode("ascii", "replace").split()
    return None


def ticks_of(fields: list[str]) -> int:
    """The processor time of `stat_of`'s fields."""
    return int(fields[11]) + int(fields[12])
