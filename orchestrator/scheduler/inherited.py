"""The mounts that a container has from others (``volumes_from``), as Docker copies them when it is made."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, ServiceName, volume_owner
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind, Owner, VolumesFrom
from orchestrator.oci.mounts import clean_path
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.values import replace

_LENT = (MountKind.BIND, MountKind.VOLUME)


def inherited_mounts(state: EngineState, service: Service) -> tuple[Mount, ...]:
    """Those whose places the service has no mount of its own at; of several, the first. Raises OperationError for a
    container that does not exist."""
    taken = {clean_path(mount.target) for mount in service.volumes}
    found: dict[str, Mount] = {}
    for number, entry in enumerate(service.volumes_from):
        lender = _lender(state, entry, f"{service.place}.volumes_from[{number}]")
        for mount in _lent(state, lender, frozenset({lender.id})):
            target = clean_path(mount.target)
            if target not in taken:
                found.setdefault(target, replace(mount, read_only=mount.read_only or entry.read_only is True))
    return tuple(found.values())


def _lender(state: EngineState, entry: VolumesFrom, place: str) -> Container:
    if entry.is_container:
        if (container := state.containers.get(ContainerId(entry.of))) is not None:
            return container
        hint = "only containers of this project lend their mounts; share a named volume instead"
        raise OperationError(f'this project has no container "{entry.of}"', hint=hint, place=place)
    replicas = sorted(state.replicas(ServiceName(entry.of)), key=lambda item: item.instance.number)
    if not replicas:
        message = f'the service "{entry.of}" has no container whose mounts could be had'
        raise OperationError(message, hint=f"`pystack up {entry.of}` makes one", place=place)
    return replicas[0]


def _lent(state: EngineState, lender: Container, seen: frozenset[ContainerId]) -> Iterator[Mount]:
    """What `lender` has itself, then what its image has, then what it has from others. Its anonymous volumes are
    directories to whoever borrows them."""
    definition = lender.definition
    own = [mount for mount in definition.volumes if mount.kind in _LENT]
    taken = {clean_path(mount.target) for mount in definition.volumes}
    image = lender.image.config.volumes if lender.image is not None else ()
    own += [Mount(MountKind.VOLUME, target) for target in map(clean_path, image) if target not in taken]
    for mount in own:
        if mount.kind is MountKind.VOLUME and mount.source is None:
            owner = volume_owner(state.adapters.site.project, lender.instance, lender.id)
            directory = state.adapters.volumes.ensure_anonymous(owner, mount.target)
            yield Mount(MountKind.BIND, mount.target, directory, mount.read_only, place=mount.place, owner=Owner.ROOT)
        else:
            yield replace(mount, nocopy=True)
    for entry in definition.volumes_from:
        other = _lender(state, entry, f"{definition.place}.volumes_from")
        if other.id not in seen:
            for mount in _lent(state, other, seen | {other.id}):
                yield replace(mount, read_only=mount.read_only or entry.read_only is True)
