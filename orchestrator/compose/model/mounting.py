"""Sizes and options of mounts, as the runtime takes them.

Source: tmpfs(5), mount(8); what Docker lets pass for ``tmpfs``.
"""

from __future__ import annotations

import re

from orchestrator.compose.kinds.values import byte_size
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node
from orchestrator.model.volume import Mount, MountKind
from orchestrator.units import parse_bytes

_FLAGS = frozenset((
    "defaults", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "atime", "noatime",
    "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
))  # fmt: skip
_ANYWAY = frozenset(("nosuid", "nodev", "noexec"))
"""What a tmpfs has unless it is told otherwise."""
_PER_CENT = re.compile(r"[0-9]{1,3}%")
_ID = re.compile(r"[0-9]{1,10}")
_POLICY = re.compile(r"default|local|prefer:[0-9]+|(?:bind|interleave)(?:=[a-z]+)?(?::[0-9-]+)?")
_COUNT = re.compile(r"[0-9]{1,18}[kmgKMG]?")


def shm_bytes(read: Reader, node: Node, path: str) -> int | None:
    item = node.get("shm_size")
    if item is None or item.value in (None, ""):
        return None
    size = read.attempt(item, f"{path}.shm_size", byte_size, 0)
    if size < 0:
        read.error(item, f"{path}.shm_size", "must not be negative")
    return size or None


def tmpfs_mount(text: str, place: str) -> Mount:
    """``TARGET[:OPTIONS]``, options as ``mount -o`` has them: ``size=64m,mode=1777,ro``. Raises ValueError."""
    target, _, options = text.partition(":")
    if not target.startswith("/"):
        raise ValueError(f'the target "{target}" is not an absolute path')
    size = mode = None
    read_only = False
    others: list[str] = []
    for option in options.split(",") if options else ():
        name, equals, value = option.partition("=")
        if name == "size" and not _PER_CENT.fullmatch(value):
            size = parse_bytes(value)
        elif name == "mode":
            if not re.fullmatch("[0-7]{1,4}", value):
                raise ValueError(f'the mode "{value}" is not an octal number (write mode=1777)')
            mode = int(value, 8)
        elif option in ("ro", "rw"):
            read_only = option == "ro"
        elif (option in _FLAGS and not equals) or _is_option(name, value):
            others.append(option)
        else:
            raise ValueError(f'"{option}" is no option of a tmpfs')
    return Mount(
        MountKind.TMPFS,
        target,
        None,
        read_only,
        tmpfs_size_bytes=size,
        tmpfs_mode=mode,
        place=place,
        options=() if _ANYWAY.issuperset(others) else tuple(others),
    )


def _is_option(name: str, value: str) -> bool:
    """One with a value. Raises ValueError for a value that is none of its kind."""
    patterns = {"size": _PER_CENT, "uid": _ID, "gid": _ID, "nr_inodes": _COUNT, "nr_blocks": _COUNT, "mpol": _POLICY}
    pattern = patterns.get(name)
    if pattern is not None and not pattern.fullmatch(value):
        raise ValueError(f'"{value}" is no value for {name}')
    return pattern is not None
