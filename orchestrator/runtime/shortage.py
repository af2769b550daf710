"""A run that the kernel's OOM killer ends on purpose (`kernel.oom`): which group, who carries it out, and what is left
when that one is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys

import trio

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import cgroup, jsontext, oom
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.spawn import spawn
from orchestrator.model.names import ContainerId
from orchestrator.runtime.bundle import group_path, open_bundle
from orchestrator.runtime.sandbox import ActiveRun

_ROOT = os.path.abspath(f"{__file__}/../../..")
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from orchestrator.kernel.oom import main; main()"
_MOST_TEXT = 4096


class Shortages:
    """Those of a project's containers. While there is one, no other limits are given to the container."""

    def __init__(self, site: Site, layout: Layout) -> None:
        self._site = site
        self._layout = layout
        self._under_way: dict[ContainerId, trio.Event] = {}

    async def bring_about(self, container: ContainerId, active: ActiveRun | None) -> None:
        """See `Runtime.exhaust`."""
        await self.over(container)
        if active is None or active.exit is not None:
            raise OperationError(f"container {container} is not running")
        pidfd = os.dup(active.pidfd)  # The run's is closed when it has ended.
        self._under_way[container] = over = trio.Event()
        try:
            await trio.to_thread.run_sync(run_out, self._site, container, self._layout, active.run.pid, pidfd)
        finally:
            os.close(pidfd)
            del self._under_way[container]
            over.set()

    async def over(self, container: ContainerId) -> None:
        """Returns when there is none."""
        while (over := self._under_way.get(container)) is not None:
            await over.wait()


def run_out(site: Site, container: ContainerId, layout: Layout, pid: int, pidfd: int) -> None:
    """Have process `pid` of the container killed; returns when it has ended, and limits are as they were. Blocking.
    Raises OperationError where the kernel kills nobody, HostError."""
    bundle = open_bundle(site, container)
    try:
        fcntl.flock(bundle, fcntl.LOCK_EX)
        group, version = _group(layout, group_path(site, container))
        if version == 1 and cgroup.counter(f"{group}/memory.oom_control", "oom_kill_disable"):
            hint = "processes wait for memory there instead of being killed: take it away to have one killed"
            raise OperationError(f"container {container} has oom_kill_disable", hint=hint)
        limits, score = oom.limits_of(group, version), oom.score_of(pid)
        wanted = oom.Shortage(group, version, limits, pid, score, os.dup(pidfd), bundle)
        try:
            _carry_out(wanted, container)
        finally:
            os.close(wanted.pidfd)
    except OSError as exc:
        raise _failed(container, f"{exc.filename or ''}: {exc.strerror}") from exc
    finally:
        os.close(bundle)


def _group(layout: Layout, relative_path: str) -> tuple[str, int]:
    if "memory" in layout.controllers:
        return f"{layout.controllers['memory']}/{relative_path}", 1
    group = f"{layout.unified}/{relative_path}"
    if not os.path.exists(f"{group}/{oom.FILES[2][0]}"):
        hint = "`pystack doctor` shows which cgroup controllers this machine offers"
        raise HostError("this machine cannot limit memory, so it cannot have a container run out of it", hint=hint)
    return group, 2


def _carry_out(wanted: oom.Shortage, container: ContainerId) -> None:
    """Raises HostError, OSError; the limits are restored then."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    about = {name: getattr(wanted, name) for name in ("group", "version", "limits", "pid", "score", "pidfd", "lock")}
    argv = (sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM, _ROOT, jsontext.dumps(about))
    try:
        child = spawn(argv, output=writer, keep=(wanted.pidfd, wanted.lock))
    finally:
        os.close(writer)
    with open(reader, "rb") as output:
        text = output.read(_MOST_TEXT).decode(errors="replace").strip()
    with contextlib.suppress(ChildProcessError):  # Whoever reaps all children of the supervisor was quicker.
        os.waitpid(child, 0)
    if text == oom.DONE:
        return
    if not text:
        oom.undo(wanted)  # It was killed.
    if not oom.ended(wanted.pidfd, 0):
        raise _failed(container, text.rpartition("\n")[2] or "who was to bring it about has been killed")


def _failed(container: ContainerId, why: str) -> HostError:
    return HostError(f"cannot have container {container} run out of memory: {why}")
