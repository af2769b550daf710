"""Locks between processes and threads: flock(2) on files below ``locks/``. They end with their holder.

`STORE` is held shared for moments, by whoever brings something to its place; exclusively by who collects. The others are
each about one thing and may be held as long as it takes to fetch or unpack it. The order is: another one first, then
`STORE`; nobody waits for another one while holding `STORE`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.images.store.places import Places, refused

STORE = "store"
_LOOK_AGAIN_S = 0.05
"""How often `on_wait` is asked; nothing but a look at it can interrupt the wait for another process."""


class Locks:
    def __init__(self, places: Places) -> None:
        self._places = places

    @contextmanager
    def hold(self, name: str, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Wait for the lock and hold it. `on_wait` is called again and again meanwhile, and may raise."""
        fd = self._acquire(name, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, on_wait)
        try:
            yield
        finally:
            os.close(fd)

    def drop_if_free(self, name: str) -> bool:
        """Whether nobody holds it; its file is removed then. Only for who holds `STORE` exclusively."""
        path = self._path(name)
        with refused(f"lock {path}"):
            fd = flock_if_free(path)
            if fd is None:
                return False
            os.unlink(path)
            os.close(fd)
            return True

    @contextmanager
    def held_if_free(self, name: str) -> Iterator[bool]:
        """The lock, if nobody holds it."""
        with refused(f"lock {self._path(name)}"):
            self._places.ensure("locks", "trash")  # So that a full disk can be collected.
            fd = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            yield _try(fd) and is_at(fd, self._path(name))
        finally:
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self._places.directory("locks"), name)

    def _acquire(self, name: str, kind: int, on_wait: Callable[[], None] | None) -> int:
        path = self._path(name)
        while True:
            with refused(f"lock {path}"):
                self._places.ensure("locks", "trash")  # So that a full disk can be collected.
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                _wait(fd, kind, on_wait)
                if is_at(fd, path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # Whoever collected has removed it meanwhile.


def flock_if_free(path: str) -> int | None:
    """A descriptor of `path` (a file or directory) with its lock, None if somebody has it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    if _try(fd) and is_at(fd, path):
        return fd
    os.close(fd)
    return None


def is_at(fd: int, path: str) -> bool:
    """Whether `path` still leads to what `fd` is."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _try(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(fd: int, kind: int, on_wait: Callable[[], None] | None) -> None:
    if on_wait is None:
        with refused("wait for a lock of the image store"):
            fcntl.flock(fd, kind)
        return
    while not _try(fd, kind):
        on_wait()
        time.sleep(_LOOK_AGAIN_S)
