"""What a service may do: capabilities' companions, the system call filter, kernel parameters (compose-spec, "services")."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.values import field, frozen

ALL = "ALL"
UNCONFINED = "unconfined"
BUILTIN = "builtin"
MOST_PROFILE_BYTES = 2**20
"""Of a file with a system call filter."""


@frozen
class Security:
    """`privileged`: all rights of the host's root. `no_new_privileges`: as prctl(2) has it. `seccomp`: "" for our filter,
    ``unconfined`` for none, else the text of a profile as JSON (`model.seccomp`).
    `system_paths` False: nothing of /proc and /sys is masked or read-only. `sysctls`: names with dots. `labels`: kernel
    modules (``apparmor``, ``selinux``) that a profile or a label was asked of."""

    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str = ""
    system_paths: bool = True
    sysctls: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def capability(name: str) -> str | None:
    """The name as the kernel has it (``CAP_NET_RAW``) or ALL, for one with or without ``CAP_``, in any case; None: there is
    no such capability."""
    upper = name.upper()
    full = upper if upper == ALL or upper in CAPABILITIES else f"CAP_{upper}"
    return full if full == ALL or full in CAPABILITIES else None


_OF_THE_MACHINE = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF IPC_LOCK LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD
    PERFMON SYSLOG SYS_MODULE SYS_NICE SYS_PACCT SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
OF_THE_MACHINE = frozenset(f"CAP_{name}" for name in _OF_THE_MACHINE.split())
"""The kernel asks for these in its first user namespace alone (``capable()``): a container in one of its own that holds
them can do no more than without."""
