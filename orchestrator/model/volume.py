"""Volumes and mounts."""

from __future__ import annotations

from enum import Enum

from orchestrator.model.names import VolumeName
from orchestrator.values import frozen


@frozen
class Volume:
    """A named volume. `full_name` is ``PROJECT_KEY`` unless the stack names it; `external` ones are never removed."""

    key: VolumeName
    full_name: str
    external: bool = False
    labels: tuple[tuple[str, str], ...] = ()


class MountKind(Enum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


@frozen
class Mount:
    """One entry of ``services.S.volumes`` (or ``tmpfs``).

    `source`: an absolute host path (BIND), a key of ``Project.volumes`` (VOLUME; None: anonymous), None (TMPFS).
    `target`: absolute path in the container. `create_host_path`: make a missing bind source (the short form does).
    `nocopy`: do not fill an empty named volume from the image. `place`: compose path for errors.
    """

    kind: MountKind
    target: str
    source: str | None = None
    read_only: bool = False
    create_host_path: bool = False
    nocopy: bool = False
    tmpfs_size_bytes: int | None = None
    tmpfs_mode: int | None = None
    place: str = ""
