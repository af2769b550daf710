"""A process that the kernel's OOM killer ends because somebody wants that: `pystack chaos oom`.

The process is made the first to be killed (oom_score_adj 1000; raising one takes no right, proc_pid_oom_score_adj(5)), and
its group gets a limit that it cannot keep:

* v2: ``memory.max`` 0. Who writes that reclaims what can be, and has the OOM killer called until nothing is left to be
  killed (cgroup-v2.rst).
* v1 refuses a limit below what is in use (EBUSY), and its OOM killer is only called by who wants more than the limit. So we
  join the group, in the hierarchy of memory alone, make the limit what is used and `_ROOM`, and fill a memfd. The killer
  chooses by resident memory and by what oom_score_adj adds, here the whole limit; pages of a file that nobody has mapped
  are nobody's resident memory. So with more room than our own memory is, never we are chosen. When one has been killed
  we wait a moment, for it may have been another one of the group.

Swap is limited with the rest, for what is swapped out is no want of memory.

Limits come back when this ends. Whoever is killed in the middle leaves the group with a limit that it cannot live with, so
this is a program of its own, in a session of its own, that needs nobody any more once it runs: ``main``.
"""

from __future__ import annotations

import errno
import os
import select
import sys

from orchestrator.kernel import cgroup, jsontext
from orchestrator.kernel.spawn import born
from orchestrator.kernel.suppress import suppress
from orchestrator.values import frozen

FILES = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max", "memory.swap.max")}
"""The limits of memory, by the version of control groups. The second is not on every machine."""
_ROOM = 32 << 20
_CHUNK = 256 << 10
_ENDS_S = 5.0
_PAUSE_S = 0.2
_RESTORE_TRIES, _RESTORE_PAUSE_S = 200, 0.01
FIRST = 1000
DONE = "done"


@frozen
class Shortage:
    """What `main` is told. `group`: its path, of control groups `version`. `pidfd`: of process `pid`, which is in it.
    `limits`, `score`: what files of theirs say, to be restored. `lock`: held as long as this goes on."""

    group: str
    version: int
    limits: tuple[tuple[str, str], ...]
    pid: int
    score: str
    pidfd: int
    lock: int


def limits_of(group: str, version: int) -> tuple[tuple[str, str], ...]:
    """What its `FILES` say. Raises OSError when it limits no memory."""
    first, second = FILES[version]
    found = [(first, cgroup.read(f"{group}/{first}"))]
    with suppress(FileNotFoundError):
        found.append((second, cgroup.read(f"{group}/{second}")))
    return tuple(found)


def score_of(pid: int) -> str:
    """Raises OSError."""
    return cgroup.read(f"/proc/{pid}/oom_score_adj")


def undo(wanted: Shortage) -> None:
    """After a `main` that was killed. Raises OSError."""
    restore(wanted.group, wanted.limits)
    _rate(wanted, wanted.score)


def restore(group: str, limits: tuple[tuple[str, str], ...]) -> None:
    """Write these limits again, in whichever order they are let: that of v1 for memory is never above that for memory and
    swap. One below what is in use gets a moment, for what is being freed. Raises OSError; nothing happens to a group that
    is gone."""
    left = list(limits)
    for last in (*[False] * _RESTORE_TRIES, True):
        for name, value in list(left):
            try:
                cgroup.write(f"{group}/{name}", value)
                left.remove((name, value))
            except FileNotFoundError:
                return
            except OSError as exc:
                if last or exc.errno not in (errno.EINVAL, errno.EBUSY):
                    raise
        if not left:
            return
        cgroup.pause(_RESTORE_PAUSE_S)


def main() -> None:
    """The last argument: a `Shortage`, as JSON. To stdout comes `DONE`, or what went wrong."""
    about = jsontext.loads(sys.argv[-1])
    wanted = Shortage(**{**about, "limits": tuple((name, value) for name, value in about["limits"])})
    born((wanted.pidfd, wanted.lock))
    try:
        _run_out(wanted)
        text = DONE
    except OSError as exc:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror)
    os.write(1, text.encode())
    os._exit(0)


def _run_out(wanted: Shortage) -> None:
    """Raises OSError when the process could not be ended so, or the limits not be restored."""
    filled = os.memfd_create("oom", os.MFD_CLOEXEC)
    try:
        _rate(wanted, str(FIRST))
        if wanted.version == 1:
            _fill(wanted, filled)
        else:
            for name, _ in reversed(wanted.limits):
                cgroup.write(f"{wanted.group}/{name}", "0")
        if not ended(wanted.pidfd, _ENDS_S):
            raise OSError(errno.ETIMEDOUT, "the kernel has not killed it")
    finally:
        os.close(filled)
        undo(wanted)


def _rate(wanted: Shortage, score: str) -> None:
    """Nothing happens to one that has ended: its number may be another's by now, but its open file is not (ESRCH)."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fd = os.open(f"/proc/{wanted.pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            if not ended(wanted.pidfd, 0):
                os.write(fd, score.encode())
        finally:
            os.close(fd)


def _fill(wanted: Shortage, filled: int) -> None:
    group = wanted.group
    with suppress(OSError):  # What it cannot do now is done while we fill.
        cgroup.write(f"{group}/memory.force_empty", "0")
    uses = ["memory.usage_in_bytes", *(["memory.memsw.usage_in_bytes"] if len(wanted.limits) > 1 else [])]
    limit = max(int(cgroup.read(f"{group}/{name}")) for name in uses) + _ROOM
    restore(group, tuple((name, str(limit)) for name, _ in wanted.limits))
    cgroup.write(f"{group}/tasks", "0")
    size, killed = 0, _kills(group)
    while not ended(wanted.pidfd, 0):
        near = limit - int(cgroup.read(f"{group}/{uses[0]}")) < 4 * _CHUNK
        step = os.sysconf("SC_PAGE_SIZE") if near else _CHUNK
        with suppress(OSError):  # ENOMEM: who was killed has not ended yet.
            os.posix_fallocate(filled, size, step)
            size += step
        if (now := _kills(group)) > killed:
            killed = now
            ended(wanted.pidfd, _PAUSE_S)
        if size > 2 * limit:
            raise OSError(errno.EOVERFLOW, "there is always more memory: it is swapped out")


def _kills(group: str) -> int:
    return cgroup.counter(f"{group}/memory.oom_control", "oom_kill")


def ended(pidfd: int, timeout_s: float) -> bool:
    """Whether it has, within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
