"""A run that the kernel's OOM killer ends on purpose (`kernel.oom`): which group, who carries it out, and what is left
when that one is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import sys

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import cgroup, jsontext, oom
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.spawn import spawn
from orchestrator.model.names import ContainerId
from orchestrator.runtime.bundle import group_path, open_bundle

_ROOT = os.path.abspath(f"{__file__}/../../..")
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from orchestrator.kernel.oom import main; main()"
_MOST_TEXT = 4096


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
    try:
        with open(reader, "rb") as output:
            text = output.read(_MOST_TEXT).decode(errors="replace")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    if status < 0:
        oom.undo(wanted)
    if status != 0 and not oom.ended(wanted.pidfd, 0):
        raise _failed(container, text.strip().rpartition("\n")[2] or f"who was to bring that about ended with {status}")


def _failed(container: ContainerId, why: str) -> HostError:
    return HostError(f"cannot have container {container} run out of memory: {why}")
