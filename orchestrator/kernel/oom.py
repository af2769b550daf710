"""A process that the kernel's OOM killer ends because somebody wants that: `pystack chaos oom`.

The process is made the first to be killed (oom_score_adj 1000; raising one takes no right, proc_pid_oom_score_adj(5)), and
its group gets a limit that it cannot keep:

* v2: ``memory.max`` 0. Who writes that reclaims what can be, and has the OOM killer called until nothing is left to be
  killed (cgroup-v2.rst).
* v1 refuses a limit below what is in use (EBUSY), and its OOM killer is only called by who wants more than the limit. So a
  child of ours joins the group, in the hierarchy of memory alone, when the limit is what is used and `_ROOM`, and fills a
  memfd. The killer chooses by resident memory and by what oom_score_adj adds, here the whole limit; pages of a file that
  nobody has mapped are nobody's resident memory. So with more room than the child's own memory is, never it is chosen while
  there is the other. When one has been killed it waits a moment, for it may have been another one of the group. Where who
  was killed frees nothing (its pages are of files, say), the child is killed next, in the very same allocation: the group
  counts two.

Swap is limited with the rest, for what is swapped out is no want of memory.

Limits come back when this ends. Whoever is killed in the middle leaves the group with a limit that it cannot live with, so
this is a program of its own, in a session of its own, that needs nobody any more once it runs: ``main``.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys

from orchestrator.kernel import cgroup, jsontext
from orchestrator.kernel.spawn import born
from orchestrator.kernel.suppress import suppress
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FILES = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max", "memory.swap.max")}
"""The limits of memory, by the version of control groups. The second is not on every machine."""
_USED, _USED_OF_BOTH = "memory.usage_in_bytes", "memory.memsw.usage_in_bytes"
_ROOM = 32 << 20
_CHUNK = 256 << 10
_FILLERS = 3
_ENDS_S = 5.0
_PAUSE_S = 0.2
_RESTORE_TRIES, _RESTORE_PAUSE_S = 200, 0.01
_SIGKILL = 1 << 9 - 1
_FLAGS = 9 - 3
"""Of proc_pid_stat(5), where it is the ninth; the first two are cut away with the name."""
_PF_EXITING = 0x4  # include/linux/sched.h
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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # Who ignores it has passed that on, and there would be no status.
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
    uses = [_USED, *([_USED_OF_BOTH] if len(wanted.limits) > 1 else [])]
    limit = max(int(cgroup.read(f"{group}/{name}")) for name in uses) + _ROOM
    restore(group, tuple((name, str(limit)) for name, _ in wanted.limits))
    for _ in range(_FILLERS):
        if not (child := os.fork()):
            _filler(wanted, filled, limit)
        _, status = os.waitpid(child, 0)
        if failed := os.waitstatus_to_exitcode(status):
            _look_at(failed)
        if _has_ended(wanted):
            return
    raise OSError(errno.ENOMEM, "the kernel kills whoever asks for more instead")


def _has_ended(wanted: Shortage) -> bool:
    """After somebody of the group was killed."""
    return ended(wanted.pidfd, _ENDS_S if _is_dying(wanted.pid) else _PAUSE_S)


def _look_at(failed: int) -> None:
    """How a filler ended: killed by the OOM killer, itself, or by an error. Raises OSError."""
    if failed == errno.EOVERFLOW:
        raise OSError(failed, "there is always more memory: it is swapped out")
    if failed != -signal.SIGKILL:
        raise OSError(abs(failed), os.strerror(abs(failed)))


def _filler(wanted: Shortage, filled: int, limit: int) -> NoReturn:
    """Fill until the process has ended; exits with an errno."""
    failed = 0
    try:
        cgroup.write(f"{wanted.group}/tasks", "0")
        _fill_up(wanted, filled, limit)
    except OSError as exc:
        failed = exc.errno or errno.EIO
    finally:
        os._exit(failed)


def _fill_up(wanted: Shortage, filled: int, limit: int) -> None:
    """Raises OSError."""
    group, size, killed = wanted.group, os.fstat(filled).st_size, _kills(wanted.group)
    while not ended(wanted.pidfd, 0):
        near = limit - int(cgroup.read(f"{group}/{_USED}")) < 4 * _CHUNK
        step = os.sysconf("SC_PAGE_SIZE") if near else _CHUNK
        with suppress(OSError):  # ENOMEM: who was killed has not ended yet.
            os.posix_fallocate(filled, size, step)
            size += step
        if (now := _kills(group)) > killed:
            killed = now
            _has_ended(wanted)
        if size > 2 * limit:
            raise OSError(errno.EOVERFLOW, "")


def _is_dying(pid: int) -> bool:
    """It has been sent SIGKILL, or is at its end for that (proc_pid_status(5), proc_pid_stat(5)). Its memory is gone then:
    asking for more would have the next of the group killed, and that may be us."""
    try:
        status, stat = cgroup.read(f"/proc/{pid}/status"), cgroup.read(f"/proc/{pid}/stat")
    except OSError:
        return True
    pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    flags = int(stat.rpartition(")")[2].split()[_FLAGS])
    return bool(flags & _PF_EXITING) or any(mask & _SIGKILL for mask in pending)


def _kills(group: str) -> int:
    return cgroup.counter(f"{group}/memory.oom_control", "oom_kill")


def ended(pidfd: int, timeout_s: float) -> bool:
    """Whether it has, within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
