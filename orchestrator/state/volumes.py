"""Named and anonymous volumes: ``DATA/volumes/NAME/_data``, shared by all projects of a data directory.

An anonymous volume is named after its container and target, so it can be found again without a record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.names import ContainerId, short_hash
from orchestrator.model.volume import Volume
from orchestrator.state.directory import data_root_of, make_private


class FileVolumes:
    """`contracts.state.Volumes` on directories. Ids inside are the host's own: the runtime mounts them id-mapped, so a file
    that a container's root writes belongs to the user who runs pystack."""

    def __init__(self, site: Site) -> None:
        self._root = os.path.join(data_root_of(site), "volumes")

    def ensure(self, volume: Volume) -> str:
        data = self._data(volume.full_name)
        if os.path.isdir(data):
            return data
        if volume.external:
            raise OperationError(
                f"external volume {volume.full_name!r} does not exist", hint="create it first, or remove `external: true`"
            )
        return self._make(volume.full_name, {"labels": dict(volume.labels)})

    def ensure_anonymous(self, container: ContainerId, target: str) -> str:
        name = self._anonymous_prefix(container) + short_hash(target, 16)
        data = self._data(name)
        return data if os.path.isdir(data) else self._make(name, {"container": container, "target": target})

    def existing(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        return tuple(volume for volume in volumes if os.path.isdir(self._data(volume.full_name)))

    def remove(self, volume: Volume) -> bool:
        return not volume.external and self._delete(volume.full_name)

    def remove_anonymous(self, container: ContainerId) -> None:
        prefix = self._anonymous_prefix(container)
        if not os.path.isdir(self._root):
            return
        for name in sorted(os.listdir(self._root)):
            if name.startswith(prefix):
                self._delete(name)

    def _make(self, name: str, about: dict[str, object]) -> str:
        data = self._data(name)
        make_private(os.path.dirname(self._root))
        make_private(self._root)
        make_private(os.path.dirname(data))
        try:
            with open(os.path.join(os.path.dirname(data), "volume.json"), "w", encoding="utf-8") as file:
                json.dump(about, file)
            os.mkdir(data, 0o755)
        except OSError as exc:
            raise HostError(f"cannot make volume {name!r}: {exc.strerror}", hint="is the disk full?") from exc
        return data

    def _delete(self, name: str) -> bool:
        """By rename first: a volume is there whole or not at all, also when the deletion is interrupted."""
        path = os.path.dirname(self._data(name))
        trash = os.path.join(self._root, f".trash-{name}")
        try:
            remove_tree(trash)
            os.rename(path, trash)
        except FileNotFoundError:
            return False
        try:
            remove_tree(trash)
        except OSError as exc:
            raise HostError(f"cannot delete volume {name!r}: {exc.strerror} ({exc.filename})") from exc
        return True

    def _data(self, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise InputError(f"{name!r} is not a volume name", hint="letters, digits, '_', '.' and '-'")
        return os.path.join(self._root, name, "_data")

    @staticmethod
    def _anonymous_prefix(container: ContainerId) -> str:
        return f"anonymous-{short_hash(container, 16)}-"
