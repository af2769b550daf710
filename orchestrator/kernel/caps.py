"""Capability names and their bit numbers (capabilities(7), linux/capability.h of Linux 6.18)."""

from __future__ import annotations

from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_IN_BIT_ORDER = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

CAPABILITIES: Mapping[str, int] = MappingProxyType({name: bit for bit, name in enumerate(_IN_BIT_ORDER)})
"""``CAP_CHOWN`` -> 0, and so on."""

LAST_CAPABILITY = len(_IN_BIT_ORDER) - 1


def mask_of(names: Iterable[str]) -> int:
    """The names as a bit mask, as /proc/PID/status shows it. Raises ValueError for a name that does not exist."""
    mask = 0
    for name in names:
        bit = CAPABILITIES.get(name)
        if bit is None:
            raise ValueError(f"{name!r} is not a capability")
        mask |= 1 << bit
    return mask


def names_of(mask: int) -> tuple[str, ...]:
    """The names of the bits set in `mask`, in bit order; bits newer than this table are left out."""
    return tuple(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)
