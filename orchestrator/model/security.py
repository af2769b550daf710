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
    ``unconfined`` for none, else the text of a profile as JSON (`model.seccomp`); 
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


OF_THE_MACHINE = frozenset(
    f"CAP_{name}"
    for name in (
        "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF IPC_LOCK LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD "
        "PERFMON SYSLOG SYS_MODULE SYS_NICE SYS_PACCT SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
    ).split()
)
"""The kernel asks for these in its first user namespace alone (``capable()``): a container in one of its own that holds
them can do no more than without."""


# ---- kernel parameters ------------------------------------------------------------------------------------------------

_IPC = frozenset({"kernel.sem", "kernel.shm_rmid_forced"})
_IPC_FAMILIES = ("kernel.msg", "kernel.shm", "fs.mqueue.")
_UTS = frozenset({"kernel.hostname", "kernel.domainname"})


def sysctl_name(text: str) -> str:
    """With dots, whichever of ``.`` and ``/`` comes first: ``net/ipv4/ip_forward`` is ``net.ipv4.ip_forward`` (sysctl(8))."""
    first = min((text.find(mark) for mark in "./" if mark in text), default=-1)
    return text.translate(_SWAPPED) if first >= 0 and text[first] == "/" else text


_SWAPPED = str.maketrans("./", "/.")


def sysctl_path(name: str) -> str:
    """Below /proc/sys. Raises ValueError for one that leads elsewhere."""
    path = name.translate(_SWAPPED)
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f'"{name}" is not the name of a kernel parameter')
    return path


def sysctl_namespace(name: str) -> str | None:
    """Which of a container's namespaces the parameter belongs to (``network``, ``ipc``, ``uts``); None: to the machine
    (namespaces(7), ipc_namespaces(7))."""
    if name.startswith("net."):
        return "network"
    if name in _UTS:
        return "uts"
    return "ipc" if name in _IPC or name.startswith(_IPC_FAMILIES) else None
