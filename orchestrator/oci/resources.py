"""A service's limits as an OCI ``linux.resources`` (runtime-spec, config-linux.md). Pure."""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.oci.inputs import Context

DEFAULT_PIDS = 2048
CPU_PERIOD_US = 100_000
MIN_MEMORY_BYTES = 6 * 1024 * 1024
MIN_CPUS = 0.01


def memory(context: Context) -> dict[str, int] | None:
    limit = context.service.limits.memory_bytes
    if not limit:
        return None
    if limit < MIN_MEMORY_BYTES:
        raise InputError(
            f"{limit} bytes is less than the minimum of 6 MiB",
            hint="write a unit: mem_limit: 64m",
            place=f"{context.service.place}.mem_limit",
        )
    # As Docker: as much swap again as memory.
    return {"limit": limit, "swap": 2 * limit}


def pids(context: Context) -> dict[str, int]:
    limit = context.service.limits.pids
    return {"limit": DEFAULT_PIDS if limit is None else limit if limit > 0 else -1}


def cpu(context: Context) -> dict[str, int] | None:
    cpus = context.service.limits.cpus
    if not cpus:
        return None
    if cpus < MIN_CPUS:
        raise InputError(f"{cpus:g} is less than the minimum of {MIN_CPUS:g}", place=f"{context.service.place}.cpus")
    return {"quota": round(cpus * CPU_PERIOD_US), "period": CPU_PERIOD_US}
