"""The project's lock: whoever holds it is the project's supervisor, and the only writer of its records.

flock(2) on a file of the project's directory: it goes with the process, so a killed supervisor leaves no stale lock.
"""

from __future__ import annotations

import fcntl
import os

from orchestrator.contracts.site import Site
from orchestrator.errors import BusyError


def acquire(site: Site) -> int:
    """The lock's descriptor, held until it is closed. Raises BusyError naming the holder's pid."""
    fd = os.open(os.path.join(site.data_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip()
        os.close(fd)
        raise BusyError(
            f"project {site.project} already has a supervisor (process {holder or 'unknown'})",
            hint="commands talk to it by themselves; nothing has to be started twice",
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
