"""The project's lock: whoever holds it is the project's supervisor, and the only writer of its records.

flock(2) on a file of the project's directory: it goes with the process, so a killed supervisor leaves no stale lock.
Whoever is about to work in a directory takes the lock before anything else is made in there, and whoever removes the
directory removes the lock last: so nobody writes into what somebody else is taking away.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress

from orchestrator.contracts.site import Site
from orchestrator.errors import BusyError, HostError
from orchestrator.kernel.plain import open_plain
from orchestrator.kernel.trees import remove_tree
from orchestrator.state.directory import LOCK
from orchestrator.state.preparation import make_project_directory, prepare


def take(site: Site) -> tuple[Site, int]:
    """The project's directories, made, with its id range, and its lock. Raises what `acquire` and `prepare` do."""
    make_project_directory(site)
    held = acquire(site)
    try:
        return prepare(site), held
    except BaseException:
        os.close(held)
        raise


def remove_project_directory(directory: str) -> None:
    """All that a project has on disk, by who holds its lock, or nobody does; the lock itself goes last. Raises OSError."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name != LOCK:
                remove_tree(os.path.join(directory, name))
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, LOCK))
        try:
            os.rmdir(directory)
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:  # Somebody has taken it already.
                raise


def acquire(site: Site) -> int:
    """The lock's descriptor, held until it is closed. Raises BusyError naming the holder's pid, HostError when there can be
    no lock."""
    path = os.path.join(site.data_dir, LOCK)
    try:
        fd = open_plain(path, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:
        raise _busy(site, "one that is ending") from None
    except OSError as exc:
        raise HostError(f"cannot open {path}: {exc.strerror}", hint="remove it if it is no plain file") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(fd, path):
            # Its last holder took the project down, and the file with it, after we had opened it.
            raise _busy(site, "one that is ending")
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip()
        os.close(fd)
        raise _busy(site, f"process {holder or 'unknown'}") from None
    except BusyError:
        os.close(fd)
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _busy(site: Site, holder: str) -> BusyError:
    return BusyError(
        f"project {site.project} already has a supervisor ({holder})",
        hint="commands talk to it by themselves; nothing has to be started twice",
    )
