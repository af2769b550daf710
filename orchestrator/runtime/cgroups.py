"""A container's control group: its limits, who is in it, and how it ends.

One group ``pystack/KEY/CONTAINER`` in each hierarchy that is needed. Processes are placed in two ways: the **unified**
hierarchy by CLONE_INTO_CGROUP with `unified_fd` (free), the **v1** hierarchies by writing the pid to each of
`attach_paths`. On v2 the controllers are in the unified hierarchy too; on the hybrid layout limits are v1's, and the
unified group holds the membership, because only there ``cgroup.kill`` ends everything atomically. Each limit goes to
where its controller is, so that mixtures work as well.

The container's processes live in the group itself and probes and execs in sub-groups of the membership hierarchy only.
v2's "no internal processes" rule (cgroup-v2.rst) allows that as long as the container's own ``cgroup.subtree_control``
stays empty, which it does: what a probe uses counts against its container.

``memory`` and ``pids`` are always joined (usage belongs to its container, and an OOM kill must be seen); ``cpu`` and
``cpuset`` only when asked for: a real-time process cannot join a v1 cpu group.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import HostError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.device_filter import DeviceFilterRule
from orchestrator.model.names import CGROUP_ROOT, ProjectKey
from orchestrator.runtime import device_rules
from orchestrator.values import entity, field, frozen

REMOVE_TIMEOUT_S = 5.0
_ALWAYS = ("memory", "pids")
_DELEGATED = ("cpu", "memory", "pids")


@frozen
class _Setting:
    """One write: `controller` decides the hierarchy; the file is `v1` or `v2` there (None: v1 or v2 has no such thing).
    `optional`: a file that a kernel may lack (swap accounting) is passed over."""

    controller: str
    v1: tuple[str, str] | None
    v2: tuple[str, str] | None
    optional: bool = False


def _memory(resources: Mapping[str, Any]) -> list[_Setting]:
    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    settings = []
    if (reservation := memory.get("reservation")) is not None:
        v2_low = ("memory.low", _or_max(reservation))
        settings.append(_Setting("memory", ("memory.soft_limit_in_bytes", str(reservation)), v2_low))
    if limit is not None:
        settings.append(_Setting("memory", ("memory.limit_in_bytes", str(limit)), ("memory.max", _or_max(limit))))
    if swap is not None:
        # OCI's `swap` is memory and swap together, as v1 has it; v2 limits the swap alone.
        alone = "max" if swap < 0 or limit is None or limit < 0 else str(max(0, swap - limit))
        v1_both = ("memory.memsw.limit_in_bytes", str(swap))
        settings.append(_Setting("memory", v1_both, ("memory.swap.max", alone), optional=True))
    return settings


def _pids(resources: Mapping[str, Any]) -> list[_Setting]:
    limit = (resources.get("pids") or {}).get("limit")
    if limit is None:
        return []
    value = ("pids.max", str(limit) if limit > 0 else "max")
    return [_Setting("pids", value, value)]


def _cpu(resources: Mapping[str, Any]) -> list[_Setting]:
    cpu = resources.get("cpu") or {}
    shares, quota, period, cpus, mems = (cpu.get(key) for key in ("shares", "quota", "period", "cpus", "mems"))
    settings = []
    if shares:
        # The v1 range 2..262144 laid over the v2 range 1..10000.
        weight = 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142
        settings.append(_Setting("cpu", ("cpu.shares", str(shares)), ("cpu.weight", str(weight))))
    if period:
        settings.append(_Setting("cpu", ("cpu.cfs_period_us", str(period)), None))
    if quota:
        v2_max = f"{quota if quota > 0 else 'max'} {period or 100_000}"
        settings.append(_Setting("cpu", ("cpu.cfs_quota_us", str(quota)), ("cpu.max", v2_max)))
    for name, value in (("cpuset.cpus", cpus), ("cpuset.mems", mems)):
        if value:
            settings.append(_Setting("cpuset", (name, value), (name, value)))
    return settings


def _devices(resources: Mapping[str, Any]) -> list[_Setting]:
    """The list itself is no single write: see `device_rules`."""
    return [] if device_rules.rules_of(resources) is None else [_Setting("devices", None, None)]


_SETTINGS: tuple[Callable[[Mapping[str, Any]], list[_Setting]], ...] = (_memory, _pids, _cpu, _devices)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


@entity
class ContainerCgroup:
    """The groups of one container (or of one probe in it). Owns `unified_fd`; `close` it, or use as a context manager.

    `unified_fd`: the directory for CLONE_INTO_CGROUP, None without a unified hierarchy. `attach_paths`: the
    cgroup.procs files of the v1 hierarchies to write the pid to. `unenforced`: limits that this machine has no
    controller for; only the pids limit may end there, a memory or cpu limit that cannot be kept is an error.
    """

    layout: Layout
    relative_path: str
    unified_fd: int | None
    attach_paths: tuple[str, ...]
    unenforced: tuple[str, ...] = ()
    _directories: tuple[str, ...] = field(default=(), repr=False)
    """The groups that `remove` removes, the unified one first."""
    _limits: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Controller -> the group that has its limit, v1 hierarchies only."""

    @classmethod
    def create(cls, layout: Layout, relative_path: str, resources: Mapping[str, Any]) -> ContainerCgroup:
        """Make the groups and set the limits of an OCI ``linux.resources``; groups left over from before are reused and
        their limits replaced. Raises HostError; nothing is left behind then."""
        settings = [setting for compile_ in _SETTINGS for setting in compile_(resources)]
        try:
            return cls._create(layout, relative_path, settings, device_rules.rules_of(resources))
        except OSError as exc:
            for root in layout.roots():
                # Never kills: groups that were there before and have processes in them stay.
                with contextlib.suppress(OSError):
                    cgroup.remove(f"{root}/{relative_path}")
            raise HostError(
                f"cannot make the cgroup {relative_path}: {exc.filename or ''}: {exc.strerror}",
                hint="pystack doctor shows which cgroup controllers this machine offers",
            ) from exc

    @classmethod
    def _create(
        cls, layout: Layout, relative_path: str, settings: list[_Setting], devices: list[DeviceFilterRule] | None
    ) -> ContainerCgroup:
        wanted = {*_ALWAYS, *(setting.controller for setting in settings)}
        v1 = {name: f"{layout.controllers[name]}/{relative_path}" for name in sorted(wanted) if name in layout.controllers}
        unified = f"{layout.unified}/{relative_path}" if layout.unified is not None else None
        if unified is None and "freezer" in layout.controllers:
            v1["freezer"] = f"{layout.controllers['freezer']}/{relative_path}"
        directories = tuple(dict.fromkeys((*([unified] if unified else ()), *v1.values())))
        for directory in directories:
            _make(directory)
            if directory == v1.get("cpuset"):
                _inherit_cpuset(layout.controllers["cpuset"], relative_path)
        unenforced = _apply(settings, v1, layout, relative_path)
        fd = _open_directory(unified) if unified is not None else None
        try:
            if devices is not None:
                device_rules.enforce(devices, v1.get("devices"), fd)
        except OSError:
            if fd is not None:
                os.close(fd)
            raise
        attach = tuple(f"{path}/cgroup.procs" for path in dict.fromkeys(v1.values()))
        return cls(layout, relative_path, fd, attach, unenforced, directories, v1)

    def probe_group(self, name: str) -> ContainerCgroup:
        """A sub-group for an exec or a probe, so that it can be killed whole; it shares the container's limits.
        Raises HostError."""
        try:
            return self._probe_group(name)
        except OSError as exc:
            raise HostError(f"cannot make the cgroup {self.relative_path}/{name}: {exc.strerror}") from exc

    def _probe_group(self, name: str) -> ContainerCgroup:
        if self.unified_fd is not None and self.layout.unified is not None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self.unified_fd)
            directory = f"{self.layout.unified}/{self.relative_path}/{name}"
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.unified_fd)
            return self._sub(name, fd, self.attach_paths, directory)
        own = self._membership()
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{own}/{name}", 0o755)
        others = tuple(path for path in self.attach_paths if path != f"{own}/cgroup.procs")
        return self._sub(name, None, (f"{own}/{name}/cgroup.procs", *others), f"{own}/{name}")

    def _sub(self, name: str, fd: int | None, attach: tuple[str, ...], directory: str) -> ContainerCgroup:
        return ContainerCgroup(
            self.layout, f"{self.relative_path}/{name}", fd, attach, (), (directory,), self._limits
        )

    def _membership(self) -> str:
        """The group that lists every process: unified, else the freezer's, else the first."""
        if self.layout.unified is not None:
            return f"{self.layout.unified}/{self.relative_path}"
        return next((path for path in self._directories if path == self._limits.get("freezer")), self._directories[0])

    def kill(self) -> None:
        """End every process in it at once. Does not wait for their end. Raises HostError."""
        group = self._membership()
        try:
            if self.layout.unified is not None:
                cgroup.kill(group)
            elif "freezer" in self.layout.controllers:
                cgroup.kill_v1(group)
            else:
                cgroup.kill_until_empty(group)
        except OSError as exc:
            raise HostError(f"cannot kill the processes of the cgroup {group}: {exc.strerror}") from exc

    def populated(self) -> bool:
        """Whether a process is in it or below it."""
        group = self._membership()
        if self.layout.unified is not None:
            return not cgroup.wait_unpopulated(group, 0)
        return bool(cgroup.members(group))

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory since it was made; 0 when unknown."""
        with contextlib.suppress(OSError):
            if (v1 := self._limits.get("memory")) is not None:
                return cgroup.counter(f"{v1}/memory.oom_control", "oom_kill")
            if self.layout.unified is not None:
                return cgroup.counter(f"{self.layout.unified}/{self.relative_path}/memory.events", "oom_kill")
        return 0

    def remove(self, timeout_s: float = REMOVE_TIMEOUT_S) -> None:
        """Remove its groups, children first, and close. Processes still in them are killed; their end is awaited for
        at most `timeout_s` (blocking: call it in a thread unless the container is known to be empty).
        Raises HostError when a group stays busy; the others are removed nevertheless."""
        self.close()
        _remove_all(self.layout, self._directories, self.kill, timeout_s)

    def close(self) -> None:
        """Close `unified_fd`. Idempotent."""
        fd, self.unified_fd = self.unified_fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> ContainerCgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_existing(layout: Layout, relative_path: str) -> ContainerCgroup:
    """The groups of `relative_path` as they are now, for adoption and for removing what was left over: hierarchies
    without the group are left out, and `unified_fd` is None when the unified group is missing."""
    limits = {
        name: f"{root}/{relative_path}"
        for name, root in layout.controllers.items()
        if os.path.isdir(f"{root}/{relative_path}")
    }
    unified = f"{layout.unified}/{relative_path}" if layout.unified is not None else None
    fd = None
    if unified is not None:
        with contextlib.suppress(FileNotFoundError):
            fd = _open_directory(unified)
    found = (*([unified] if unified is not None else ()), *limits.values())
    attach = tuple(f"{path}/cgroup.procs" for path in dict.fromkeys(limits.values()))
    return ContainerCgroup(layout, relative_path, fd, attach, (), tuple(dict.fromkeys(found)), limits)


def find_leftovers(layout: Layout, key: ProjectKey) -> tuple[str, ...]:
    """Names of the containers of project `key` that have a group in any hierarchy, sorted."""
    found: set[str] = set()
    for root in layout.roots():
        found.update(cgroup.children(f"{root}/{CGROUP_ROOT}/{key}"))
    return tuple(sorted(found))


def remove_project(layout: Layout, key: ProjectKey, timeout_s: float = REMOVE_TIMEOUT_S) -> None:
    """Remove all groups of project `key`, killing what is in them, and ``pystack`` itself when it was the last.
    Nothing happens for what is gone already. Raises HostError when something stays busy."""
    open_existing(layout, f"{CGROUP_ROOT}/{key}").remove(timeout_s)
    for root in layout.roots():
        # ENOTEMPTY, EBUSY: another project is there. A project that is just being made re-makes the directory.
        with contextlib.suppress(OSError):
            os.rmdir(f"{root}/{CGROUP_ROOT}")


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _make(directory: str) -> None:
    """mkdir, and only if that fails its parents: one system call for all but the first container of a project.
    Tries again when another project's end removes the common parent in between."""
    for _ in range(10):
        try:
            os.mkdir(directory, 0o755)
            return
        except FileExistsError:
            return
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.makedirs(os.path.dirname(directory), 0o755)
    os.mkdir(directory, 0o755)


def _apply(settings: list[_Setting], v1: Mapping[str, str], layout: Layout, relative_path: str) -> tuple[str, ...]:
    """Write each setting where its controller is; returns the limits that cannot be kept here."""
    unenforced = []
    for setting in settings:
        if (group := v1.get(setting.controller)) is not None:
            if setting.v1 is not None:
                _write_v1(group, setting)
        elif layout.unified is not None and setting.v2 is not None:
            try:
                _write_v2(layout.unified, relative_path, setting)
            except OSError as exc:
                if setting.controller == "pids" and exc.errno in (errno.ENOENT, errno.EBUSY, errno.EOPNOTSUPP):
                    unenforced.append("pids")
                else:
                    raise
        elif layout.unified is None:
            if setting.controller != "pids":
                raise OSError(errno.ENOENT, "the controller is not mounted", setting.controller)
            unenforced.append("pids")
    return tuple(unenforced)


def _write_v1(group: str, setting: _Setting) -> None:
    assert setting.v1 is not None
    name, value = setting.v1
    try:
        cgroup.write(f"{group}/{name}", value)
    except FileNotFoundError:
        if not setting.optional:
            raise
    except OSError as exc:
        # A group left over from before: memory.limit_in_bytes must never exceed memory.memsw.limit_in_bytes.
        if exc.errno != errno.EINVAL or name != "memory.limit_in_bytes":
            raise
        cgroup.write(f"{group}/memory.memsw.limit_in_bytes", "-1")
        cgroup.write(f"{group}/{name}", value)


def _write_v2(unified: str, relative_path: str, setting: _Setting) -> None:
    """The file exists only when every ancestor delegates the controller: enabled on the first miss, not every time."""
    assert setting.v2 is not None
    name, value = setting.v2
    path = f"{unified}/{relative_path}/{name}"
    try:
        cgroup.write(path, value)
        return
    except FileNotFoundError:
        _delegate(unified, relative_path, setting.controller)
    try:
        cgroup.write(path, value)
    except FileNotFoundError:
        if not setting.optional:
            raise OSError(errno.ENOENT, "the controller is not available", setting.controller) from None


def _delegate(unified: str, relative_path: str, controller: str) -> None:
    """Enable `controller` and the usual ones on the way down to `relative_path`, not in it (cgroup-v2.rst, "Top-down
    Constraint")."""
    wanted = sorted({controller, *_DELEGATED} & cgroup.available(unified))
    group = unified
    for part in relative_path.split("/"):
        enabled = cgroup.read(f"{group}/cgroup.subtree_control").split()
        if absent := [name for name in wanted if name not in enabled]:
            cgroup.write(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name in absent))
        group = f"{group}/{part}"


def _inherit_cpuset(root: str, relative_path: str) -> None:
    """A new v1 cpuset group has no cpus and no memory nodes, and nothing can join it: take the parent's."""
    group = root
    for part in relative_path.split("/"):
        parent, group = group, f"{group}/{part}"
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not cgroup.read(f"{group}/{name}"):
                cgroup.write(f"{group}/{name}", cgroup.read(f"{parent}/{name}"))


def _remove_all(layout: Layout, directories: tuple[str, ...], kill: Callable[[], None], timeout_s: float) -> None:
    """Remove each group; kill and wait only if one is busy."""
    busy = [path for path in directories if not _removed(path)]
    if not busy:
        return
    kill()
    remaining_s, pause_s = timeout_s, 0.001
    if layout.unified is not None and busy[0].startswith(f"{layout.unified}/"):
        # The unified hierarchy tells when the last process has gone; it leaves all hierarchies at the same moment.
        cgroup.wait_unpopulated(busy[0], timeout_s)
    while busy := [path for path in busy if not _removed(path)]:
        if remaining_s <= 0:
            raise HostError(
                f"the cgroup {busy[0]} is still busy {timeout_s:g} s after its processes were killed",
                hint="a process in uninterruptible sleep (state D) keeps it: see its cgroup.procs",
            )
        cgroup.pause(pause_s)
        remaining_s, pause_s = remaining_s - pause_s, min(pause_s * 2, 0.05)


def _removed(path: str) -> bool:
    try:
        return cgroup.remove(path)
    except OSError as exc:
        raise HostError(f"cannot remove the cgroup {path}: {exc.strerror}") from exc
