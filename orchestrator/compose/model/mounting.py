"""Sizes and options of mounts, as the runtime takes them.

Source: tmpfs(5), mount(8); what Docker lets pass for ``tmpfs``.
"""

from __future__ import annotations

import re

from orchestrator.compose.kinds.values import byte_size, go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.model.volume import PROPAGATIONS, Mount, MountKind, Owner, Recursion, VolumesFrom
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


def storage_bytes(read: Reader, node: Node, path: str) -> int | None:
    """``storage_opt``: of which there is ``size`` alone, as of Docker's overlay2."""
    item = node.get("storage_opt")
    size = None
    for key, value in item.items() if item is not None else ():
        place = f"{path}.storage_opt.{key}"
        if key != "size":
            read.error(value, place, f'there is no storage option "{key}"', "there is size")
        elif value.value is not None:
            size = read.attempt(value, place, byte_size, 0)
            if size < 0:
                read.error(value, place, "must not be negative")
    return size or None


def volumes_from(read: Reader, node: Node, path: str) -> tuple[VolumesFrom, ...]:
    """``SERVICE[:ro|rw]`` and ``container:NAME[:ro|rw]``."""
    found = []
    for number, item in enumerate(read.each(node, "volumes_from")):
        text, place = go_text(item.value), f"{path}.volumes_from[{number}]"
        is_container = text.startswith("container:")
        name, colon, mode = text.removeprefix("container:").partition(":")
        if not name or (colon and mode not in ("ro", "rw")):
            read.error(item, place, f'"{text}" is not SERVICE, SERVICE:ro, or container:NAME')
        elif is_container or name in services_of(read.model):  # Else `service_rules` says so.
            found.append(VolumesFrom(name, is_container, True if mode == "ro" else None))
    return tuple(found)


def bind_mount(read: Reader, node: Node, target: str, source: str, read_only: bool, place: str) -> Mount:
    """Raises ValueError for what contradicts itself."""
    options = node.get("bind")
    create, recursive = (options.get(key) if options is not None else None for key in ("create_host_path", "recursive"))
    propagation, relabel = (
        (read.text(options, key) or "") if options is not None else "" for key in ("propagation", "selinux")
    )
    if propagation and propagation not in PROPAGATIONS:
        raise ValueError(f'the propagation "{propagation}" is not one of {", ".join(PROPAGATIONS)}')
    recursion = Recursion(go_text(recursive.value) or "enabled") if recursive is not None else Recursion.ENABLED
    if recursion in (Recursion.WRITABLE, Recursion.READONLY) and not read_only:
        raise ValueError(f"recursive: {recursion.value} needs read_only: true")
    if recursion is Recursion.READONLY and propagation not in ("", "rprivate"):
        raise ValueError(f"recursive: readonly and the propagation {propagation} exclude each other")
    owner = _owner(read, options) if options is not None else Owner.BY_SOURCE
    return Mount(
        MountKind.BIND,
        target,
        source,
        read_only,
        create_host_path=create is None or create.value is not False,
        place=place,
        propagation=propagation if propagation != "rprivate" else "",
        recursive=recursion if recursion is not Recursion.READONLY else Recursion.ENABLED,
        relabel=relabel,
        owner=owner,
    )


_OWNER = "x-pystack.owner"
_OWNERS = (Owner.SOURCE, Owner.ROOT, Owner.KEEP)


def _owner(read: Reader, options: Node) -> Owner:
    """Raises ValueError."""
    for key, _ in options.items():
        if key.startswith("x-pystack") and key != _OWNER:
            raise ValueError(f'there is no "{key}" of a bind mount: it is {_OWNER}')
    if (item := options.get(_OWNER)) is None:
        return Owner.BY_SOURCE
    for owner in _OWNERS:
        if item.value == owner.value:
            return owner
    raise ValueError(f'the {_OWNER} "{go_text(item.value)}" is not one of {", ".join(owner.value for owner in _OWNERS)}')


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


_OPTIONS = ("bind", "volume", "tmpfs", "image")
"""Of a mount: each is for mounts of that type alone."""


def idle_options(model: Node) -> list[Diagnostic]:
    """A warning for each option of a mount that is for mounts of another type, and for the source of a tmpfs."""
    found = []
    for name, service in services_of(model).items():
        mounts = service.get("volumes")
        for number, mount in enumerate(mounts.elements() if mounts is not None else ()):
            kind = mount.get("type")
            text = go_text(kind.value) if kind is not None else ""
            idle = [key for key in _OPTIONS if key != text]
            if text == "tmpfs":
                idle.append("source")
            for key in idle if text in _OPTIONS else ():
                if (given := mount.get(key)) is not None and given.value:
                    what = "no source" if key == "source" else f"no options of {key}"
                    path = f"services.{name}.volumes[{number}].{key}"
                    found.append(
                        diagnostic(given, path, f"ignored: a mount of type {text} has {what}", key=True, code="ignored")
                    )
    return found
