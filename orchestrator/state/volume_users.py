"""Who uses which volume, by the records of all projects of a data directory: also a container that does not run."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, ProjectRecord
from orchestrator.errors import PystackError
from orchestrator.model.names import VolumeName, short_hash
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind
from orchestrator.state.directory import data_root_of
from orchestrator.state.projects import readings, sound_readings
from orchestrator.state.reading import Reading
from orchestrator.state.volume_files import ANONYMOUS


def volumes_of(
    site: Site, record: ProjectRecord | None, services: Collection[str] = ()
) -> tuple[set[str], tuple[str, ...]]:
    """The full names of the named volumes that the project's recorded containers, and its stack, mount, and how the names
    of anonymous ones begin. `services`: only theirs, if any are named."""
    if record is None:
        return set(), ()
    containers = [item for item in record.containers if not services or item.instance.service in services]
    stack = [service for service in record.project.services.values() if not services or service.name in services]
    services_there = (*stack, *(item.definition.service for item in containers))
    names = {name for service in services_there for name in _names(site, record.project, service)}
    return names, tuple(_anonymous(site, item) for item in containers)


def users_of_volumes(data_root: str, volumes: list[str]) -> dict[str, tuple[str, ...]]:
    """The containers that use each of `volumes` (full names), sorted. Raises OperationError when a project's records cannot
    be read, or are damaged: then nobody knows."""
    found: dict[str, set[str]] = {name: set() for name in volumes}
    for site, reading in sound_readings(data_root):
        for container, used in _used(site, reading):
            for name in found:
                if name in used or name.startswith(_anonymous(site, container)):
                    found[name].add(container.container)
    return {name: tuple(sorted(users)) for name, users in found.items()}


def used_by_others(site: Site, volume: str) -> bool:
    """Whether a container of another project uses `volume`, or may: its records cannot be read."""
    for other, reading in readings(data_root_of(site), besides=site.project):
        if isinstance(reading, PystackError) or reading.damaged:
            return True
        if any(volume in used for _, used in _used(other, reading)):
            return True
    return False


def containers_of_others(site: Site) -> dict[str, str]:
    """The recorded containers of all other projects, with their project. Under "" one whose records cannot be read."""
    found: dict[str, str] = {}
    for other, reading in readings(data_root_of(site), besides=site.project):
        if isinstance(reading, PystackError):
            found[""] = other.project
            continue
        if reading.damaged:
            found[""] = other.project
        if reading.record is not None:
            found.update({item.container: other.project for item in reading.record.containers})
    return found


def _used(site: Site, reading: Reading) -> Iterator[tuple[ContainerRecord, set[str]]]:
    """Each container, and the full names of the named volumes that it mounts."""
    record = reading.record
    for container in record.containers if record is not None else ():
        assert record is not None
        yield container, _names(site, record.project, container.definition.service)


def _names(site: Site, project: Project, service: Service) -> set[str]:
    mounts = [mount for mount in service.volumes if mount.kind is MountKind.VOLUME and mount.source]
    return {
        str(mount.source) if mount.undeclared else _full_name(site, project, VolumeName(str(mount.source)))
        for mount in mounts
    }


def _anonymous(site: Site, container: ContainerRecord) -> str:
    """How the names of its anonymous volumes begin."""
    return f"{ANONYMOUS}{site.key}-{short_hash(container.container, 16)}-"


def _full_name(site: Site, project: Project, key: VolumeName) -> str:
    """A volume that the stack no longer has was named as they are when nobody names them."""
    volume = project.volumes.get(key)
    return volume.full_name if volume is not None else f"{site.project}_{key}"
