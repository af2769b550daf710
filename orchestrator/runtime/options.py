"""OCI mount options in the kernel's terms (runtime-spec, config.md, "Linux mount options"; mount_setattr(2)). Pure."""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.kernel import constants as c
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ATTRIBUTES: dict[str, tuple[int, int]] = {
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
"""Option -> attributes set, attributes cleared: of the mount itself. Each also exists as ``rOPTION``: of all mounts below
too."""

PROPAGATION = {
    "private": c.MS_PRIVATE,
    "slave": c.MS_SLAVE,
    "shared": c.MS_SHARED,
    "unbindable": c.MS_UNBINDABLE,
}
_WITHOUT_MEANING = frozenset({"defaults", "sync", "async", "dirsync", "mand", "nomand", "silent", "loud", "newinstance"})
_UNSUPPORTED = frozenset({"tmpcopyup", "remount", "lazytime"})


@frozen
class MountOptions:
    """`set_`, `clear`: MOUNT_ATTR_* bits of the mount itself; `tree_set`, `tree_clear`: of all mounts below too.
    `propagation`: of the whole tree (`propagates_below`) or of the mount itself. `data`: what the file system itself
    understands (None: a flag)."""

    set_: int = 0
    clear: int = 0
    tree_set: int = 0
    tree_clear: int = 0
    propagation: int = c.MS_PRIVATE
    propagates_below: bool = True
    bind: bool = False
    recursive: bool = False
    idmap: bool = False
    data: tuple[tuple[str, str | None], ...] = ()


def parse_options(options: Iterable[str]) -> MountOptions:
    """Later options win over earlier ones. Raises InputError for one that is known and not supported."""
    given = tuple(options)
    found = _parsed.get(given)
    if found is None:
        found = _parse(given)
        if len(_parsed) < _MOST_PARSED:
            _parsed[given] = found
    return found


_parsed: dict[tuple[str, ...], MountOptions] = {}
"""Most containers have the same mounts."""
_MOST_PARSED = 256


def _parse(options: tuple[str, ...]) -> MountOptions:
    own, tree = (0, 0), (0, 0)
    propagation, propagates_below = c.MS_PRIVATE, True
    bind = recursive = idmap = False
    data: dict[str, str | None] = {}
    for option in options:
        plain = option[1:] if option.startswith("r") and option[1:] in {*ATTRIBUTES, *PROPAGATION, "idmap"} else option
        if plain in ATTRIBUTES:
            on, off = ATTRIBUTES[plain]
            own = own[0] & ~off | on, own[1] & ~on | off
            if plain != option:
                tree = tree[0] & ~off | on, tree[1] & ~on | off
        elif plain in PROPAGATION:
            propagation, propagates_below = PROPAGATION[plain], plain != option
        elif plain == "idmap":
            idmap = True
        elif option in ("bind", "rbind"):
            bind, recursive = True, option == "rbind"
        elif option in _UNSUPPORTED:
            raise InputError(f"the mount option {option} is not supported")
        elif option not in _WITHOUT_MEANING:
            key, equals, value = option.partition("=")
            data[key] = value if equals else None
    if not recursive:
        tree = own
    return MountOptions(*own, *tree, propagation, propagates_below, bind, recursive, idmap, tuple(data.items()))
