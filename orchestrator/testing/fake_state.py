"""Records and volumes in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from orchestrator.contracts.state import ContainerRecord, Finding, ProjectRecord
from orchestrator.errors import HostError, OperationError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ContainerId, Role, ServiceName, VolumeName
from orchestrator.model.volume import Volume
from orchestrator.values import entity, replace


class FakeState:
    """`contracts.state.Records`. Records pass through JSON, as they do on disk. `full`: the disk refuses to write.
    `frozen`: the writer was killed; what it still does in its last moments is not written."""

    def __init__(self) -> None:
        self.commits = 0
        self.full = False
        self.frozen = False
        self._record: ProjectRecord | None = None

    def load(self) -> ProjectRecord | None:
        if self._record is None:
            return None
        return from_json(ProjectRecord, json.loads(json.dumps(to_json(self._record))))

    def findings(self) -> tuple[Finding, ...]:
        """Nothing in memory is damaged."""
        return ()

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

    def service_of(self, container: ContainerId) -> ServiceName | None:
        """Of which service a recorded container is."""
        known = self._record.containers if self._record is not None else ()
        return next((item.instance.service for item in known if item.container == container), None)

    def role_of(self, container: ContainerId) -> Role | None:
        """Of a recorded container."""
        known = self._record.containers if self._record is not None else ()
        return next((item.instance.role for item in known if item.container == container), None)

    def recorded(self, container: ContainerId) -> bool:
        return self._record is not None and any(item.container == container for item in self._record.containers)


@entity
class FakeVolume:
    """A volume in memory. `owner`: the project that made it ("": it exists without us)."""

    volume: Volume
    identity: str
    owner: str


class FakeVolumeStore:
    """What all projects of a data directory share."""

    def __init__(self) -> None:
        self.named: dict[str, FakeVolume] = {}
        self.anonymous: set[tuple[str, ContainerId, str]] = set()
        self._made = 0

    def make(self, volume: Volume, owner: str) -> None:
        self._made += 1
        self.named[volume.full_name] = FakeVolume(volume, f"volume-{self._made}", owner)


class FakeVolumes:
    """`contracts.state.Volumes`. `external`: full names of volumes that exist without us."""

    def __init__(
        self, external: Collection[str] = (), project: str = "demo", store: FakeVolumeStore | None = None
    ) -> None:
        self._project = project
        self._store = store or FakeVolumeStore()
        for name in external:
            self._store.make(Volume(VolumeName(name), name), "")

    @property
    def volumes(self) -> set[str]:
        """The full names of all that exist."""
        return set(self._store.named)

    def ensure(self, volume: Volume) -> str:
        self.check(volume)
        if volume.full_name not in self._store.named:
            self._store.make(volume, self._project)
        return f"/volumes/{volume.full_name}"

    def check(self, volume: Volume) -> None:
        found = self._store.named.get(volume.full_name)
        if volume.external:
            if found is None:
                raise OperationError(f"external volume {volume.full_name} does not exist")
        elif found is not None and dict(found.volume.options) != dict(volume.options):
            raise OperationError(f"volume {volume.full_name} has other driver_opts than it was made with")

    def ensure_anonymous(self, container: ContainerId, target: str, labels: Mapping[str, str] | None = None) -> str:
        self._store.anonymous.add((self._project, container, target))
        return f"/volumes/{self._project}/{container}{target}"

    def release(self, volume: Volume) -> None:
        """Nothing in memory is mounted."""

    def existing(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        return tuple(volume for volume in volumes if volume.full_name in self._store.named)

    def identity(self, volume: Volume) -> str | None:
        found = self._store.named.get(volume.full_name)
        return found.identity if found is not None else None

    def owned(self) -> tuple[Volume, ...]:
        return tuple(item.volume for _, item in sorted(self._store.named.items()) if item.owner == self._project)

    def remove(self, volume: Volume) -> bool:
        return not volume.external and self._store.named.pop(volume.full_name, None) is not None

    def with_anonymous(self, containers: Collection[ContainerId]) -> frozenset[ContainerId]:
        return frozenset(item[1] for item in self._store.anonymous if item[0] == self._project and item[1] in containers)

    def remove_anonymous(self, container: ContainerId) -> None:
        self._store.anonymous -= {item for item in self._store.anonymous if item[:2] == (self._project, container)}

    def remove_unclaimed(self, containers: Collection[ContainerId]) -> int:
        gone = {item for item in self._store.anonymous if item[0] == self._project and item[1] not in containers}
        self._store.anonymous -= gone
        return len(gone)

    def take_over(self, containers: Collection[ContainerId]) -> tuple[Finding, ...]:
        """Nothing in memory is of version 1."""
        return ()
