"""Ends of processes that are not always ours to wait for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

import trio

from orchestrator.kernel import pidfd as pidfds

LOST_AFTER_S = 2.0
"""How long what has ended may be left unreaped by whoever its parent is."""
_RETRY_S = 0.02


async def wait_process(pidfd: int) -> int | None:
    """The wait status of a process when it has ended, whoever its parent is; None if it cannot be known."""
    await trio.lowlevel.wait_readable(pidfd)
    try:
        return pidfds.reap(pidfd)
    except ChildProcessError:
        end = trio.current_time() + LOST_AFTER_S
        while (status := pidfds.exit_status(pidfd)) is None and trio.current_time() < end:  # noqa: ASYNC110
            # Its parent has not reaped it yet, and nothing tells us when it does.
            await trio.sleep(_RETRY_S)
        return status


async def reap_strays(known: Collection[int] = (), *, session: int = 0) -> None:
    """Reap orphans that came to us and have ended or end soon, but for the pids that are `known`. `session`: only those of
    that one."""
    for pid, of in _orphans():
        if pid in known or session not in (0, of):
            continue
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            pidfd = os.pidfd_open(pid)
            try:
                with trio.move_on_after(LOST_AFTER_S):
                    await trio.lowlevel.wait_readable(pidfd)
                    pidfds.reap(pidfd)
            finally:
                os.close(pidfd)


def _orphans() -> list[tuple[int, int]]:
    """Children of other sessions, and which: whatever we start ourselves is in our own."""
    own = os.getsid(0)
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                pids = [int(word) for word in file.read().split()]
        except OSError:
            continue
        for pid in pids:
            with contextlib.suppress(OSError):
                if (session := os.getsid(pid)) != own:
                    found.append((pid, session))
    return found
