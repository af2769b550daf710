"""What a container may use at the most, and what it is left when others want the same."""

from __future__ import annotations

from orchestrator.values import frozen


@frozen
class DeviceValue:
    """Of one block device, by its path on the host: a weight (10 to 1000), or bytes or operations a second."""

    path: str
    value: int


@frozen
class BlockIo:
    """``blkio_config``. `weight` 0: nothing said."""

    weight: int = 0
    weight_device: tuple[DeviceValue, ...] = ()
    read_bps: tuple[DeviceValue, ...] = ()
    write_bps: tuple[DeviceValue, ...] = ()
    read_iops: tuple[DeviceValue, ...] = ()
    write_iops: tuple[DeviceValue, ...] = ()

    def devices(self) -> tuple[str, ...]:
        """The paths that are named, each once."""
        lists = (self.weight_device, self.read_bps, self.write_bps, self.read_iops, self.write_iops)
        return tuple(dict.fromkeys(item.path for items in lists for item in items))


@frozen
class Limits:
    """None: no limit set by the stack (`pids`: the default of 2,048 applies; -1 means unlimited).

    `memswap_bytes`: memory and swap together; None: twice the memory, -1: unlimited. `cpuset`: as cpuset(7) lists them.
    `swappiness`: 0 to 100. Not all may be given together: `compose.model.limits` sees to that.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    realtime_runtime_us: int | None = None
    realtime_period_us: int | None = None
    cpuset: str | None = None
    reservation_bytes: int | None = None
    memswap_bytes: int | None = None
    swappiness: int | None = None
    oom_kill_disable: bool = False
    block_io: BlockIo = BlockIo()
