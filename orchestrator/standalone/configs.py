"""A bundle's config: read, and checked as far as this runtime uses it (runtime-spec 1.3, config.md and config-linux.md).

Keys that the spec does not know are ignored, as it demands of a runtime; a value of the wrong kind is an error that names
its path, and so is what this machine cannot do and the config asks for.
"""

from __future__ import annotations

import os

from orchestrator.errors import InputError
from orchestrator.kernel.jsontext import loads
from orchestrator.kernel.limits import NUMBERS
from orchestrator.kernel.sysctls import sysctl_name, sysctl_namespace, sysctl_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Config = dict[str, Any]


MOST_BYTES = 16 << 20
OCI_VERSIONS = ("1.0.0", "1.3.0")
NAMESPACES = ("user", "network", "pid", "mount", "uts", "ipc", "cgroup", "time")
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_INT = (-(1 << 63), (1 << 64) - 1)
_UINT32 = (0, (1 << 32) - 1)
_PROCESS = {
    "terminal": bool,
    "consoleSize.height": _UINT32,
    "consoleSize.width": _UINT32,
    "cwd": str,
    "env[]": str,
    "args[]": str,
    "user.uid": _UINT32,
    "user.gid": _UINT32,
    "user.umask": (0, 0o7777),
    "user.additionalGids[]": _UINT32,
    "noNewPrivileges": bool,
    "oomScoreAdj": (-1000, 1000),
    "apparmorProfile": str,
    "selinuxLabel": str,
    "rlimits[].type": str,
    "rlimits[].soft": (0, (1 << 64) - 1),
    "rlimits[].hard": (0, (1 << 64) - 1),
    "capabilities.bounding[]": str,
    "capabilities.effective[]": str,
    "capabilities.permitted[]": str,
    "capabilities.inheritable[]": str,
    "capabilities.ambient[]": str,
    "scheduler.policy": str,
    "scheduler.nice": (-20, 19),
    "scheduler.priority": (-(1 << 31), (1 << 31) - 1),
    "scheduler.flags[]": str,
    "scheduler.runtime": (0, (1 << 64) - 1),
    "scheduler.deadline": (0, (1 << 64) - 1),
    "scheduler.period": (0, (1 << 64) - 1),
    "ioPriority.class": str,
    "ioPriority.priority": (0, 7),
    "execCPUAffinity.initial": str,
    "execCPUAffinity.final": str,
}
_TOP = {
    "ociVersion": str,
    "hostname": str,
    "domainname": str,
    "root.path": str,
    "root.readonly": bool,
    "annotations.*": str,
    "mounts[].destination": str,
    "mounts[].type": str,
    "mounts[].source": str,
    "mounts[].options[]": str,
    **{f"hooks.{kind}[].path": str for kind in _HOOKS},
    **{f"hooks.{kind}[].args[]": str for kind in _HOOKS},
    **{f"hooks.{kind}[].env[]": str for kind in _HOOKS},
    **{f"hooks.{kind}[].timeout": (1, (1 << 31) - 1) for kind in _HOOKS},
    "linux.namespaces[].type": str,
    "linux.namespaces[].path": str,
    "linux.cgroupsPath": str,
    "linux.rootfsPropagation": str,
    "linux.maskedPaths[]": str,
    "linux.readonlyPaths[]": str,
    "linux.mountLabel": str,
    "linux.sysctl.*": str,
    "linux.devices[].path": str,
    "linux.devices[].type": str,
    "linux.devices[].major": _INT,
    "linux.devices[].minor": _INT,
    "linux.devices[].fileMode": (0, 0o177777),
    "linux.devices[].uid": _UINT32,
    "linux.devices[].gid": _UINT32,
    "linux.personality.domain": str,
    "linux.personality.flags[]": str,
    "linux.memoryPolicy.mode": str,
    "linux.memoryPolicy.nodes": str,
    "linux.memoryPolicy.flags[]": str,
    "linux.seccomp.defaultAction": str,
    "linux.seccomp.listenerPath": str,
    "linux.seccomp.listenerMetadata": str,
    "linux.seccomp.flags[]": str,
    "linux.seccomp.architectures[]": str,
    "linux.seccomp.syscalls[].names[]": str,
    "linux.seccomp.syscalls[].action": str,
    "linux.timeOffsets.*.secs": _INT,
    "linux.timeOffsets.*.nanosecs": (0, 999_999_999),
    "linux.resources.devices[].allow": bool,
    "linux.resources.devices[].type": str,
    "linux.resources.devices[].access": str,
    "linux.resources.devices[].major": _INT,
    "linux.resources.devices[].minor": _INT,
    "linux.resources.memory.limit": _INT,
    "linux.resources.memory.reservation": _INT,
    "linux.resources.memory.swap": _INT,
    "linux.resources.memory.swappiness": (0, 200),
    "linux.resources.memory.disableOOMKiller": bool,
    "linux.resources.pids.limit": _INT,
    "linux.resources.cpu.shares": _INT,
    "linux.resources.cpu.quota": _INT,
    "linux.resources.cpu.period": _INT,
    "linux.resources.cpu.burst": _INT,
    "linux.resources.cpu.idle": _INT,
    "linux.resources.cpu.realtimeRuntime": _INT,
    "linux.resources.cpu.realtimePeriod": _INT,
    "linux.resources.cpu.cpus": str,
    "linux.resources.cpu.mems": str,
    "linux.resources.blockIO.weight": _UINT32,
    "linux.resources.unified.*": str,
    **{
        f"{owner}.{kind}Mappings[].{key}": _UINT32
        for owner in ("linux", "mounts[]")
        for kind in ("uid", "gid")
        for key in ("containerID", "hostID", "size")
    },
    **{f"process.{path}": kind for path, kind in _PROCESS.items()},
}


def _nest(table: Mapping[str, Any]) -> dict[str, Any]:
    """``a.b[].c`` -> ``{"a": {"b": {"[]": {"c": KIND}}}}``."""
    root: dict[str, Any] = {}
    for path, kind in table.items():
        *parents, last = path.replace("[]", ".[]").split(".")
        node = root
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = kind
    return root


_SHAPE = _nest(_TOP)


def read_config(path: str) -> Config:
    """Raises InputError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise InputError(f"cannot read the config {path}: {exc.strerror}") from exc
    return parse_config(data, path)


def parse_config(data: bytes, path: str) -> Config:
    if len(data) > MOST_BYTES:
        raise InputError(f"the config {path} is larger than {MOST_BYTES} bytes")
    try:
        config = loads(data)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"the config {path} is not JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise InputError(f"the config {path} is not a JSON object")
    return config


def check_config(config: Config) -> None:
    """Raises InputError for the first thing that is wrong."""
    _walk(_SHAPE, config, "")
    _check_version(config)
    if not (config.get("root") or {}).get("path"):
        raise InputError("root.path is missing")
    process = config.get("process")
    if process is not None:
        check_process(process)
    linux = config.get("linux") or {}
    kinds = _check_namespaces(linux)
    _check_sysctls(linux.get("sysctl") or {}, kinds)
    _check_the_rest(config, linux, kinds)
    for kind in _HOOKS:
        for number, hook in enumerate((config.get("hooks") or {}).get(kind) or ()):
            path = hook.get("path")
            if not path or not path.startswith("/"):
                raise InputError(f"{path!r} is not an absolute path", place=f"hooks.{kind}[{number}].path")


def complete_mappings(config: Config, uid: int, gid: int) -> None:
    """A new user namespace of which nothing more is said has one id: its root is the caller, and nobody else is in it."""
    linux = config.get("linux") or {}
    new = any(item.get("type") == "user" and not item.get("path") for item in linux.get("namespaces") or ())
    if new and not linux.get("uidMappings"):
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]


def check_process(process: Mapping[str, Any], place: str = "process") -> None:
    """What the shapes do not say. Raises InputError."""
    if not process.get("args"):
        raise InputError(f"{place}.args is empty")
    cwd = process.get("cwd") or ""
    if not cwd.startswith("/"):
        raise InputError(f"{cwd!r} is not an absolute path", place=f"{place}.cwd")
    seen = set()
    for number, limit in enumerate(process.get("rlimits") or ()):
        kind, where = limit.get("type"), f"{place}.rlimits[{number}]"
        if kind not in NUMBERS:
            raise InputError(f"there is no resource limit {kind}", place=where)
        if kind in seen:
            raise InputError(f"{kind} is there already", place=where)
        if limit.get("soft") is None or limit.get("hard") is None:
            raise InputError("soft and hard are both needed", place=where)
        seen.add(kind)
    label = process.get("selinuxLabel")
    if label and not os.path.isdir("/sys/fs/selinux"):
        raise InputError("this kernel has no SELinux", place=f"{place}.selinuxLabel")
    if process.get("apparmorProfile") not in (None, "", "unconfined") and not os.path.isdir(
        "/sys/kernel/security/apparmor"
    ):
        raise InputError("this kernel has no AppArmor", place=f"{place}.apparmorProfile")


def check_shape(process: Mapping[str, Any]) -> None:
    """Of an OCI ``process`` alone."""
    _walk(_SHAPE["process"], process, "process")


def check_resources(resources: Mapping[str, Any]) -> None:
    """Of ``linux.resources`` alone."""
    _walk(_SHAPE["linux"]["resources"], resources, "linux.resources")


def _check_version(config: Config) -> None:
    version = config.get("ociVersion")
    if not version:
        raise InputError("ociVersion is missing")
    parts = version.partition("-")[0].partition("+")[0].split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise InputError(f"{version!r} is not a version (1.2.0)", place="ociVersion")
    if parts[0] != "1":
        raise InputError(f"{version} of the runtime-spec is not supported: 1.x is", place="ociVersion")


def _check_namespaces(linux: Mapping[str, Any]) -> dict[str, str]:
    """Type -> path ("": a new one)."""
    kinds: dict[str, str] = {}
    for number, item in enumerate(linux.get("namespaces") or ()):
        kind, path, place = item.get("type"), item.get("path") or "", f"linux.namespaces[{number}]"
        if kind not in NAMESPACES:
            raise InputError(f"{kind!r} is not a namespace: {', '.join(NAMESPACES)}", place=place)
        if kind in kinds:
            raise InputError(f"the namespace {kind} is there already", place=place)
        if path and not path.startswith("/"):
            raise InputError(f"{path!r} is not an absolute path", place=f"{place}.path")
        if not os.path.exists(f"/proc/self/ns/{'net' if kind == 'network' else 'mnt' if kind == 'mount' else kind}"):
            raise InputError(f"this kernel has no {kind} namespaces", place=place)
        kinds[kind] = path
    if "mount" not in kinds and "user" in kinds:
        hint = 'add {"type": "mount"} to linux.namespaces'
        raise InputError("a user namespace may not mount anything in the host's mount namespace", hint=hint)
    maps = linux.get("uidMappings"), linux.get("gidMappings")
    if any(maps) and "user" not in kinds:
        raise InputError("id mappings need a user namespace", place="linux.uidMappings")
    if "user" in kinds and not kinds["user"] and any(maps) and not all(maps):
        raise InputError("a new user namespace needs both uidMappings and gidMappings", place="linux.namespaces")
    if linux.get("timeOffsets") and kinds.get("time") != "":
        raise InputError("timeOffsets need a new time namespace", place="linux.timeOffsets")
    return kinds


def _check_sysctls(sysctls: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    for text in sysctls:
        name, place = sysctl_name(text), f"linux.sysctl.{text}"
        try:
            sysctl_path(name)
        except ValueError as exc:
            raise InputError(str(exc), place=place) from exc
        owner = sysctl_namespace(name)
        if owner is None:
            raise InputError("it belongs to the machine, not to a namespace", place=place)
        if name == "kernel.hostname":
            raise InputError("it is set by hostname", hint="use hostname", place=place)
        if owner not in kinds:
            raise InputError(f"it would change the host's: the container has no {owner} namespace", place=place)


def _check_the_rest(config: Config, linux: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    for key in ("hostname", "domainname"):
        if config.get(key) and "uts" not in kinds:
            raise InputError(f"{key} needs a uts namespace", place=key)
    rdt = linux.get("intelRdt")
    if rdt and not os.path.isdir("/sys/fs/resctrl/info"):
        raise InputError("this machine has no resctrl file system", place="linux.intelRdt")
    if rdt:
        raise InputError("intelRdt is not supported", place="linux.intelRdt")
    if linux.get("mountLabel") and not os.path.isdir("/sys/fs/selinux"):
        raise InputError("this kernel has no SELinux", place="linux.mountLabel")
    if (linux.get("resources") or {}).get("vtpms") or linux.get("vtpms"):
        raise InputError("virtual TPMs are not supported", place="linux.vtpms")
    if linux.get("netDevices"):
        raise InputError("moving network devices is not supported", place="linux.netDevices")
    for number, device in enumerate(linux.get("devices") or ()):
        place = f"linux.devices[{number}]"
        if not (device.get("path") or "").startswith("/"):
            raise InputError(f"{device.get('path')!r} is not an absolute path", place=place)
        if device.get("type") not in ("c", "b", "u", "p"):
            raise InputError(f"{device.get('type')!r} is not a type of device: c, b, u or p", place=place)
        if device["type"] != "p" and None in (device.get("major"), device.get("minor")):
            raise InputError("major and minor are needed", place=place)
    for number, mount in enumerate(config.get("mounts") or ()):
        if not mount.get("destination"):
            raise InputError(f"mounts[{number}].destination is missing")
    propagation = linux.get("rootfsPropagation")
    if propagation and propagation.removeprefix("r") not in ("shared", "slave", "private", "unbindable"):
        raise InputError(f"{propagation!r} is not a propagation", place="linux.rootfsPropagation")


def _walk(shape: Any, value: object, place: str) -> None:
    if value is None:
        return
    if isinstance(shape, dict):
        if "[]" in shape:
            if not isinstance(value, list):
                raise InputError(f"{place} is not a list")
            if shape["[]"] is str and all(type(item) is str for item in value) and "\0" not in "".join(value):
                return
            for number, item in enumerate(value):
                _walk(shape["[]"], item, f"{place}[{number}]")
            return
        if not isinstance(value, dict):
            raise InputError(f"{place or 'the config'} is not an object")
        every = shape.get("*")
        for key, item in value.items():
            below = shape.get(key, every)
            if below is not None:
                _walk(below, item, f"{place}.{key}" if place else key)
    elif isinstance(shape, tuple):
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{place} is not a whole number")
        if not shape[0] <= value <= shape[1]:
            raise InputError(f"{value} is not between {shape[0]} and {shape[1]}", place=place)
    elif not isinstance(value, shape):
        raise InputError(f"{place} is not {'a string' if shape is str else 'true or false'}")
    elif isinstance(value, str) and "\0" in value:
        raise InputError("a string with a NUL character cannot be passed to the kernel", place=place)
