"""The runtime-spec (1.2, config.md, config-linux.md) as a table: every key of a config, and what this runtime does with it.

A key is **read**: it decides something. It is **settled**: the runtime does one thing in any case, and a config that says
the same is welcome, one that says otherwise is refused (`validate` knows the values). It is **free**: the spec lets a
runtime ignore it, and the reason is in its row. Everything else is refused: `REFUSED` has the keys that the spec knows, so
that the message can say whether a key is not done or not known at all.

In a path ``[]`` stands for each item of a list and ``*`` for each key of a map.
"""

from __future__ import annotations

from enum import Enum, auto

from orchestrator.values import frozen


class Use(Enum):
    READ = auto()
    SETTLED = auto()
    FREE = auto()


class Kind(Enum):
    OBJECT = "an object"
    MAP = "a map"
    LIST = "a list"
    TEXT = "a string"
    FLAG = "true or false"
    NUMBER = "a whole number"


@frozen
class Row:
    """`low`, `high`: of a number. `needed`: a config without it is refused. `note`: of a settled key, what the runtime
    does; of a free one, why it may be ignored."""

    path: str
    kind: Kind
    use: Use = Use.READ
    low: int = 0
    high: int = (1 << 32) - 1
    needed: bool = False
    note: str = ""


_INT64 = (-(1 << 63), (1 << 63) - 1)
_UINT64 = (0, (1 << 64) - 1)
_CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _wide(path: str, bounds: tuple[int, int], *, needed: bool = False) -> Row:
    """A number of 64 bits."""
    return Row(path, Kind.NUMBER, low=bounds[0], high=bounds[1], needed=needed)


def _list(path: str) -> tuple[Row, ...]:
    """A list of strings."""
    return Row(path, Kind.LIST), Row(f"{path}[]", Kind.TEXT)


def _id_mapping(path: str) -> tuple[Row, ...]:
    note = "the ids are those of the project, or, without a user namespace, the host's"
    return (
        Row(path, Kind.LIST, Use.SETTLED, note=note),
        Row(f"{path}[]", Kind.OBJECT, Use.SETTLED, note=note),
        *(Row(f"{path}[].{key}", Kind.NUMBER, Use.SETTLED, note=note) for key in ("containerID", "hostID", "size")),
    )


_THROTTLES = ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")


def _weights(path: str) -> tuple[Row, ...]:
    """Of block devices, 0: nothing said."""
    return tuple(Row(f"{path}.{key}", Kind.NUMBER, high=1000) for key in ("weight", "leafWeight"))


def _block_device(path: str) -> tuple[Row, ...]:
    numbers = (_wide(f"{path}.{key}", (0, (1 << 32) - 1), needed=True) for key in ("major", "minor"))
    return Row(path, Kind.OBJECT), *numbers


def _throttle(path: str) -> tuple[Row, ...]:
    return Row(path, Kind.LIST), *_block_device(f"{path}[]"), _wide(f"{path}[].rate", _UINT64, needed=True)


ROWS: tuple[Row, ...] = (
    Row("ociVersion", Kind.TEXT, Use.SETTLED, needed=True, note="version 1 is spoken"),
    Row("process", Kind.OBJECT, needed=True),
    Row("process.terminal", Kind.FLAG),
    Row("process.user", Kind.OBJECT),
    Row("process.user.uid", Kind.NUMBER),
    Row("process.user.gid", Kind.NUMBER),
    Row("process.user.umask", Kind.NUMBER, high=0o777),
    Row("process.user.additionalGids", Kind.LIST),
    Row("process.user.additionalGids[]", Kind.NUMBER),
    Row("process.args", Kind.LIST, needed=True),
    Row("process.args[]", Kind.TEXT),
    *_list("process.env"),
    Row("process.cwd", Kind.TEXT, needed=True),
    Row("process.capabilities", Kind.OBJECT),
    *(row for name in _CAPABILITY_SETS for row in _list(f"process.capabilities.{name}")),
    Row("process.rlimits", Kind.LIST),
    Row("process.rlimits[]", Kind.OBJECT),
    Row("process.rlimits[].type", Kind.TEXT, needed=True),
    _wide("process.rlimits[].soft", _UINT64, needed=True),
    _wide("process.rlimits[].hard", _UINT64, needed=True),
    Row("process.noNewPrivileges", Kind.FLAG),
    Row("process.oomScoreAdj", Kind.NUMBER, low=-1000, high=1000),
    Row("root", Kind.OBJECT),
    Row("root.path", Kind.TEXT, Use.FREE, note="the root is an overlay of the layers that come beside the config"),
    Row("root.readonly", Kind.FLAG),
    Row("hostname", Kind.TEXT),
    Row("domainname", Kind.TEXT),
    Row("mounts", Kind.LIST),
    Row("mounts[]", Kind.OBJECT),
    Row("mounts[].destination", Kind.TEXT, needed=True),
    Row("mounts[].type", Kind.TEXT),
    Row("mounts[].source", Kind.TEXT),
    *_list("mounts[].options"),
    Row("annotations", Kind.MAP),
    Row("annotations.*", Kind.TEXT, Use.FREE, note="unknown annotations must not be an error (config.md, Annotations)"),
    Row("linux", Kind.OBJECT),
    Row("linux.namespaces", Kind.LIST),
    Row("linux.namespaces[]", Kind.OBJECT),
    Row("linux.namespaces[].type", Kind.TEXT, needed=True),
    *_id_mapping("linux.uidMappings"),
    *_id_mapping("linux.gidMappings"),
    Row("linux.cgroupsPath", Kind.TEXT, Use.SETTLED, note="it ends with what follows from the project and the container"),
    Row("linux.resources", Kind.OBJECT),
    Row("linux.resources.memory", Kind.OBJECT),
    *(_wide(f"linux.resources.memory.{key}", _INT64) for key in ("limit", "reservation", "swap", "kernel", "kernelTCP")),
    Row("linux.resources.memory.swappiness", Kind.NUMBER, high=100),
    Row("linux.resources.memory.disableOOMKiller", Kind.FLAG),
    Row("linux.resources.memory.useHierarchy", Kind.FLAG),
    Row("linux.resources.memory.checkBeforeUpdate", Kind.FLAG),
    Row("linux.resources.pids", Kind.OBJECT),
    _wide("linux.resources.pids.limit", _INT64),
    Row("linux.resources.cpu", Kind.OBJECT),
    *(_wide(f"linux.resources.cpu.{key}", _UINT64) for key in ("shares", "period", "burst", "realtimePeriod")),
    *(_wide(f"linux.resources.cpu.{key}", _INT64) for key in ("quota", "realtimeRuntime", "idle")),
    Row("linux.resources.cpu.cpus", Kind.TEXT),
    Row("linux.resources.cpu.mems", Kind.TEXT),
    Row("linux.resources.blockIO", Kind.OBJECT),
    *_weights("linux.resources.blockIO"),
    Row("linux.resources.blockIO.weightDevice", Kind.LIST),
    *_block_device("linux.resources.blockIO.weightDevice[]"),
    *_weights("linux.resources.blockIO.weightDevice[]"),
    *(row for kind in _THROTTLES for row in _throttle(f"linux.resources.blockIO.throttle{kind}Device")),
    Row("linux.resources.hugepageLimits", Kind.LIST),
    Row("linux.resources.hugepageLimits[]", Kind.OBJECT),
    Row("linux.resources.hugepageLimits[].pageSize", Kind.TEXT, needed=True),
    _wide("linux.resources.hugepageLimits[].limit", _UINT64, needed=True),
    Row("linux.resources.network", Kind.OBJECT),
    Row("linux.resources.network.classID", Kind.NUMBER),
    Row("linux.resources.network.priorities", Kind.LIST),
    Row("linux.resources.network.priorities[]", Kind.OBJECT),
    Row("linux.resources.network.priorities[].name", Kind.TEXT, needed=True),
    Row("linux.resources.network.priorities[].priority", Kind.NUMBER, needed=True),
    Row("linux.resources.rdma", Kind.MAP),
    Row("linux.resources.rdma.*", Kind.OBJECT),
    Row("linux.resources.rdma.*.hcaHandles", Kind.NUMBER),
    Row("linux.resources.rdma.*.hcaObjects", Kind.NUMBER),
    Row("linux.resources.unified", Kind.MAP),
    Row("linux.resources.unified.*", Kind.TEXT),
    Row("linux.resources.devices", Kind.LIST),
    Row("linux.resources.devices[]", Kind.OBJECT),
    Row("linux.resources.devices[].allow", Kind.FLAG, needed=True),
    Row("linux.resources.devices[].type", Kind.TEXT),
    _wide("linux.resources.devices[].major", _INT64),
    _wide("linux.resources.devices[].minor", _INT64),
    Row("linux.resources.devices[].access", Kind.TEXT),
    Row("linux.devices", Kind.LIST),
    Row("linux.devices[]", Kind.OBJECT),
    Row("linux.devices[].type", Kind.TEXT, needed=True),
    Row("linux.devices[].path", Kind.TEXT, needed=True),
    Row("linux.devices[].major", Kind.NUMBER),
    Row("linux.devices[].minor", Kind.NUMBER),
    Row("linux.devices[].fileMode", Kind.NUMBER, high=0o7777777),
    Row("linux.devices[].uid", Kind.NUMBER),
    Row("linux.devices[].gid", Kind.NUMBER),
    Row("linux.sysctl", Kind.MAP),
    Row("linux.sysctl.*", Kind.TEXT),
    Row("linux.seccomp", Kind.OBJECT),
    Row("linux.seccomp.defaultAction", Kind.TEXT, needed=True),
    Row("linux.seccomp.defaultErrnoRet", Kind.NUMBER),
    *_list("linux.seccomp.architectures"),
    *_list("linux.seccomp.flags"),
    Row("linux.seccomp.syscalls", Kind.LIST),
    Row("linux.seccomp.syscalls[]", Kind.OBJECT),
    *_list("linux.seccomp.syscalls[].names"),
    Row("linux.seccomp.syscalls[].action", Kind.TEXT, needed=True),
    Row("linux.seccomp.syscalls[].errnoRet", Kind.NUMBER),
    Row("linux.seccomp.syscalls[].args", Kind.LIST),
    Row("linux.seccomp.syscalls[].args[]", Kind.OBJECT),
    Row("linux.seccomp.syscalls[].args[].index", Kind.NUMBER, high=5, needed=True),
    _wide("linux.seccomp.syscalls[].args[].value", _UINT64, needed=True),
    _wide("linux.seccomp.syscalls[].args[].valueTwo", _UINT64),
    Row("linux.seccomp.syscalls[].args[].op", Kind.TEXT, needed=True),
    *_list("linux.maskedPaths"),
    *_list("linux.readonlyPaths"),
)

REFUSED: frozenset[str] = frozenset(
    f"{prefix}{name}"
    for prefix, names in {
        "": "hooks solaris windows vm zos freebsd",
        "process.": "consoleSize commandLine apparmorProfile selinuxLabel scheduler ioPriority execCPUAffinity",
        "process.user.": "username",
        "mounts[].": "uidMappings gidMappings",
        "linux.": "netDevices rootfsPropagation mountLabel intelRdt memoryPolicy personality timeOffsets",
        "linux.namespaces[].": "path",
        "linux.seccomp.": "listenerPath listenerMetadata",
    }.items()
    for name in names.split()
)
"""Keys of the spec that this runtime does not do."""
