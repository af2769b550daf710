"""The control group of a container that has no project: made, joined, frozen, killed, removed; limits by `runtime`'s table.

On v1 and hybrid layouts it is one group in each hierarchy that has a controller, and in the unified one.
"""

from __future__ import annotations

import errno
import os

from orchestrator.errors import HostError, InputError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.suppress import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_DEFAULT_PARENT = "pystack-oci"
_FREEZE_S = 5.0
_REMOVE_S = 5.0
_CPUSET = ("cpuset.cpus", "cpuset.mems")


def path_of(config: Mapping[str, Any], name: str) -> str:
    """Relative to each hierarchy's root. Raises InputError for one that leads elsewhere."""
    given = (config.get("linux") or {}).get("cgroupsPath") or ""
    parts = [part for part in given.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InputError(f"{given!r} leads out of the hierarchy", place="linux.cgroupsPath")
    if not given.startswith("/"):
        parts = [_DEFAULT_PARENT, *(parts or (name,))]
    if not parts:
        raise InputError(f"{given!r} is everybody's: a container needs a cgroup of its own", place="linux.cgroupsPath")
    return "/".join(parts)


class Group:
    def __init__(self, layout: Layout, path: str) -> None:
        self.layout = layout
        self.path = path

    @property
    def v1(self) -> dict[str, str]:
        return {name: f"{root}/{self.path}" for name, root in self.layout.controllers.items()}

    @property
    def directories(self) -> list[str]:
        return [f"{root}/{self.path}" for root in self.layout.roots()]

    def check_unused(self) -> None:
        """Whoever is in it would be killed with the container. Raises HostError."""
        if self.pids():
            hint = "give the container a cgroup of its own"
            raise HostError(f"somebody is in the cgroup {self.path} already", hint=hint, place="linux.cgroupsPath")

    def make(self) -> None:
        """Raises HostError."""
        self._make_all()
        if self.is_frozen():  # Nobody who is born there would get to say anything.
            raise HostError(f"the cgroup {self.path}, or one above it, is frozen", place="linux.cgroupsPath")

    def _make_all(self) -> None:
        try:
            if self._is_below_ours or "/" not in self.path:
                self._make()
            else:
                from orchestrator.runtime.cgroup_parents import parents_made

                with parents_made(self.layout, self.path, own=1):
                    self._make()
            if (cpuset := self.layout.controllers.get("cpuset")) is not None:
                _inherit(cpuset, self.path)
        except OSError as exc:
            raise HostError(f"cannot make the cgroup {self.path}: {exc.filename}: {exc.strerror}") from exc

    @property
    def _is_below_ours(self) -> bool:
        """Then all that is above it is ours, too."""
        return self.path.startswith(f"{_DEFAULT_PARENT}/")

    def _make(self) -> None:
        for directory in self.directories:
            cgroup.make(directory)

    def limit(self, resources: Mapping[str, Any], *, devices: bool) -> None:
        """Raises HostError. `devices`: the device list too."""
        # Regular expressions and typing come with these, and take as long as all else.
        if any(value for key, value in resources.items() if key != "devices"):
            from orchestrator.runtime.cgroup_limits import Places, apply
            from orchestrator.runtime.resources import settings_of

            apply(settings_of(resources), Places(self.layout, self.path, self.v1))
        if not devices or resources.get("devices") is None:
            return
        from orchestrator.runtime import device_rules

        rules = device_rules.rules_of(resources)
        if rules is None:
            return
        fd = None
        try:
            if self.layout.unified is not None:
                fd = os.open(f"{self.layout.unified}/{self.path}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            device_rules.enforce(rules, self.v1.get("devices"), fd)
        except OSError as exc:
            raise HostError(f"cannot set the device list of {self.path}: {exc.strerror}") from exc
        finally:
            if fd is not None:
                os.close(fd)

    def open_tasks(self, below: str = "") -> list[int]:
        """Of each v1 hierarchy the file by which a process of one thread enters (``tasks``, by writing 0). `below`: a group
        of the container's own, where there is one. Raises HostError."""
        found = []
        for directory in dict.fromkeys(self.v1.values()):
            try:
                found.append(os.open(f"{directory}{below}/tasks", os.O_WRONLY | os.O_CLOEXEC))
            except OSError as exc:
                if not below or exc.errno != errno.ENOENT:
                    raise _cannot_enter(f"{directory}{below}", exc) from exc
        return found

    def open_unified(self, below: str = "") -> int | None:
        """For CLONE_INTO_CGROUP; None: there is no such hierarchy, or group. Raises HostError."""
        if self.layout.unified is None:
            return None
        directory = f"{self.layout.unified}/{self.path}{below}"
        try:
            return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            if below and exc.errno == errno.ENOENT:
                return None
            raise _cannot_enter(directory, exc) from exc

    def join_unified(self, pid: int, below: str = "") -> None:
        """Raises HostError."""
        if self.layout.unified is None:
            return
        directory = f"{self.layout.unified}/{self.path}{below}"
        try:
            cgroup.write(f"{directory}/cgroup.procs", str(pid))
        except OSError as exc:
            if not below or exc.errno != errno.ENOENT:
                raise _cannot_enter(directory, exc) from exc

    def pids(self) -> list[int]:
        found: set[int] = set()
        for directory in self.directories:
            with suppress(OSError):
                found.update(cgroup.members(directory))
        return sorted(found - {0})

    def freeze(self) -> None:
        """Raises HostError."""
        try:
            if self.layout.unified is not None:
                done = cgroup.freeze(f"{self.layout.unified}/{self.path}", _FREEZE_S)
            elif "freezer" in self.layout.controllers:
                done = cgroup.freeze_v1(self.v1["freezer"], _FREEZE_S)
            else:
                raise HostError("pausing needs the cgroup controller freezer: this machine does not offer it")
        except OSError as exc:
            raise HostError(f"cannot freeze the cgroup {self.path}: {exc.strerror}") from exc
        if not done:
            self.thaw()
            raise HostError(f"the cgroup {self.path} does not freeze within {_FREEZE_S:g} s")

    def thaw(self) -> None:
        with suppress(FileNotFoundError):
            if self.layout.unified is not None:
                cgroup.write(f"{self.layout.unified}/{self.path}/cgroup.freeze", "0")
            if "freezer" in self.layout.controllers:
                cgroup.write(f"{self.v1['freezer']}/freezer.state", "THAWED")

    def is_frozen(self) -> bool:
        with suppress(OSError):
            if (
                self.layout.unified is not None
                and cgroup.counter(f"{self.layout.unified}/{self.path}/cgroup.events", "frozen") == 1
            ):
                return True
            if "freezer" in self.layout.controllers:
                return cgroup.read(f"{self.v1['freezer']}/freezer.state") != "THAWED"
        return False

    def kill(self) -> None:
        """Every process in it. Raises HostError."""
        try:
            if self.layout.unified is not None:
                cgroup.kill(f"{self.layout.unified}/{self.path}")
            elif "freezer" in self.layout.controllers:
                cgroup.kill_v1(self.v1["freezer"])
            else:
                for directory in self.directories:
                    cgroup.kill_until_empty(directory)
                    break
        except FileNotFoundError:
            return
        except OSError as exc:
            raise HostError(f"cannot kill the processes of {self.path}: {exc.strerror}") from exc

    def remove(self) -> None:
        """Kills what is in it, and removes it with those above it that are ours or that we have made, unless another one is
        in there. Raises HostError."""
        waited_s, pause_s = 0.0, 0.001
        while busy := [directory for directory in self.directories if not _removed(directory)]:
            if waited_s >= _REMOVE_S:
                raise HostError(f"the cgroup {busy[0]} is still busy {_REMOVE_S:g} s after its processes were killed")
            if waited_s == 0:
                self.kill()
            cgroup.pause(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, 0.05)
        if self._is_below_ours:
            parents = self.path.split("/")[:-1]
            for root in self.layout.roots():
                with suppress(OSError):
                    for count in range(len(parents), 0, -1):
                        os.rmdir("/".join((root, *parents[:count])))
        elif "/" in self.path:
            from orchestrator.runtime.cgroup_parents import remove_parents

            remove_parents(self.layout, self.path, own=1)


def _cannot_enter(directory: str, exc: OSError) -> HostError:
    return HostError(f"cannot enter the cgroup {directory}: {exc.strerror}")


def _removed(directory: str) -> bool:
    try:
        return cgroup.remove(directory)
    except OSError as exc:
        if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise HostError(f"cannot remove the cgroup {directory}: {exc.strerror}") from exc
        raise


def _inherit(root: str, path: str) -> None:
    """A new v1 cpuset group has no processors and no memory, and nothing can join it: as the group above has it."""
    group = root
    for part in path.split("/"):
        above, group = group, f"{group}/{part}"
        for name in _CPUSET:
            if not cgroup.read(f"{group}/{name}"):
                cgroup.write(f"{group}/{name}", cgroup.read(f"{above}/{name}"))
