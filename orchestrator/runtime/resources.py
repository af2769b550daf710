"""OCI ``linux.resources`` as writes to control files (runtime-spec 1.2, config-linux.md; cgroup-v1/*.rst, cgroup-v2.rst).

`_ROWS` is the whole mapping of single values: one row a key, with the file and the conversion that each version has. What
the spec has as lists (devices, sizes of huge pages, ...) is in `_LISTS`, in the same way. What a version has no file for is
said by `cgroups`, when there is a value for it.
"""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    Resources = Mapping[str, Any]
    Convert = Callable[[Any, Resources], str]
    _Version = tuple[tuple[str, Convert, str], ...]

DEFAULT_PERIOD_US = 100_000


@frozen
class File:
    """A control file and what is written to it. `none`: the value for nothing being said; "": as the group above has it."""

    name: str
    value: str
    none: str = ""


@frozen
class Setting:
    """One write. `key`: its place below ``linux.resources``. `controller` decides the hierarchy; `v1`, `v2`: the files to
    try there, in order (a kernel may lack one); empty: that version has no such thing. `optional`: passed over where no
    file is there (swap accounting). `most`: the limit below which the present use must be."""

    key: str
    controller: str
    v1: tuple[File, ...]
    v2: tuple[File, ...]
    optional: bool = False
    most: int | None = None


# ---- conversions ------------------------------------------------------------------------------------------------------


def _plain(value: Any, _: Resources) -> str:
    return value if isinstance(value, str) else str(int(value))


def _or_max(value: int, _: Resources) -> str:
    return "max" if value < 0 else str(value)


def _positive_or_max(value: int, _: Resources) -> str:
    return str(value) if value > 0 else "max"


def _weight_of_shares(shares: int, _: Resources) -> str:
    """The range 2..262144 of v1 laid over v2's 1..10000."""
    return str(1 + (min(max(shares, 2), 262_144) - 2) * 9_999 // 262_142)


def _cpu_max(_: int, resources: Resources) -> str:
    cpu = resources["cpu"]
    quota, period = cpu.get("quota") or -1, cpu.get("period") or DEFAULT_PERIOD_US
    return f"{quota if quota > 0 else 'max'} {period}"


def _swap_alone(swap: int, resources: Resources) -> str:
    """OCI's ``swap`` is memory and swap together, as v1 has it; v2 limits the swap alone."""
    limit = resources["memory"].get("limit")
    if swap < 0:
        return "max"
    if limit is None or limit < 0:
        raise InputError("a limit of memory and swap needs a limit of memory", place="linux.resources.memory.swap")
    return str(max(0, swap - limit))


def _io_weight(weight: int, _: Resources) -> str:
    """The range 10..1000 laid over 1..10000."""
    return str(1 + (weight - 10) * 9_999 // 990)


# ---- single values ----------------------------------------------------------------------------------------------------




@frozen
class _Row:
    """`nothing`: values that say nothing."""

    key: str
    controller: str
    v1: _Version = ()
    v2: _Version = ()
    optional: bool = False
    nothing: tuple[object, ...] = ()


def _same(key: str, controller: str, name: str, convert: Convert, none: str, nothing: tuple[object, ...] = ()) -> _Row:
    """A file that both versions have."""
    return _Row(key, controller, ((name, convert, none),), ((name, convert, none),), nothing=nothing)


_CPU_MAX: _Version = (("cpu.max", _cpu_max, f"max {DEFAULT_PERIOD_US}"),)

_ROWS = (
    _Row(
        "memory.reservation",
        "memory",
        (("memory.soft_limit_in_bytes", _plain, "-1"),),
        (("memory.low", _or_max, "0"),),
    ),
    _Row("memory.limit", "memory", (("memory.limit_in_bytes", _plain, "-1"),), (("memory.max", _or_max, "max"),)),
    _Row(
        "memory.swap",
        "memory",
        (("memory.memsw.limit_in_bytes", _plain, "-1"),),
        (("memory.swap.max", _swap_alone, "max"),),
        optional=True,
    ),
    _Row("memory.kernel", "memory", (("memory.kmem.limit_in_bytes", _plain, "-1"),)),
    _Row("memory.kernelTCP", "memory", (("memory.kmem.tcp.limit_in_bytes", _plain, "-1"),)),
    _Row("memory.swappiness", "memory", (("memory.swappiness", _plain, ""),)),
    _Row("memory.disableOOMKiller", "memory", (("memory.oom_control", _plain, "0"),), nothing=(False,)),
    _Row("memory.useHierarchy", "memory", (("memory.use_hierarchy", _plain, "1"),), nothing=(True,)),
    _same("pids.limit", "pids", "pids.max", _positive_or_max, "max"),
    _Row("cpu.shares", "cpu", (("cpu.shares", _plain, "1024"),), (("cpu.weight", _weight_of_shares, "100"),), nothing=(0,)),
    _Row("cpu.period", "cpu", (("cpu.cfs_period_us", _plain, str(DEFAULT_PERIOD_US)),), _CPU_MAX, nothing=(0,)),
    _Row("cpu.quota", "cpu", (("cpu.cfs_quota_us", _plain, "-1"),), _CPU_MAX, nothing=(0,)),
    _Row("cpu.burst", "cpu", (("cpu.cfs_burst_us", _plain, "0"),), (("cpu.max.burst", _plain, "0"),)),
    _Row("cpu.realtimePeriod", "cpu", (("cpu.rt_period_us", _plain, "1000000"),), nothing=(0,)),
    _Row("cpu.realtimeRuntime", "cpu", (("cpu.rt_runtime_us", _plain, "0"),), nothing=(0,)),
    _same("cpu.idle", "cpu", "cpu.idle", _plain, "0"),
    _same("cpu.cpus", "cpuset", "cpuset.cpus", _plain, "", ("",)),
    _same("cpu.mems", "cpuset", "cpuset.mems", _plain, "", ("",)),
    _Row(
        "blockIO.weight",
        "blkio",
        (("blkio.weight", _plain, "500"), ("blkio.bfq.weight", _plain, "100")),
        (("io.bfq.weight", _plain, "100"), ("io.weight", _io_weight, "100")),
        nothing=(0,),
    ),
    _Row("blockIO.leafWeight", "blkio", (("blkio.leaf_weight", _plain, "500"),), nothing=(0,)),
    _Row("network.classID", "net_cls", (("net_cls.classid", _plain, "0"),)),
)
"""In the order in which they are written: a limit of memory before that of memory and swap, which may not be below it."""


# ---- lists ------------------------------------------------------------------------------------------------------------

_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "write_iops_device", "wiops"),
)
"""Key, v1's file without ``blkio.throttle.``, and the word in v2's ``io.max``."""
_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
_MOST_DIGITS, _MOST_LETTERS = 7, 64


def _is_page_size(text: str) -> bool:
    """``2MB``."""
    unit, number = text[-2:], text[:-2]
    short = 0 < len(number) <= _MOST_DIGITS and number[0] != "0"
    return unit in ("KB", "MB", "GB") and short and _DIGITS.issuperset(number)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MOST_LETTERS and _LETTERS.issuperset(text)


def _throttles(resources: Resources) -> Iterator[Setting]:
    for key, v1, word in _THROTTLES:
        for item in _items(resources, "blockIO", key):
            device, rate = _device(item), int(item["rate"])
            one = File(f"blkio.throttle.{v1}", f"{device} {rate}", f"{device} 0")
            other = File("io.max", f"{device} {word}={rate or 'max'}", f"{device} {word}=max")
            yield Setting(f"blockIO.{key}.{device}", "blkio", (one,), (other,))


def _device_weights(resources: Resources) -> Iterator[Setting]:
    for item in _items(resources, "blockIO", "weightDevice"):
        device, key = _device(item), f"blockIO.weightDevice.{_device(item)}"
        if weight := item.get("weight"):
            line, none = f"{device} {weight}", f"{device} default"
            v1 = File("blkio.weight_device", line, f"{device} 0"), File("blkio.bfq.weight_device", line, none)
            scaled = f"{device} {_io_weight(weight, resources)}"
            v2 = File("io.bfq.weight", line, none), File("io.weight", scaled, none)
            yield Setting(f"{key}.weight", "blkio", v1, v2)
        if leaf := item.get("leafWeight"):
            yield Setting(
                f"{key}.leafWeight", "blkio", (File("blkio.leaf_weight_device", f"{device} {leaf}", f"{device} 0"),), ()
            )


def _huge_pages(resources: Resources) -> Iterator[Setting]:
    for item in resources.get("hugepageLimits") or ():
        size, limit = item["pageSize"], str(item["limit"])
        if not _is_page_size(size):
            message = f'"{size}" is not a size of huge pages (2MB, 1GB)'
            raise InputError(message, place="linux.resources.hugepageLimits[].pageSize")
        for part, optional in (("", False), ("rsvd.", True)):
            one = File(f"hugetlb.{size}.{part}limit_in_bytes", limit, "-1")
            other = File(f"hugetlb.{size}.{part}max", limit, "max")
            yield Setting(f"hugepageLimits.{size}.{part}", "hugetlb", (one,), (other,), optional)


def _priorities(resources: Resources) -> Iterator[Setting]:
    for item in _items(resources, "network", "priorities"):
        name, priority = item["name"], item["priority"]
        if not _is_name(name):
            raise InputError(f'"{name}" is not an interface', place="linux.resources.network.priorities[].name")
        yield Setting(
            f"network.priorities.{name}", "net_prio", (File("net_prio.ifpriomap", f"{name} {priority}", f"{name} 0"),), ()
        )


def _rdma(resources: Resources) -> Iterator[Setting]:
    for name, limits in (resources.get("rdma") or {}).items():
        if not _is_name(name):
            raise InputError(f'"{name}" is not an RDMA device', place="linux.resources.rdma")
        handles, objects = limits.get("hcaHandles"), limits.get("hcaObjects")
        words = {"hca_handle": handles, "hca_object": objects}
        line = " ".join([name, *(f"{word}={value}" for word, value in words.items() if value is not None)])
        file = File("rdma.max", line, f"{name} hca_handle=max hca_object=max")
        yield Setting(f"rdma.{name}", "rdma", (file,), (file,))


def _unified(resources: Resources) -> Iterator[Setting]:
    """Files of the unified hierarchy by their names. Those of ``cgroup.`` are how this runtime works, and are its own."""
    for name, value in (resources.get("unified") or {}).items():
        controller, dot, rest = name.partition(".")
        if not dot or not rest or not _is_name(name) or controller == "cgroup":
            raise InputError(f'"{name}" is not a file of a controller', place="linux.resources.unified")
        yield Setting(f"unified.{name}", controller, (), (File(name, value),))


_LISTS: tuple[Callable[[Resources], Iterator[Setting]], ...] = (
    _device_weights, _throttles, _huge_pages, _priorities, _rdma, _unified
)  # fmt: skip


def _items(resources: Resources, section: str, key: str) -> Sequence[Mapping[str, Any]]:
    return (resources.get(section) or {}).get(key) or ()


def _device(item: Mapping[str, Any]) -> str:
    return f"{int(item['major'])}:{int(item['minor'])}"


# ---- all of it --------------------------------------------------------------------------------------------------------


def settings_of(resources: Resources) -> list[Setting]:
    """What is written for `resources`, in order. Raises InputError for what is no value of its kind."""
    settings = []
    for row in _ROWS:
        section, _, key = row.key.partition(".")
        value = (resources.get(section) or {}).get(key)
        if value is None or value in row.nothing:
            continue
        v1 = tuple(File(name, convert(value, resources), none) for name, convert, none in row.v1)
        v2 = tuple(File(name, convert(value, resources), none) for name, convert, none in row.v2)
        most = value if key == "limit" and section == "memory" and _checks(resources) and value >= 0 else None
        settings.append(Setting(row.key, row.controller, v1, v2, row.optional, most))
    for compile_ in _LISTS:
        settings += compile_(resources)
    return settings


def _checks(resources: Resources) -> bool:
    return bool((resources.get("memory") or {}).get("checkBeforeUpdate"))
