"""OCI mount options in the kernel's terms (runtime-spec, config.md, "Linux mount options"; mount_setattr(2)). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from orchestrator.errors import InputError
from orchestrator.kernel import constants as c
from orchestrator.values import frozen

_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (c.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, c.MOUNT_ATTR_RDONLY),
    "nosuid": (c.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, c.MOUNT_ATTR_NOSUID),
    "nodev": (c.MOUNT_ATTR_NODEV, 0),
    "dev": (0, c.MOUNT_ATTR_NODEV),
    "noexec": (c.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, c.MOUNT_ATTR_NOEXEC),
    "nodiratime": (c.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, c.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (c.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, c.MOUNT_ATTR_NOSYMFOLLOW),
    # The access time is one field of several bits: it is cleared before it is set.
    "noatime": (c.MOUNT_ATTR_NOATIME, c.MOUNT_ATTR__ATIME),
    "strictatime": (c.MOUNT_ATTR_STRICTATIME, c.MOUNT_ATTR__ATIME),
    "relatime": (0, c.MOUNT_ATTR__ATIME),
}
"""Option -> attributes set, attributes cleared. Each also exists as ``rOPTION``: with all mounts below."""

_PROPAGATION = {
    "private": c.MS_PRIVATE,
    "slave": c.MS_SLAVE,
    "shared": c.MS_SHARED,
    "unbindable": c.MS_UNBINDABLE,
}
_WITHOUT_MEANING = frozenset({"defaults", "sync", "async", "dirsync", "mand", "nomand", "silent", "loud", "newinstance"})
_UNSUPPORTED = frozenset({"tmpcopyup", "remount", "lazytime"})


@frozen
class MountOptions:
    """`set_`, `clear`: MOUNT_ATTR_* bits. `data`: what the file system itself understands (None: a flag)."""

    set_: int = 0
    clear: int = 0
    propagation: int = c.MS_PRIVATE
    bind: bool = False
    recursive: bool = False
    idmap: bool = False
    data: tuple[tuple[str, str | None], ...] = ()


def parse_options(options: Iterable[str]) -> MountOptions:
    """Later options win over earlier ones. Raises InputError for one that is known and not supported."""
    return _parse(tuple(options))


@lru_cache(maxsize=256)
def _parse(options: tuple[str, ...]) -> MountOptions:
    """Most containers have the same mounts."""
    set_ = clear = 0
    propagation = c.MS_PRIVATE
    bind = recursive = idmap = False
    data: dict[str, str | None] = {}
    for option in options:
        plain = option[1:] if option.startswith("r") and option[1:] in {*_ATTRIBUTES, *_PROPAGATION, "idmap"} else option
        if plain in _ATTRIBUTES:
            on, off = _ATTRIBUTES[plain]
            set_, clear = (set_ & ~off) | on, (clear & ~on) | off
        elif plain in _PROPAGATION:
            propagation = _PROPAGATION[plain]
        elif plain == "idmap":
            idmap = True
        elif option in ("bind", "rbind"):
            bind, recursive = True, option == "rbind"
        elif option in _UNSUPPORTED:
            raise InputError(f"the mount option {option} is not supported")
        elif option not in _WITHOUT_MEANING:
            key, equals, value = option.partition("=")
            data[key] = value if equals else None
    return MountOptions(set_, clear, propagation, bind, recursive, idmap, tuple(data.items()))
