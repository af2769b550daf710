"""``cache/``: what build steps made. An entry is recent from when it was asked for last (the file's mtime)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from orchestrator.images.spec.digest import Digest
from orchestrator.images.store.locks import STORE, Locks
from orchestrator.images.store.places import Places, refused, sealed
from orchestrator.kernel.atomic import replace_file
from orchestrator.model.codec import from_json, to_json
from orchestrator.values import frozen

_LOCK = "cache"
RECENT_S = 14 * 86400.0


@frozen
class Entry:
    """`holds`: the blobs and layers that it needs."""

    key: str
    value: bytes
    holds: tuple[Digest, ...]


@frozen
class Found:
    """An entry, the path of its file, and when it was asked for last."""

    path: str
    entry: Entry
    at_s: float
    bytes: int


class BuildCache:
    def __init__(self, places: Places, locks: Locks) -> None:
        self._places = places
        self._locks = locks

    def get(self, key: str) -> bytes | None:
        path = self._places.cache(key)
        entry = self._read(path)
        if entry is None or entry.key != key:
            return None
        with suppress(OSError):  # It is collected meanwhile, or the disk is read-only: it just does not become recent.
            os.utime(path)
        return entry.value

    def put(self, key: str, value: bytes, holds: Sequence[Digest]) -> None:
        path = self._places.cache(key)
        with refused(f"write {path}"), self._locks.hold(_LOCK), self._locks.hold(STORE, shared=True):
            self._places.ensure("cache")
            replace_file(path, sealed(to_json(Entry(key, value, tuple(holds)))), durable=False)

    def all(self) -> tuple[Found, ...]:
        """For who holds `STORE` exclusively."""
        found = []
        for path in self._paths():
            if (entry := self._read(path)) is not None:
                with refused(f"read {path}"):
                    about = os.stat(path)
                found.append(Found(path, entry, about.st_mtime, about.st_size))
        return tuple(found)

    def unreadable(self) -> list[str]:
        """Paths of damaged entries: their step is done again. For who holds `STORE` exclusively."""
        return [path for path in self._paths() if self._read(path) is None]

    def _paths(self) -> list[str]:
        names = (name for name in self._places.list("cache") if name.endswith(".json") and not name.startswith("."))
        return [os.path.join(self._places.directory("cache"), name) for name in names]

    def _read(self, path: str) -> Entry | None:
        data = self._places.read(path)
        try:
            return None if data is None else from_json(Entry, data)
        except ValueError:
            return None
