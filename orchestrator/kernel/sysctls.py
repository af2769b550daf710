"""Names of kernel parameters, and which belong to a namespace (proc_sys(5), namespaces(7), ipc_namespaces(7))."""

from __future__ import annotations

_IPC = frozenset({"kernel.sem", "kernel.shm_rmid_forced"})
_IPC_FAMILIES = ("kernel.msg", "kernel.shm", "fs.mqueue.")
_UTS = frozenset({"kernel.hostname", "kernel.domainname"})


def sysctl_name(text: str) -> str:
    """With dots: where a slash comes first, slashes and dots change places (sysctl(8)): ``net/ipv4/ip_forward``."""
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
