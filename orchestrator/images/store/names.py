"""``names/``: which image a name means."""

from __future__ import annotations

import os
import time

from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.store.locks import STORE, Locks
from orchestrator.images.store.places import Places, keep_damaged, refused, sealed
from orchestrator.images.store.values import Name
from orchestrator.kernel.atomic import replace_file
from orchestrator.model.codec import from_json, to_json
from orchestrator.values import frozen

_LOCK = "names"


@frozen
class _Stored:
    name: str
    means: Name


class Names:
    def __init__(self, places: Places, locks: Locks) -> None:
        self._places = places
        self._locks = locks

    def get(self, name: str) -> Name | None:
        found = self._read(self._places.name(name))
        return found.means if found is not None and found.name == name else None

    def all(self) -> dict[str, Name]:
        """In the order of the names."""
        directory = self._places.directory("names")
        files = (name for name in self._places.list("names") if not name.startswith(".") and ".damaged-" not in name)
        found = [one for one in (self._read(os.path.join(directory, name)) for name in files) if one is not None]
        return {one.name: one.means for one in sorted(found, key=lambda one: one.name)}

    def set(self, name: str, image: Digest, of: Digest | None) -> None:
        path = self._places.name(name)
        stored = _Stored(name, Name(image, of, time.time()))
        with refused(f"write {path}"), self._locks.hold(_LOCK), self._locks.hold(STORE, shared=True):
            self._places.ensure("names")
            if os.path.lexists(path) and self._read(path) is None:
                keep_damaged(path)
            replace_file(path, sealed(to_json(stored)))

    def remove(self, name: str) -> bool:
        """Also for who holds `STORE`."""
        path = self._places.name(name)
        with refused(f"delete {path}"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return False
        return True

    def _read(self, path: str) -> _Stored | None:
        data = self._places.read(path)
        if data is None:
            return None
        try:
            found = from_json(_Stored, data)
            digest(found.means.image)
        except ValueError:
            self._places.tell(path, "is damaged", "the name means nothing now: pull or tag the image again")
            return None
        return found
