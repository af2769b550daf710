"""Records and volumes in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from orchestrator.contracts.state import ContainerRecord, ProjectRecord
from orchestrator.errors import HostError, OperationError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ContainerId
from orchestrator.model.volume import Volume
from orchestrator.values import replace


class FakeState:
    """`contracts.state.State`. Records pass through JSON, as they do on disk. `full`: the disk refuses to write. `frozen`:
    the writer was killed; what it still does in its last moments is not written."""

    def __init__(self) -> None:
        self.commits = 0
        self.full = False
        self.frozen = False
        self._record: ProjectRecord | None = None

    def load(self) -> ProjectRecord | None:
        if self._record is None:
            return None
        return from_json(ProjectRecord, json.loads(json.dumps(to_json(self._record))))

    def commit(self, record: ProjectRecord) -> None:
        self._refuse_when_full()
        self.commits += 1
        self._record = record

    def update(self, record: ContainerRecord) -> None:
        if self.frozen:
            return
        self._refuse_when_full()
        assert self._record is not None, f"{record.container} is updated before anything was committed"
        others = tuple(item for item in self._record.containers if item.container != record.container)
        self._record = replace(self._record, containers=(*others, record))

    def forget(self, container: ContainerId) -> None:
        if self._record is not None and not self.frozen:
            kept = tuple(item for item in self._record.containers if item.container != container)
            self._record = replace(self._record, containers=kept)

    def clear(self) -> None:
        self._record = None

    def _refuse_when_full(self) -> None:
        if self.full:
            raise HostError("cannot write the records: no space left on device")

    def recorded(self, container: ContainerId) -> bool:
        return self._record is not None and any(item.container == container for item in self._record.containers)


class FakeVolumes:
    """`contracts.state.Volumes`. `external`: full names of volumes that exist without us."""

    def __init__(self, external: Collection[str] = ()) -> None:
        self.volumes: set[str] = set(external)
        self.anonymous: set[tuple[ContainerId, str]] = set()

    def ensure(self, volume: Volume) -> str:
        if volume.external and volume.full_name not in self.volumes:
            raise OperationError(f"external volume {volume.full_name} does not exist")
        self.volumes.add(volume.full_name)
        return f"/volumes/{volume.full_name}"

    def ensure_anonymous(self, container: ContainerId, target: str) -> str:
        self.anonymous.add((container, target))
        return f"/volumes/{container}{target}"

    def existing(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        return tuple(volume for volume in volumes if volume.full_name in self.volumes)

    def remove(self, volume: Volume) -> bool:
        assert not volume.external, f"external volume {volume.full_name} is removed"
        found = volume.full_name in self.volumes
        self.volumes.discard(volume.full_name)
        return found

    def remove_anonymous(self, container: ContainerId) -> None:
        self.anonymous = {item for item in self.anonymous if item[0] != container}
