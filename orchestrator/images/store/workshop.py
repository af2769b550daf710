"""``tmp/``: directories in which something is being made. Each is locked by its maker (flock(2) on the directory itself),
so one that is not locked was left by a process that was killed."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress

from orchestrator.images.store.locks import STORE, Locks, flock_if_free, is_at
from orchestrator.images.store.places import Places, refused
from orchestrator.kernel.trees import remove_tree


class Workshop:
    """`make` gives a directory, which its maker renames away, or deletes with `discard`."""

    def __init__(self, places: Places, locks: Locks) -> None:
        self._places = places
        self._locks = locks
        self._held: dict[str, int] = {}
        self._guard = threading.Lock()

    def make(self) -> str:
        path = os.path.join(self._places.directory("tmp"), os.urandom(8).hex())
        with refused(f"make {path}"), self._locks.hold(STORE, shared=True):
            self._places.ensure("tmp")
            os.mkdir(path, 0o700)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
        with self._guard:
            self._forget_gone()
            self._held[path] = fd
        return path

    def discard(self, path: str) -> None:
        """Delete what is left of it, and give the lock back."""
        with refused(f"delete {path}"):
            remove_tree(path)
        with self._guard:
            self._forget_gone()

    def sweep(self) -> None:
        """Delete what killed processes left, unless somebody brings something to its place just now: there will be another
        time."""
        names = self._places.list("tmp")
        if not names:
            return
        doomed = []
        with refused("delete what a killed process left"):
            with self._locks.held_if_free(STORE) as free:
                for name in names if free else ():
                    path = os.path.join(self._places.directory("tmp"), name)
                    with suppress(FileNotFoundError):
                        fd = flock_if_free(path)
                        if fd is not None:
                            doomed.append(os.path.join(self._places.directory("trash"), name))
                            os.rename(path, doomed[-1])
                            os.close(fd)
            for path in doomed:
                with suppress(FileNotFoundError):  # Who collects deletes it too.
                    remove_tree(path)

    def _forget_gone(self) -> None:
        for path, fd in list(self._held.items()):
            if not is_at(fd, path):
                os.close(self._held.pop(path))
