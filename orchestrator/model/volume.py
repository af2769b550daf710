"""Volumes and mounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from posixpath import normpath

from orchestrator.model.names import VolumeName
from orchestrator.values import frozen


@frozen
class Volume:
    """A named volume. `full_name` is ``PROJECT_KEY`` unless the stack names it; `external` ones are never removed.
    `options`: ``driver_opts``, such as `check_options` lets pass; () for a directory of our own."""

    key: VolumeName
    full_name: str
    external: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


OPTIONS = ("type", "o", "device")
"""Of the ``local`` driver: as mount(8) has them."""


def check_options(options: Mapping[str, str]) -> None:
    """Raises ValueError for ``driver_opts`` of the ``local`` driver that cannot be mounted."""
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f'"{name}" is no option of the local driver: it has {", ".join(OPTIONS)}')
    if not options:
        return
    for name in ("type", "device"):
        if not options.get(name):
            raise ValueError(f'the local driver needs "{name}" as well')
    kind, device = options["type"], options["device"]
    if bound_directory(options) is not None:
        others = sorted(set(flags_of(options)) - {"bind", "rbind", "rw"})
        if others:
            raise ValueError(f'a bound directory takes no "{others[0]}" (a service can mount it with read_only: true)')
        if not device.startswith("/"):
            raise ValueError(f'the device "{device}" is not an absolute path')
    elif kind in ("none", "bind"):
        raise ValueError(f'type "{kind}" needs o: bind')
    for text in (kind, device):
        if text.startswith("-") or not text.isprintable():
            raise ValueError(f"{text!r} cannot be mounted")
    if "," in kind or "/" in kind:
        raise ValueError(f'"{kind}" is no type of a file system')


def flags_of(options: Mapping[str, str]) -> tuple[str, ...]:
    """What stands in ``o``."""
    return tuple(flag.strip() for flag in options.get("o", "").split(",") if flag.strip())


def bound_directory(options: Mapping[str, str]) -> str | None:
    """The directory of the host that such a volume is; None when it is none (a file system of its own, or ours)."""
    return options.get("device") if {"bind", "rbind"} & {*flags_of(options)} else None


def check_subpath(path: str) -> None:
    """Raises ValueError for a folder that cannot be inside of a volume or an image."""
    if path.startswith("/") or normpath(path).split("/")[0] == "..":
        raise ValueError(f'the subpath "{path}" is not a path below the root')


class MountKind(Enum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


class Recursion(Enum):
    """What of the mounts below a bind's source comes along. `WRITABLE`: of a read-only bind these are not made so."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    WRITABLE = "writable"
    READONLY = "readonly"


class Owner(Enum):
    """Who owns on the host what a container writes into a bind.

    `BY_SOURCE`: as `SOURCE` where the source belongs to an ordinary user, else as `ROOT`. `SOURCE`: what the container's
    user writes belongs to the owner and group of the source. `ROOT`: ids are the same numbers on both sides. `KEEP`: no id
    is mapped; files belong to the host's ids of the container's."""

    BY_SOURCE = "by source"
    SOURCE = "source"
    ROOT = "root"
    KEEP = "keep"


PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


@frozen
class Mount:
    """One entry of ``services.S.volumes`` (or ``tmpfs``).

    `source`: an absolute host path (BIND), a key of ``Project.volumes`` (VOLUME; None: anonymous), an image's reference
    (IMAGE, which is always read-only), None (TMPFS). `target`: absolute path in the container. `create_host_path`: make a
    missing bind source (the short form does). `nocopy`: do not fill an empty volume from the image. `subpath`: the folder
    of the volume or image that is mounted. `options`: further ones, as an OCI config has them. `propagation`: one of
    `PROPAGATIONS`, "" for rprivate. `owner`: of a bind. `relabel`: ``z`` or ``Z``, where there
    is SELinux. `labels`: of an anonymous volume. `place`: compose path for errors. `undeclared`: the stack has no such
    volume, and `source` is its whole name.
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
    subpath: str = ""
    options: tuple[str, ...] = ()
    propagation: str = ""
    recursive: Recursion = Recursion.ENABLED
    relabel: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    owner: Owner = Owner.BY_SOURCE
    undeclared: bool = False


@frozen
class VolumesFrom:
    """The mounts of another container: of a service of the stack (its first replica), or one of the project's by its name.
    `read_only` None: as they are there."""

    of: str
    is_container: bool = False
    read_only: bool | None = None


def mounted_images(mounts: Iterable[Mount]) -> tuple[str, ...]:
    """The references of the images among `mounts`, each once, in order."""
    return tuple(dict.fromkeys(mount.source for mount in mounts if mount.kind is MountKind.IMAGE and mount.source))
