"""Processes as file descriptors (pidfd_open(2)): waiting for them without ever meaning another by a reused pid."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct

from orchestrator.kernel.constants import PIDFD_GET_INFO, PIDFD_INFO_EXIT

_INFO = struct.Struct("=QQ11Ii")


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
    """The wait status of a process that somebody else reaped while we held `pidfd` (PIDFD_GET_INFO, Linux 6.15); None when
    it is not reaped yet or the kernel cannot say."""
    info = bytearray(_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    fields = _INFO.unpack(info)
    return int(fields[-1]) if fields[0] & PIDFD_INFO_EXIT else None


def send(pidfd: int, number: int) -> None:
    """Send a signal; nothing happens when the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot when it started (proc_pid_stat(5), field 22): with pid and boot id a process's identity."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
