"""Named and anonymous volumes: ``DATA/volumes/NAME/``, shared by all projects of a data directory.

``_data`` is the content, ``volume.json`` says whose it is (`About`, one sealed line), so that a volume can be found without
any record. An anonymous volume is named by its project's key, its container and its target. A volume is made beside its
place and renamed, and removed the other way round: it is there whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from glob import glob

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, InputError, OperationError, PystackError
from orchestrator.kernel.atomic import keep_aside, replace_file
from orchestrator.kernel.sealed import VERSION, seal, unseal_file, version_of
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ContainerId, ProjectName, VolumeName, short_hash
from orchestrator.model.volume import Volume
from orchestrator.state.directory import data_root_of, site_of
from orchestrator.state.preparation import data_lock, make_private
from orchestrator.state.reading import Reading
from orchestrator.state.versions import upgraded
from orchestrator.values import field, frozen, replace

_ABOUT = "volume.json"


@frozen
class About:
    """``volume.json``. `identity`: random, made with the volume. `key`, `project`: who made it; `volume`: its key in the
    stack. `container`, `target`: of an anonymous one."""

    identity: str = ""
    project: str = ""
    key: str = ""
    volume: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    target: str = ""


class FileVolumes:
    """`contracts.state.Volumes` on directories. Ids inside are the host's own: the runtime mounts them id-mapped, so a file
    that a container's root writes belongs to the user who runs pystack."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._data_root = data_root_of(site)
        self._root = os.path.join(self._data_root, "volumes")

    def ensure(self, volume: Volume) -> str:
        data = self._data(volume.full_name)
        if volume.external:
            if not os.path.isdir(data):
                message = f"external volume {volume.full_name!r} does not exist"
                raise OperationError(message, hint="create it first, or remove `external: true`")
            return data
        return self._ensure(volume.full_name, replace(self._mine(), volume=volume.key, labels=dict(volume.labels)))

    def ensure_anonymous(self, container: ContainerId, target: str) -> str:
        name = self._anonymous_prefix(container) + short_hash(target, 16)
        return self._ensure(name, replace(self._mine(), container=container, target=target))

    def existing(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        return tuple(volume for volume in volumes if os.path.isdir(self._data(volume.full_name)))

    def identity(self, volume: Volume) -> str | None:
        if not os.path.isdir(self._data(volume.full_name)):
            return None
        about = self._about(volume.full_name)
        return about.identity if about is not None and about.identity else self._old_identity(volume.full_name)

    def owned(self) -> tuple[Volume, ...]:
        found = []
        for name in self._names():
            about = self._about(name)
            if about is not None and about.key == self._site.key and about.volume:
                found.append(Volume(VolumeName(about.volume), name, labels=tuple(about.labels.items())))
        return tuple(found)

    def remove(self, volume: Volume) -> bool:
        return not volume.external and self._delete(volume.full_name)

    def remove_anonymous(self, container: ContainerId) -> None:
        self._delete_all(name for name in self._names() if name.startswith(self._anonymous_prefix(container)))

    def remove_unclaimed(self, containers: Collection[ContainerId]) -> int:
        kept = tuple(self._anonymous_prefix(container) for container in containers)
        mine = f"anonymous-{self._site.key}-"
        return self._delete_all(name for name in self._names() if name.startswith(mine) and not name.startswith(kept))

    def take_over(self, containers: Collection[ContainerId]) -> tuple[Finding, ...]:
        findings = []
        others: dict[str, str] | None = None
        for container in containers:
            prefix = f"anonymous-{short_hash(container, 16)}-"
            for name in [name for name in self._names() if name.startswith(prefix)]:
                if others is None:
                    others = self._containers_of_others()
                if (other := others.get(container, others.get(""))) is not None:
                    what = f"may belong to container {container} of project {other} as well"
                    findings.append(Finding(os.path.join(self._root, name), what, "it is left as it is, used by neither"))
                else:
                    self._adopt(name, container, name.removeprefix(prefix))
        return tuple(findings)

    def _mine(self) -> About:
        return About(project=self._site.project, key=self._site.key)

    def _ensure(self, name: str, about: About) -> str:
        """The directory of the volume, made if it is missing. What an old or damaged description lacks is written."""
        data = self._data(name)
        if os.path.isdir(data):
            known = self._about(name)
            if known is None or not known.identity:
                with data_lock(self._data_root):
                    self._complete(name, known, about)
            return data
        for path in (self._data_root, self._root):
            make_private(path)
        with data_lock(self._data_root):
            if os.path.isdir(data):
                return data
            try:
                self._make(name, replace(about, identity=os.urandom(16).hex()))
            except OSError as exc:
                raise HostError(f"cannot make volume {name!r}: {exc.strerror}", hint="is the disk full?") from exc
        return data

    def _make(self, name: str, about: About) -> None:
        beside = os.path.join(self._root, f".new-{name}")
        remove_tree(beside)
        os.mkdir(beside, 0o700)
        replace_file(os.path.join(beside, _ABOUT), _sealed(about))
        os.mkdir(os.path.join(beside, "_data"), 0o755)
        # A directory without `_data` is what version 1 left when it was killed here; one with anything else is not ours.
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._root, name, _ABOUT))
        with suppress(FileNotFoundError):
            os.rmdir(os.path.join(self._root, name))
        os.rename(beside, os.path.join(self._root, name))

    def _complete(self, name: str, known: About | None, about: About) -> None:
        path = os.path.join(self._root, name, _ABOUT)
        about = about if known is None else replace(about, labels=known.labels)
        try:
            if known is None and os.path.lexists(path):
                keep_aside(path)
            replace_file(path, _sealed(replace(about, identity=self._old_identity(name))))
        except OSError as exc:
            raise HostError(f"cannot write {path}: {exc.strerror}") from exc

    def _adopt(self, name: str, container: ContainerId, target_hash: str) -> None:
        """A volume of version 1 gets its name and its owner. It may be mounted: mounts follow the directory."""
        known = self._about(name)
        new = self._anonymous_prefix(container) + target_hash
        with data_lock(self._data_root):
            if os.path.isdir(self._data(new)):
                return
            try:
                about = replace(self._mine(), container=container, target=known.target if known is not None else "")
                self._complete(name, known, about)
                os.rename(os.path.join(self._root, name), os.path.join(self._root, new))
            except OSError as exc:
                raise HostError(f"cannot rename volume {name!r}: {exc.strerror}") from exc

    def _containers_of_others(self) -> dict[str, str]:
        """The recorded containers of all other projects, with their project. Under "" one whose records cannot be read."""
        found: dict[str, str] = {}
        for path in sorted(glob(os.path.join(os.path.dirname(self._site.data_dir), "*/"))):
            name = os.path.basename(path.rstrip("/"))
            if name == self._site.project:
                continue
            try:
                reading = Reading(site_of(self._data_root, "/", ProjectName(name)))
            except PystackError:
                found[""] = name
                continue
            if reading.damaged:
                found[""] = name
            if reading.record is not None:
                found.update({item.container: name for item in reading.record.containers})
        return found

    def _about(self, name: str) -> About | None:
        """What is written of the volume; None if that is missing or damaged."""
        try:
            data = unseal_file(os.path.join(self._root, name, _ABOUT))
            return None if data is None else from_json(About, upgraded("volume", data, version_of(data)))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise HostError(f"cannot read {os.path.join(self._root, name, _ABOUT)}: {exc.strerror}") from exc
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _old_identity(self, name: str) -> str:
        """Of a volume whose own is not written: the same each time, until there is one."""
        return short_hash(f"{name}\0{os.stat(self._data(name)).st_ino}", 32)

    def _delete_all(self, names: Iterator[str]) -> int:
        return sum([self._delete(name) for name in names])

    def _delete(self, name: str) -> bool:
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

    def _names(self) -> list[str]:
        """All volumes of the data directory, sorted."""
        try:
            return sorted(name for name in os.listdir(self._root) if not name.startswith("."))
        except FileNotFoundError:
            return []

    def _data(self, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise InputError(f"{name!r} is not a volume name", hint="letters, digits, '_', '.' and '-'")
        return os.path.join(self._root, name, "_data")

    def _anonymous_prefix(self, container: ContainerId) -> str:
        return f"anonymous-{self._site.key}-{short_hash(container, 16)}-"


def _sealed(about: About) -> bytes:
    return seal({"version": VERSION} | to_json(about))
