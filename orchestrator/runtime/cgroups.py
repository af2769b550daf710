"""A container's control group: its limits, who is in it, and how it ends.

One group ``pystack/KEY/CONTAINER`` in each hierarchy that is needed. Processes are placed in two ways: the **unified**
hierarchy by CLONE_INTO_CGROUP with `unified_fd` (free), the **v1** hierarchies by writing "0", each process for itself, to
each of `attach_paths`. On v2 the controllers are in the unified hierarchy too; on the hybrid layout limits are v1's, and
the unified group holds the membership, because only there ``cgroup.kill`` ends everything atomically. Each limit goes to
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
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.errors import HostError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.device_filter import DeviceFilterRule
from orchestrator.model.names import CGROUP_ROOT, ProjectKey
from orchestrator.runtime import device_rules
from orchestrator.runtime.cgroup_limits import Places, apply, change, delegate
from orchestrator.runtime.resources import Setting, settings_of
from orchestrator.values import entity, field

REMOVE_TIMEOUT_S = 5.0
ENTRANCE = "tasks"
"""Of a v1 group. A thread that enters by it alone needs no lock that all forks and exits of the machine hold, as it does
by cgroup.procs."""
_JOIN_ROUNDS = 100
_ALWAYS = ("memory", "pids")


@entity
class ContainerCgroup:
    """The groups of one container (or of one probe in it). Owns `unified_fd`; `close` it, or use as a context manager.

    `unified_fd`: the directory for CLONE_INTO_CGROUP, None without a unified hierarchy. `attach_paths`: the
    files of the v1 hierarchies by which a process of one thread enters. `unenforced`: limits that this machine has no
    controller for; only the pids limit may end there, a memory or cpu limit that cannot be kept is an error. `fresh`: it
    was made just now, and has counted nothing.
    """

    layout: Layout
    relative_path: str
    unified_fd: int | None
    attach_paths: tuple[str, ...]
    unenforced: tuple[str, ...] = ()
    fresh: bool = False
    _directories: tuple[str, ...] = field(default=(), repr=False)
    """The groups that `remove` removes, the unified one first."""
    _limits: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Controller -> the group that has its limit, v1 hierarchies only."""

    @classmethod
    def create(cls, layout: Layout, relative_path: str, resources: Mapping[str, Any]) -> ContainerCgroup:
        """Make the groups and set the limits of an OCI ``linux.resources``; groups left over from before are reused and
        their limits replaced. Raises HostError; nothing is left behind then."""
        settings = settings_of(resources)
        try:
            return cls._create(layout, relative_path, settings, device_rules.rules_of(resources))
        except (OSError, HostError) as exc:
            for root in layout.roots():
                # Never kills: groups that were there before and have processes in them stay.
                with contextlib.suppress(OSError):
                    cgroup.remove(f"{root}/{relative_path}")
            if isinstance(exc, HostError):
                raise
            raise HostError(
                f"cannot make the cgroup {relative_path}: {exc.filename or ''}: {exc.strerror}",
                hint="pystack doctor shows which cgroup controllers this machine offers",
            ) from exc

    @classmethod
    def _create(
        cls, layout: Layout, relative_path: str, settings: list[Setting], devices: list[DeviceFilterRule] | None
    ) -> ContainerCgroup:
        v1 = _groups(layout, relative_path, settings, devices is not None)
        unified = f"{layout.unified}/{relative_path}" if layout.unified is not None else None
        if unified is None and "freezer" in layout.controllers:
            v1["freezer"] = f"{layout.controllers['freezer']}/{relative_path}"
        directories = tuple(dict.fromkeys((*([unified] if unified else ()), *v1.values())))
        fresh = True
        for directory in directories:
            fresh = cgroup.make(directory) and fresh
            if directory == v1.get("cpuset"):
                _inherit_cpuset(layout.controllers["cpuset"], relative_path)
        unenforced = apply(settings, Places(layout, relative_path, v1))
        if unified is not None and "memory" not in layout.controllers and not os.path.exists(f"{unified}/memory.current"):
            with contextlib.suppress(OSError):  # Not on this machine: what is used is not known then.
                delegate(layout.unified or "", relative_path, "memory")
        fd = _open_directory(unified) if unified is not None else None
        try:
            if devices is not None:
                device_rules.enforce(devices, v1.get("devices"), fd)
        except OSError:
            if fd is not None:
                os.close(fd)
            raise
        attach = tuple(f"{path}/{ENTRANCE}" for path in dict.fromkeys(v1.values()))
        return cls(layout, relative_path, fd, attach, unenforced, fresh, directories, v1)

    def update(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Change the limits of an OCI ``linux.resources`` to another's while its processes live; they join a v1 hierarchy
        that was not needed until now. Raises HostError, and the limits are the old ones then."""
        old, new = settings_of(before), settings_of(after)
        groups = _groups(self.layout, self.relative_path, new) | dict(self._limits)
        places = Places(self.layout, self.relative_path, groups)
        added = [path for path in dict.fromkeys(groups.values()) if path not in self._directories]
        try:
            for path in added:
                cgroup.make(path)
                if path == groups.get("cpuset"):
                    _inherit_cpuset(self.layout.controllers["cpuset"], self.relative_path)
            change(old, new, places)
            for path in added:
                self._join(path)
        except (OSError, HostError) as exc:
            with contextlib.suppress(OSError, HostError):
                change(new, old, places)
            if isinstance(exc, HostError):
                raise
            message = f"cannot change the limits of {self.relative_path}: {exc.filename or ''}: {exc.strerror}"
            raise HostError(message) from exc
        self._directories = (*self._directories, *added)
        self._limits = groups
        self.attach_paths = (*self.attach_paths, *(f"{path}/{ENTRANCE}" for path in added))

    def _join(self, path: str) -> None:
        """All its processes, also those that are born meanwhile: a child is born where its parent is."""
        for _ in range(_JOIN_ROUNDS):
            outside = set(cgroup.members(self._membership())) - set(cgroup.members(path)) - {0}
            if not outside:
                return
            for pid in outside:
                with contextlib.suppress(ProcessLookupError):
                    cgroup.write(f"{path}/cgroup.procs", str(pid))
        raise OSError(errno.EBUSY, "processes keep appearing outside", path)

    def probe_group(self, name: str) -> ContainerCgroup:
        """A sub-group for an exec or a probe, so that it can be killed whole; it shares the container's limits.
        Raises HostError."""
        try:
            return self._probe_group(name)
        except OSError as exc:
            raise HostError(f"cannot make the cgroup {self.relative_path}/{name}: {exc.strerror}") from exc

    def below(self, prefix: str) -> list[str]:
        """The sub-groups whose names begin so, sorted."""
        with os.scandir(self._membership()) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())

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
        others = tuple(path for path in self.attach_paths if path != f"{own}/{ENTRANCE}")
        return self._sub(name, None, (f"{own}/{name}/{ENTRANCE}", *others), f"{own}/{name}")

    def _sub(self, name: str, fd: int | None, attach: tuple[str, ...], directory: str) -> ContainerCgroup:
        return ContainerCgroup(
            self.layout, f"{self.relative_path}/{name}", fd, attach, (), False, (directory,), self._limits
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

    def kill_but(self, spared: int) -> None:
        """End every process in it but that one, one by one. Raises HostError when new ones keep appearing."""
        group = self._membership()
        try:
            cgroup.kill_until_empty(group, spared)
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
    attach = tuple(f"{path}/{ENTRANCE}" for path in dict.fromkeys(limits.values()))
    return ContainerCgroup(layout, relative_path, fd, attach, (), False, tuple(dict.fromkeys(found)), limits)


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


def _groups(layout: Layout, relative_path: str, settings: Iterable[Setting], devices: bool = False) -> dict[str, str]:
    """Controller -> its group, of the v1 hierarchies that are needed. `devices`: there is a list of them."""
    wanted = {*_ALWAYS, *(setting.controller for setting in settings), *(("devices",) if devices else ())}
    return {name: f"{layout.controllers[name]}/{relative_path}" for name in sorted(wanted) if name in layout.controllers}


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


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
