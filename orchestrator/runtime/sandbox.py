"""What the supervisor holds of a container (`Sandbox`) and of the run in it (`ActiveRun`)."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import trio

from orchestrator.contracts.host import Host
from orchestrator.contracts.runtime import ExecSpec, Exit, Run, SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.seccomp import compile_filter
from orchestrator.model.names import ContainerId
from orchestrator.oci.namespaces import HOST_IDS, ids_of, own_namespaces
from orchestrator.oci.terms import ANNOTATION_INIT
from orchestrator.runtime.bundle import bundle_path
from orchestrator.runtime.cgroups import ENTRANCE, ContainerCgroup
from orchestrator.runtime.exec import exec_process
from orchestrator.runtime.program import Program
from orchestrator.runtime.programs import Context, Hierarchy, compile_exec, compile_start
from orchestrator.values import entity, field, replace

_LOGS_SINCE = 5
_EXEC = "exec-"
"""What the name of an exec's group begins with."""


@entity
class Sandbox:
    """`layers`: the monitor's numbers of `programs.layer_paths`. `program` and `context`: made at need, and made anew for
    another spec or another monitor."""

    site: Site
    host: Host
    spec: SandboxSpec
    cgroup: ContainerCgroup
    layers: tuple[int, ...] = ()
    starting: bool = False
    _compiled: tuple[object, tuple[Program, bytes]] | None = None
    _repeated: tuple[tuple[int, bool, tuple[str, ...]], tuple[Program, bytes, tuple[int, int]]] | None = None
    _probe: ContainerCgroup | None = None
    _left: list[ContainerCgroup] | None = None
    _spare: ContainerCgroup | None = None
    _spoiled: set[str] = field(default_factory=set)
    _procs: dict[str, int] = field(default_factory=dict)

    @property
    def container(self) -> ContainerId:
        return self.spec.container

    @property
    def ids(self) -> IdMap:
        """The host's ids of the container's ids."""
        return ids_of(self.spec.config, self.site.ids)

    def renew(self, layers: tuple[int, ...]) -> None:
        self.layers = layers
        self._compiled = None

    def context(self, owners: Mapping[str, str] = MappingProxyType({})) -> Context:
        controllers = self.host.cgroups.controllers
        roots = {path.removesuffix(f"/{self.cgroup.relative_path}/{ENTRANCE}") for path in self.cgroup.attach_paths}
        return Context(
            bundle_path(self.site, self.container),
            self.ids.host_base,
            self.layers,
            self.cgroup.unified_fd is not None,
            tuple(
                Hierarchy(posixpath.basename(root), tuple(name for name, at in controllers.items() if at == root))
                for root in sorted(roots)
            ),
            self.host.last_capability,
            partial(compile_filter, arch=self.host.machine),
            self.host.held if self.ids is HOST_IDS else -1,
            owners,
        )

    @property
    def has_init(self) -> bool:
        return (self.spec.config.get("annotations") or {}).get(ANNOTATION_INIT) == "true"

    @property
    def terminal(self) -> bool:
        """Whether its program has a terminal of its own, whoever starts it."""
        return bool(self.spec.config["process"].get("terminal"))

    def program(
        self,
        version: int,
        *,
        terminal: bool = False,
        size: tuple[int, int] = (0, 0),
        owners: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[Program, bytes]:
        """Of a new run, and its encoding, for a monitor that speaks `version`. See `compile_start`, `Context`."""
        key = version, terminal, size, tuple(owners.items())
        if self._compiled is None or self._compiled[0] != key:
            program = compile_start(self.spec, self.context(owners), terminal=terminal, size=size).known_to(version)
            self._compiled = key, (program, program.encode())
        return self._compiled[1]

    def log_policy(self, version: int) -> dict[str, int]:
        """For a monitor that speaks `version`: before 5 it takes no care of readers. Raises OperationError when it cannot
        do what was asked for."""
        log = self.spec.log
        if version >= _LOGS_SINCE:
            return {"max_bytes": log.max_bytes, "max_files": log.max_files, "kept": log.kept, "held_bytes": log.held_bytes}
        if not log.kept:
            message = f"cannot keep no log of {self.container}: the monitor of this project was started by an older pystack"
            raise OperationError(message, hint="`pystack down` and `pystack up` start a new one")
        return {"max_bytes": log.max_bytes if log.held_bytes else 0, "max_files": log.max_files}

    def exec_program(
        self, spec: ExecSpec, pid: int, version: int, *, minded: bool = False
    ) -> tuple[Program, bytes, tuple[int, int]]:
        """Of a further process, for a monitor that speaks `version`, and the host ids of its user; that of a probe, which
        is the same each time, is kept. `minded`: see `monitor.final`. Raises CommandError."""
        plain = replace(spec, stdio=None) == ExecSpec(spec.argv)
        key = version, minded, spec.argv
        if plain and self._repeated is not None and self._repeated[0] == key:
            return self._repeated[1]
        config = self.spec.config
        process = exec_process(config, spec, pid)
        size = spec.rows, spec.columns
        program = compile_exec(
            process, config, self.context(), terminal=spec.tty, size=size, minded=minded
        ).known_to(version)
        made = program, program.encode(), self._host_ids(process)
        if plain:
            self._repeated = key, made
        return made

    def exec_group(self, name: str = "") -> ContainerCgroup:
        """A group for a further process, until `let_go`: that of one before it, or a new one. Those that something was left
        running in go when that has ended: it is looked at here, so there are no more than lived at the last exec. Raises
        HostError."""
        if self._left is None:  # Nothing of ours runs yet: all that is there is from before.
            self._left = [self.cgroup.probe_group(found) for found in self.cgroup.below(_EXEC)]
            for group in self._left:
                group.close()
        self._left = [group for group in self._left if not self._removed(group)]
        if name or self._spare is None:
            return self.cgroup.probe_group(f"{_EXEC}{name}{os.urandom(6).hex()}")
        group, self._spare = self._spare, None
        return group

    def let_go(self, group: ContainerCgroup, *, again: bool) -> None:
        """An exec is over. What it left running in the background lives on in its group (`exec_group`). `again`: an empty
        one is kept for the next."""
        if again and self._spare is None and group.relative_path not in self._spoiled:
            with contextlib.suppress(HostError, OSError):
                if not group.populated():
                    self._spare = group
                    return
        if not self._removed(group):
            group.close()
            self._left = [*(self._left or ()), group]
        self._forget_procs(group)

    def end_named(self, name: str) -> None:
        """What was executed under that name, and still is there. Raises HostError."""
        for found in self.cgroup.below(f"{_EXEC}{name}"):
            group = self.cgroup.probe_group(found)
            if group.populated():
                self.kill(group)
            self.let_go(group, again=False)

    def _removed(self, group: ContainerCgroup) -> bool:
        """Whether it is gone, closed too: nothing runs in it."""
        with contextlib.suppress(HostError, OSError):
            if not group.populated():
                group.remove(0)
                self._spoiled.discard(group.relative_path)
                return True
        return False

    def _forget_procs(self, group: ContainerCgroup) -> None:
        for path in [path for path in self._procs if f"/{group.relative_path}/" in path]:
            os.close(self._procs.pop(path))

    def probe_group(self) -> ContainerCgroup:
        """One group for all probes of the container, which are one at a time. Made anew when it was killed, and at first:
        a supervisor before us may have killed it, or have left a probe in it."""
        if self._probe is None or self._probe.relative_path in self._spoiled:
            group = self._probe or self.cgroup.probe_group("probe")
            if group.populated():
                self.kill(group)
            with contextlib.suppress(HostError):  # Its processes have not ended yet: the next probe tries again.
                group.remove(0)
                self._forget_procs(group)
                self._spoiled.discard(group.relative_path)
            self._probe = self.cgroup.probe_group("probe")
        return self._probe

    def placement(self, group: ContainerCgroup) -> tuple[list[str], list[int]]:
        """Names and descriptors that put a process into `group`: `cgroup`, and `procs` for each v1 hierarchy. They stay
        the sandbox's."""
        names: list[str] = []
        fds: list[int] = []
        paths = list(group.attach_paths)
        if group.unified_fd is not None and group.relative_path in self._spoiled:
            paths.append(f"{self.host.cgroups.unified}/{group.relative_path}/cgroup.procs")
        elif group.unified_fd is not None:
            names.append("cgroup")
            fds.append(group.unified_fd)
        for path in paths:
            if path not in self._procs:
                self._procs[path] = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            names.append("procs")
            fds.append(self._procs[path])
        return names, fds

    def spoil(self, group: ContainerCgroup) -> bool:
        """Remember that a process that is born into `group` may be killed at birth (docs/runtime.md, "cgroup.kill and
        CLONE_INTO_CGROUP"); it is entered by cgroup.procs from then on. False if that was known."""
        new = group.unified_fd is not None and group.relative_path not in self._spoiled
        self._spoiled.add(group.relative_path)
        if group is self.cgroup and self._probe is not None:
            self._spoiled.add(self._probe.relative_path)  # Killed with it.
        if group is self.cgroup and self._spare is not None:
            self._spoiled.add(self._spare.relative_path)
        return new

    def kill(self, group: ContainerCgroup) -> None:
        """Raises HostError."""
        self.spoil(group)
        group.kill()

    @property
    def log_owner(self) -> tuple[int, int]:
        """Host ids of the container's user: the owner of its log pipes, so that /dev/stdout can be opened again."""
        return self._host_ids(self.spec.config["process"])

    def _host_ids(self, process: Mapping[str, Any]) -> tuple[int, int]:
        user = process.get("user") or {}
        return self.ids.outside(int(user.get("uid", 0))), self.ids.outside(int(user.get("gid", 0)))

    def close(self) -> None:
        """Let go of the descriptors; the groups stay."""
        for group in (self._probe, self._spare):
            if group is not None:
                group.close()
        self._probe = self._spare = None
        for fd in self._procs.values():
            os.close(fd)
        self._procs.clear()
        self.cgroup.close()


def has_own_processes(spec: SandboxSpec) -> bool:
    """Whether the end of its run is the end of all its processes: it has a pid namespace of its own."""
    return "pid" in own_namespaces(spec.config) and "pid" not in spec.shares


@entity
class ActiveRun:
    """A run that has not ended, as far as we know. Owns `pidfd` and `pipes` (stream -> read end of the log pipe, or the
    master of its terminal): with them a new monitor can be given what a killed one had. `killed`: by us."""

    run: Run
    pidfd: int
    pipes: dict[int, int]
    echo: Mapping[str, Any]
    log: Mapping[str, int]
    killed: bool = False
    ended: trio.Event = field(default_factory=trio.Event)
    exit: Exit | None = None

    def finish(self, exit_: Exit) -> None:
        self.exit = exit_
        self.release()
        self.ended.set()

    def release(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes.clear()
