"""What a container may not do, whatever the stack says: capabilities, hidden and read-only paths, sysctls.

Docker's defaults where they are good, narrower where experience says so (docs/security.md has the reasons).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.kernel.caps import CAPABILITIES

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
)
"""Docker's fourteen without MKNOD (no use in a user namespace), NET_RAW (spoofing; ping works by `ping_group_range`) and
AUDIT_WRITE."""

ALL = "ALL"


def held_capabilities(added: Collection[str], dropped: Collection[str]) -> list[str]:
    """The default ones with those of the service, in the kernel's order. As Docker has it: ``ALL`` that is added wins over
    ``ALL`` that is dropped, and of a single one that is both, the adding. What the kernel does not have yet is passed over
    by a runtime."""
    if ALL in added:
        held = set(CAPABILITIES) - set(dropped)
    else:
        held = set() if ALL in dropped else set(DEFAULT_CAPABILITIES) - set(dropped)
        held |= set(added)
    return [name for name in CAPABILITIES if name in held]


def privileged_process(process: Mapping[str, Any]) -> dict[str, Any]:
    """The OCI `process` with all capabilities (``exec --privileged``); the filter stays, as in Docker. What the kernel does
    not have yet is passed over by a runtime."""
    every = list(CAPABILITIES)
    sets = {"bounding": every, "effective": every, "permitted": every, "inheritable": [], "ambient": []}
    return {**process, "capabilities": sets}


READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

_MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)


def masked_paths(cpus: int) -> tuple[str, ...]:
    """Paths that tell of the host or of other containers: keys, memory, power draw and interrupt timing (side channels).

    `cpus`: how many processors the host may have; each has its own thermal counters. Those that do not exist are
    passed over by a runtime."""
    thermal = (f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(cpus))
    return (*_MASKED_PATHS, *thermal)


_HIGHEST_GROUP = (1 << 31) - 1
"""That the kernel takes for ``ping_group_range`` (net/ipv4/sysctl_net_ipv4.c)."""


def sysctls(id_count: int) -> dict[str, str]:
    """Of the container's own network namespace: ping without CAP_NET_RAW, for every group that is mapped, and ports
    below 1024 for every user: the ports are the container's own."""
    return {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": f"0 {min(id_count - 1, _HIGHEST_GROUP)}",
    }
