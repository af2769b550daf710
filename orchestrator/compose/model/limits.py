"""The limits of a service as the runtime takes them.

Source: compose-spec; what excludes what, and the smallest values, are the Docker Engine's.
"""

from __future__ import annotations

import re

from orchestrator.compose.kinds.values import byte_size, cast_float, go_text, whole_number
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.kernel.limits import NUMBERS
from orchestrator.model.build import Ulimit
from orchestrator.model.limits import BlockIo, DeviceValue, Limits

MIN_PERIOD_US, MAX_PERIOD_US = 1_000, 1_000_000
MIN_QUOTA_US = 1_000
MIN_MEMORY_BYTES = 6 * 1024 * 1024
MAX_CPU = 8191
"""Of a list of processors: more than any kernel is built for."""
_CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5})(?::[0-9]{1,5}/[0-9]{1,5})?)?")
MOST_LIMIT = 2**63 - 1
_MOST_CPUS = 1_000_000
_MOST_PIDS = 1 << 22
"""The kernel has no more process ids than that (PID_MAX_LIMIT), and its pids controller takes no more."""


class LimitsReader:
    """Reads the limits of the service at `path`."""

    def __init__(self, read: Reader, node: Node, path: str) -> None:
        self.read = read
        self.node = node
        self.path = path

    def limits(self) -> Limits:
        cpus = self._cpus()
        memory, swap, reservation = self._memory()
        pids = self._number("pids_limit", at(self.node, "deploy", "resources", "limits", "pids"), low=-1, high=_MOST_PIDS)
        period, quota, runtime, rt_period = self._cpu_times(cpus)
        return Limits(
            cpus=cpus,
            memory_bytes=memory,
            pids=-1 if pids == 0 else pids,  # 0 is no limit, as for Docker: what is not said has one here.
            cpu_shares=self._number("cpu_shares") or None,
            cpu_quota_us=quota,
            cpu_period_us=period,
            realtime_runtime_us=runtime,
            realtime_period_us=rt_period,
            cpuset=self._cpuset(),
            reservation_bytes=reservation,
            memswap_bytes=swap,
            swappiness=self._swappiness(),
            oom_kill_disable=self.read.flag(self.node, self.path, "oom_kill_disable"),
            block_io=block_io(self.read, self.node, self.path),
        )

    def _number(self, key: str, other: Node | None = None, *, low: int = 0, high: int = 2**63 - 1) -> int | None:
        node = self.node.get(key) or other
        if node is None or node.value in (None, ""):
            return None
        value = self.read.attempt(node, f"{self.path}.{key}", whole_number, None)
        if value is not None and not low <= value <= high:
            self._error(key, f"must be {_between(low, high)}", node=node)
            return None
        return value

    def _error(self, key: str, message: str, hint: str | None = None, *other: str, node: Node | None = None) -> None:
        node = node or self.node.get(key) or self.node
        related = tuple(place_of(item, name, key=True) for name in other if (item := self.node.get(name)) is not None)
        self.read.error(node, f"{self.path}.{key}", message, hint, related)

    def _cpus(self) -> float | None:
        node = self.node.get("cpus") or at(self.node, "deploy", "resources", "limits", "cpus")
        if node is None:
            return None
        count = self.read.attempt(node, f"{self.path}.cpus", lambda n: cast_float(go_text(n.value)), 0.0)
        if not 0 <= count <= _MOST_CPUS:
            wrong = "negative" if count < 0 else "so large" if count > 0 else "NaN"
            self._error("cpus", f"must not be {wrong}", node=node)
            return None
        return count or None

    def _cpu_times(self, cpus: float | None) -> tuple[int | None, int | None, int | None, int | None]:
        """Period and quota, and those of real time."""
        period = self._number("cpu_period") or None
        quota = self._number("cpu_quota", low=-1) or None
        for key, value in (("cpu_period", period), ("cpu_quota", quota)):
            if value is not None and cpus is not None:
                self._error(key, f"{key} and cpus exclude each other", "cpus is a quota too: say one of them", "cpus")
        if period is not None and not MIN_PERIOD_US <= period <= MAX_PERIOD_US:
            self._error("cpu_period", f"must be {_between(MIN_PERIOD_US, MAX_PERIOD_US)} microseconds")
        if quota is not None and -1 != quota < MIN_QUOTA_US:
            self._error("cpu_quota", f"must be at least {MIN_QUOTA_US} microseconds", "-1 is no quota")
        runtime = self._number("cpu_rt_runtime", low=-1) or None
        rt_period = self._number("cpu_rt_period") or None
        if runtime is not None and runtime > (rt_period or MAX_PERIOD_US):
            self._error("cpu_rt_runtime", "must not be longer than cpu_rt_period", None, "cpu_rt_period")
        return period, quota, runtime, rt_period

    def _memory(self) -> tuple[int | None, int | None, int | None]:
        """Memory, memory and swap together, and the reservation; None for what is not said."""
        deployed = at(self.node, "deploy", "resources")
        limit = self._bytes("mem_limit", at(deployed, "limits", "memory") if deployed is not None else None)
        reservation = self._bytes(
            "mem_reservation", at(deployed, "reservations", "memory") if deployed is not None else None
        )
        swap = self._bytes("memswap_limit", low=-1)
        if limit is not None and 0 < limit < MIN_MEMORY_BYTES:
            node = self.node.get("mem_limit") or at(self.node, "deploy", "resources", "limits", "memory")
            self._error("mem_limit", f"{limit} bytes is less than the minimum of 6 MiB", "write a unit: 64m", node=node)
        if reservation is not None and reservation < MIN_MEMORY_BYTES:
            self._error("mem_reservation", f"{reservation} bytes is less than the minimum of 6 MiB", "write a unit: 64m")
        if limit is not None and reservation is not None and reservation > limit:
            self._error("mem_reservation", "must not be above mem_limit", None, "mem_limit")
        if swap is not None and limit is None:
            if swap != -1:
                hint = "memswap_limit is memory and swap together: add mem_limit"
                self._error("memswap_limit", "memswap_limit needs mem_limit", hint)
            return None, None, reservation
        if swap is not None and limit is not None and -1 != swap < limit:
            hint = "it is memory and swap together; -1 is without a limit"
            self._error("memswap_limit", "must be at least mem_limit", hint, "mem_limit")
        return limit, swap, reservation

    def _bytes(self, key: str, other: Node | None = None, low: int = 0) -> int | None:
        node = self.node.get(key) or other
        if node is None or node.value in (None, ""):
            return None
        size = self.read.attempt(node, f"{self.path}.{key}", byte_size, 0)
        if size < low:
            self._error(key, "must not be negative", node=node)
        return size or None

    def _swappiness(self) -> int | None:
        node = self.node.get("mem_swappiness")
        if node is None or node.value in (None, ""):
            return None
        value = self.read.attempt(node, f"{self.path}.mem_swappiness", byte_size, -1)
        if not -1 <= value <= 100:
            self._error("mem_swappiness", "must be between 0 and 100")
        return value if value >= 0 else None

    def _cpuset(self) -> str | None:
        text = self.read.text(self.node, "cpuset")
        if text is None:
            return None
        for part in text.split(","):
            match = _CPU_RANGE.fullmatch(part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match is not None else (1, 0)
            if not first <= last <= MAX_CPU:
                self._error("cpuset", f'"{text}" is not a list of processors', 'write "0-3" or "0,2"')
                return None
        return text.replace(" ", "")


def _between(low: int, high: int) -> str:
    return f"at least {low}" if high >= 2**63 - 1 else f"between {low} and {high}"


_BLOCK_LISTS = (
    ("weight_device", "weight_device", "weight"),
    ("device_read_bps", "read_bps", "rate"),
    ("device_write_bps", "write_bps", "rate"),
    ("device_read_iops", "read_iops", "rate"),
    ("device_write_iops", "write_iops", "rate"),
)
"""Key, the value's field, and what there is of each device."""


def block_io(read: Reader, node: Node, path: str) -> BlockIo:
    config = node.get("blkio_config")
    if config is None:
        return BlockIo()
    place = f"{path}.blkio_config"
    weight = config.get("weight")
    own = read.attempt(weight, f"{place}.weight", _weight, 0) if weight is not None else 0
    lists = {
        name: tuple(_of_device(read, item, f"{place}.{key}[{n}]", what) for n, item in enumerate(read.each(config, key)))
        for key, name, what in _BLOCK_LISTS
    }
    return BlockIo(own, **lists)


def _weight(node: Node) -> int:
    value = whole_number(node)
    if value and not 10 <= value <= 1000:
        raise ValueError("must be between 10 and 1000")
    return value


def _of_device(read: Reader, item: Node, place: str, key: str) -> DeviceValue:
    path = read.text(item, "path") or ""
    if not path.startswith("/") or "\0" in path:
        read.error(item, place, f'"{path}" is not the path of a block device', "write path: /dev/sda")
    node = item.get(key)
    if node is None:
        read.error(item, place, f"has no {key}")
        return DeviceValue(path, 0)
    value = read.attempt(node, f"{place}.{key}", _weight if key == "weight" else byte_size, 0)
    if value < 0:
        read.error(node, f"{place}.{key}", "must not be negative")
    return DeviceValue(path, value)


def ulimits(read: Reader, node: Node, path: str) -> tuple[Ulimit, ...]:
    """``ulimits``: each name once, soft and hard; -1 is unlimited."""
    found = []
    item = node.get("ulimits")
    known = [name.removeprefix("RLIMIT_").lower() for name in NUMBERS]
    for name, limit in item.items() if item is not None else ():
        place = f"{path}.ulimits.{name}"
        if name not in known:
            read.error(limit, place, f'there is no limit "{name}"', f"there are {', '.join(known)}")
            continue
        both = [limit.get(key) if isinstance(limit.value, dict) else limit for key in ("soft", "hard")]
        numbers = [read.attempt(one, place, whole_number, 0) for one in both if one is not None]
        if len(numbers) != 2:
            continue
        soft, hard = numbers
        if not all(-1 <= number <= MOST_LIMIT for number in numbers):
            read.error(limit, place, "a limit is at least 0, or -1 for unlimited")
        elif hard != -1 and not -1 < soft <= hard:
            read.error(limit, place, f"the soft limit, {soft}, is above the hard limit, {hard}", "-1 is unlimited")
        found.append(Ulimit(name, soft, hard))
    return tuple(found)
