"""The options of ``mounts[]`` (config.md, "Linux mount options") in the kernel's terms. Pure."""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.kernel import constants as c
from orchestrator.runtime import options
from orchestrator.runtime.options import PROPAGATION
from orchestrator.values import entity, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ATTRIBUTES = {
    **options.ATTRIBUTES,
    "atime": (0, c.MOUNT_ATTR__ATIME),
    "norelatime": (0, 0),
    "nostrictatime": (0, c.MOUNT_ATTR__ATIME),
}
"""Those of the projects' containers, and three that others write."""
_OF_THE_SUPERBLOCK = frozenset({"sync", "dirsync", "lazytime", "mand"})
_WITHOUT_MEANING = frozenset(
    {"defaults", "async", "nomand", "silent", "loud", "newinstance", "nolazytime", "iversion", "noiversion", "acl", "noacl"}
)
OTHERS = ("bind", "rbind", "tmpcopyup", "copy-symlink", "idmap", "ridmap", "remount")


@entity
class Options:
    """`tree_set`, `tree_clear`: of all mounts below too. `propagation`: kind, and whether of all below. `idmap`: "", or
    the option's text. `flags`, `data`: what the file system itself is told."""

    set_: int = 0
    clear: int = 0
    tree_set: int = 0
    tree_clear: int = 0
    propagation: tuple[int, bool] | None = None
    bind: bool = False
    recursive: bool = False
    idmap: str = ""
    copy_up: bool = False
    copy_link: bool = False
    """A source that is a symbolic link is made again, and not followed (crun's option)."""
    data: list[tuple[bytes, bytes | None]] = field(default_factory=list)


def known_options() -> list[str]:
    names = {*ATTRIBUTES, *PROPAGATION, *OTHERS, *_OF_THE_SUPERBLOCK, *_WITHOUT_MEANING}
    names |= {f"r{name}" for name in (*ATTRIBUTES, *PROPAGATION)}
    return sorted(names - {"remount"})


def parse(given: Iterable[str], place: str) -> Options:
    """Later options win over earlier ones. Raises InputError."""
    found = Options()
    for option in given:
        tree = option.startswith("r") and option[1:] in {*ATTRIBUTES, *PROPAGATION}
        plain = option[1:] if tree else option
        if plain in ATTRIBUTES:
            on, off = ATTRIBUTES[plain]
            if tree:
                found.tree_set, found.tree_clear = found.tree_set & ~off | on, found.tree_clear & ~on | off
            else:
                found.set_, found.clear = found.set_ & ~off | on, found.clear & ~on | off
        elif plain in PROPAGATION:
            found.propagation = PROPAGATION[plain], tree
        elif option in ("bind", "rbind"):
            found.bind, found.recursive = True, option == "rbind"
        elif option.partition("=")[0] in ("idmap", "ridmap"):
            found.idmap = option
        elif option == "tmpcopyup":
            found.copy_up = True
        elif option == "copy-symlink":
            found.copy_link = True
        elif option == "remount":
            raise InputError("remount is not supported: say how it is to be mounted at once", place=place)
        elif option in _OF_THE_SUPERBLOCK:
            found.data.append((option.encode(), None))
        elif option and option not in _WITHOUT_MEANING:
            key, equals, value = option.partition("=")
            found.data.append((key.encode(), value.encode() if equals else None))
    return found
