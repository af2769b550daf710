"""A service's limits as OCI ``linux.resources`` and ``process.rlimits`` (runtime-spec, config-linux.md). Pure.

What excludes what has been seen to when the stack was read (`compose.model.limits`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.errors import InputError
from orchestrator.model.limits import DeviceValue
from orchestrator.oci.inputs import Context

DEFAULT_PIDS = 2048
CPU_PERIOD_US = 100_000
MIN_MEMORY_BYTES = 6 * 1024 * 1024
MIN_CPUS = 0.01
_RLIM_INFINITY = (1 << 64) - 1


def memory(context: Context) -> dict[str, Any] | None:
    limits = context.service.limits
    limit = limits.memory_bytes
    if limit and limit < MIN_MEMORY_BYTES:
        raise InputError(
            f"{limit} bytes is less than the minimum of 6 MiB",
            hint="write a unit: mem_limit: 64m",
            place=f"{context.service.place}.mem_limit",
        )
    # As Docker: as much swap again as memory.
    swap = limits.memswap_bytes if limits.memswap_bytes is not None else 2 * limit if limit else None
    return _said(
        limit=limit or None,
        swap=swap if limit else None,
        reservation=limits.reservation_bytes,
        swappiness=limits.swappiness,
        disableOOMKiller=limits.oom_kill_disable or None,
    )


def pids(context: Context) -> dict[str, int]:
    limit = context.service.limits.pids
    return {"limit": DEFAULT_PIDS if limit is None else limit if limit > 0 else -1}


def cpu(context: Context) -> dict[str, Any] | None:
    limits = context.service.limits
    quota, period = limits.cpu_quota_us, limits.cpu_period_us
    if limits.cpus:
        if limits.cpus < MIN_CPUS:
            message = f"{limits.cpus:g} is less than the minimum of {MIN_CPUS:g}"
            raise InputError(message, place=f"{context.service.place}.cpus")
        quota, period = round(limits.cpus * CPU_PERIOD_US), CPU_PERIOD_US
    return _said(
        shares=limits.cpu_shares,
        quota=quota,
        period=period,
        realtimeRuntime=limits.realtime_runtime_us,
        realtimePeriod=limits.realtime_period_us,
        cpus=limits.cpuset,
    )


def block_io(context: Context) -> dict[str, Any] | None:
    wanted = context.service.limits.block_io
    lists = {
        "weightDevice": [{**_device(item, context), "weight": item.value} for item in wanted.weight_device if item.value],
        "throttleReadBpsDevice": _rates(wanted.read_bps, context),
        "throttleWriteBpsDevice": _rates(wanted.write_bps, context),
        "throttleReadIOPSDevice": _rates(wanted.read_iops, context),
        "throttleWriteIOPSDevice": _rates(wanted.write_iops, context),
    }
    return _said(weight=wanted.weight or None, **{key: items or None for key, items in lists.items()})


def _rates(items: Iterable[DeviceValue], context: Context) -> list[dict[str, int]]:
    return [{**_device(item, context), "rate": item.value} for item in items]


def _device(item: DeviceValue, context: Context) -> dict[str, int]:
    numbers = context.inputs.block_devices.get(item.path)
    if numbers is None:
        place = f"{context.service.place}.blkio_config"
        raise InputError(f'"{item.path}" is not a block device of this machine', hint="lsblk lists them", place=place)
    return {"major": numbers[0], "minor": numbers[1]}


def rlimits(context: Context) -> list[dict[str, Any]] | None:
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": _rlimit(limit.soft), "hard": _rlimit(limit.hard)}
        for limit in context.service.ulimits
    ] or None


def _rlimit(value: int) -> int:
    return _RLIM_INFINITY if value < 0 else value


def _said(**values: Any) -> dict[str, Any] | None:
    """Those that say something; None when none does."""
    return {key: value for key, value in values.items() if value is not None} or None
