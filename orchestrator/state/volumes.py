"""Named and anonymous volumes of one project, on the directories that all projects of a data directory share
(`volume_files`). An anonymous volume is named by its project's key, its container and its target.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, OperationError
from orchestrator.model.names import ContainerId, VolumeName, short_hash
from orchestrator.model.volume import Volume
from orchestrator.state.directory import data_root_of
from orchestrator.state.preparation import data_lock
from orchestrator.state.volume_files import ANONYMOUS, About, VolumeFiles
from orchestrator.state.volume_users import containers_of_others, used_by_others
from orchestrator.values import replace


class FileVolumes:
    """`contracts.state.Volumes` on directories. Ids inside are the host's own: the runtime mounts them id-mapped, so a file
    that a container's root writes belongs to the user who runs pystack."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._files = VolumeFiles(data_root_of(site))

    def tidy(self) -> None:
        """See `VolumeFiles.tidy`."""
        self._files.tidy()

    def ensure(self, volume: Volume) -> str:
        name = volume.full_name
        if volume.external:
            self.check(volume)
            return self._files.provide(name)
        about = replace(self._mine(), volume=volume.key, labels=dict(volume.labels), options=dict(volume.options))
        data = self._files.ensure(name, about)
        self.check(volume)
        return self._files.provide(name, self._files.about(name)) if volume.options else data

    def check(self, volume: Volume) -> None:
        name, exists = volume.full_name, self._files.exists(volume.full_name)
        if volume.external:
            if not exists:
                raise OperationError(
                    f"external volume {name!r} does not exist",
                    hint=f"make it: pystack volume create {name}; or remove `external: true`",
                )
            return
        known = self._files.about(name) if exists else None
        was = dict(known.options) if known is not None else {}
        if exists and was != dict(volume.options):
            shown = ", ".join(f"{key}={value}" for key, value in was.items()) or "none"
            raise OperationError(
                f"volume {name!r} has other driver_opts than it was made with ({shown})",
                hint=f"remove it, if nobody needs its content: pystack volume rm {name}",
            )

    def ensure_anonymous(self, container: ContainerId, target: str, labels: Mapping[str, str] | None = None) -> str:
        name = self._anonymous_prefix(container) + short_hash(target, 16)
        about = replace(self._mine(), container=container, target=target, labels=dict(labels or {}))
        return self._files.ensure(name, about)

    def release(self, volume: Volume) -> None:
        name = volume.full_name
        if self._files.is_mounted(name) and not used_by_others(self._site, name):
            self._files.release(name)

    def existing(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        return tuple(volume for volume in volumes if self._files.exists(volume.full_name))

    def identity(self, volume: Volume) -> str | None:
        if not self._files.exists(volume.full_name):
            return None
        about = self._files.about(volume.full_name)
        return about.identity if about is not None and about.identity else self._files.old_identity(volume.full_name)

    def owned(self) -> tuple[Volume, ...]:
        found = []
        for name in self._files.names():
            about = self._files.about(name)
            if about is not None and about.key == self._site.key and about.volume:
                labels, options = tuple(about.labels.items()), tuple(about.options.items())
                found.append(Volume(VolumeName(about.volume), name, labels=labels, options=options))
        return tuple(found)

    def remove(self, volume: Volume) -> bool:
        return not volume.external and self._files.delete(volume.full_name)

    def with_anonymous(self, containers: Collection[ContainerId]) -> frozenset[ContainerId]:
        names = self._files.names()
        return frozenset(
            container
            for container, prefix in ((item, self._anonymous_prefix(item)) for item in containers)
            if any(name.startswith(prefix) for name in names)
        )

    def remove_anonymous(self, container: ContainerId) -> None:
        prefix = self._anonymous_prefix(container)
        self._delete_all(name for name in self._files.names() if name.startswith(prefix))

    def remove_unclaimed(self, containers: Collection[ContainerId]) -> int:
        kept = tuple(self._anonymous_prefix(container) for container in containers)
        mine = f"{ANONYMOUS}{self._site.key}-"
        return self._delete_all(
            name for name in self._files.names() if name.startswith(mine) and not name.startswith(kept)
        )

    def take_over(self, containers: Collection[ContainerId]) -> tuple[Finding, ...]:
        findings = []
        others: dict[str, str] | None = None
        for container in containers:
            prefix = f"{ANONYMOUS}{short_hash(container, 16)}-"
            for name in [name for name in self._files.names() if name.startswith(prefix)]:
                if others is None:
                    others = containers_of_others(self._site)
                if (other := others.get(container, others.get(""))) is not None:
                    what = f"may belong to container {container} of project {other} as well"
                    findings.append(Finding(self._files.path(name), what, "it is left as it is, used by neither"))
                else:
                    self._adopt(name, container, name.removeprefix(prefix))
        return tuple(findings)

    def _mine(self) -> About:
        return About(project=self._site.project, key=self._site.key)

    def _adopt(self, name: str, container: ContainerId, target_hash: str) -> None:
        """A volume of version 1 gets its name and its owner. It may be mounted: mounts follow the directory."""
        files = self._files
        known = files.about(name)
        new = self._anonymous_prefix(container) + target_hash
        with data_lock(files.data_root):
            if files.exists(new):
                return
            try:
                about = replace(self._mine(), container=container, target=known.target if known is not None else "")
                files.complete(name, known, about)
                os.rename(files.path(name), files.path(new))
            except OSError as exc:
                raise HostError(f"cannot rename volume {name!r}: {exc.strerror}") from exc

    def _delete_all(self, names: Iterator[str]) -> int:
        return sum([self._files.delete(name) for name in names])

    def _anonymous_prefix(self, container: ContainerId) -> str:
        return f"{ANONYMOUS}{self._site.key}-{short_hash(container, 16)}-"
