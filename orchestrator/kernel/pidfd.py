"""Processes as file descriptors (pidfd_open(2)): waiting for them without ever meaning another by a reused pid."""

from __future__ import annotations

import fcntl
import os
import select
import struct

from orchestrator.kernel.constants import PIDFD_GET_INFO, PIDFD_INFO_EXIT
from orchestrator.kernel.suppress import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:  # `signal` makes enumerations of all of them
    import _signal as signal

_INFO = struct.Struct("=QQ11Ii")
_PF_EXITING = 0x4
_PROCESS_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP."""


def reap(pidfd: int) -> int | None:
    """The wait status (wait(2)) of our ended child, which is reaped; None while it runs.
    Raises ChildProcessError when it is not our child (or was reaped before)."""
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return found.si_status << 8
    return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def exit_status(pidfd: int) -> int | None:
    """The wait status of an ended process that is not our child: as long as it is a zombie from /proc, once its parent
    has reaped it from the kernel's own note (PIDFD_GET_INFO, Linux 6.15). None when it runs or nothing can tell."""
    status = _status_of_zombie(pidfd)
    return _status_of_reaped(pidfd) if status is None else status


def _status_of_zombie(pidfd: int) -> int | None:
    """Field 52 of proc_pid_stat(5). Some parents reap late: PID 1 of a small machine may take seconds."""
    pid = _pid_of(pidfd)
    if pid is None or pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # Whoever may not see the field is shown 0, and whoever may see it may read this link.
        os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return None
    # It has its number still: what was read is not about another process that got the number since.
    if fields[0] != b"Z" or _pid_of(pidfd) != pid:
        return None
    return int(fields[49])


def _pid_of(pidfd: int) -> int | None:
    """Its number; -1 once it is reaped, 0 in another pid namespace (pidfd_open(2), "Pid" in fdinfo)."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
            for line in file:
                if line.startswith(b"Pid:"):
                    return int(line[4:])
    except OSError:
        return None
    return None


def _status_of_reaped(pidfd: int) -> int | None:
    info = bytearray(_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    fields = _INFO.unpack(info)
    return int(fields[-1]) if fields[0] & PIDFD_INFO_EXIT else None


def send(pidfd: int, number: int) -> None:
    """Send a signal; nothing happens when the process has ended."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def send_as_key(pidfd: int, number: int) -> None:
    """As a terminal does for a key: to all of the process group that the process leads. Before Linux 6.9 to it alone."""
    try:
        signal.pidfd_send_signal(pidfd, number, None, _PROCESS_GROUP)
    except ProcessLookupError:
        pass
    except OSError:
        send(pidfd, number)


def is_over(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def start_time(pid: int) -> int | None:
    """Clock ticks since boot when it started (proc_pid_stat(5), field 22): with pid and boot id a process's identity."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def is_ending(pid: int) -> bool:
    """Whether it has ended or is about to: PID 1 of a namespace first ends all others there (proc_pid_stat(5), field 9)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return bool(int(file.read().rpartition(b")")[2].split()[6]) & _PF_EXITING)
    except (OSError, IndexError, ValueError):
        return True
