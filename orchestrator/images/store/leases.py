"""``leases/``: what somebody is about to use. A file with a digest on each line, locked (flock(2)) by who has it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from types import TracebackType

from orchestrator.images.spec.digest import Digest
from orchestrator.images.store.locks import STORE, Locks, flock_if_free
from orchestrator.images.store.places import Places, refused


class Lease:
    """A context manager. From `hold` on, a collection leaves alone what has these digests: images by their ids, with all
    that they consist of; blobs; layers by diffID or key. Hold first, then look whether it is there."""

    def __init__(self, places: Places, locks: Locks) -> None:
        self._places = places
        self._locks = locks
        self._path = os.path.join(places.directory("leases"), os.urandom(8).hex())
        self._fd = -1

    def __enter__(self) -> Lease:
        with refused(f"write {self._path}"), self._locks.hold(STORE, shared=True):
            self._places.ensure("leases")
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        with refused(f"delete {self._path}"), suppress(FileNotFoundError):  # What is gone leases nothing either.
            os.unlink(self._path)
        os.close(self._fd)
        self._fd = -1

    def hold(self, *digests: Digest) -> None:
        """Also from several threads."""
        lines = "".join(f"{one}\n" for one in digests).encode()
        with refused(f"write {self._path}"), self._locks.hold(STORE, shared=True):
            if os.write(self._fd, lines) != len(lines):
                raise OSError(28, "No space left on device")


def leased(places: Places, *, clean: bool) -> frozenset[Digest]:
    """What living leases hold. `clean`: dead ones are deleted; only for who holds `STORE` exclusively."""
    held: set[str] = set()
    for name in places.list("leases"):
        path = os.path.join(places.directory("leases"), name)
        with refused(f"read {path}"):
            try:
                fd = flock_if_free(path)
            except FileNotFoundError:
                continue
            if fd is None:
                with open(path, encoding="ascii") as file:
                    held.update(line.strip() for line in file)
                continue
            if clean:
                os.unlink(path)
            os.close(fd)
    return frozenset(Digest(text) for text in held)
