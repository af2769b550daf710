"""The device nodes of a config (runtime-spec, config-linux.md, "Devices"): all are made in the tmpfs of /dev, the only file
system of a container where devices open; those of other places are mounted there from it. Pure."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import InputError
from orchestrator.values import frozen

_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_DEFAULT_MODE = 0o666
_HIDDEN = ("pts", "shm", "mqueue")


@frozen
class Node:
    """`name`: below /dev. `target`: where it is mounted, or "" for there. `mode`: with the type; `uid`, `gid`: the
    container's."""

    name: str
    target: str
    mode: int
    major: int
    minor: int
    uid: int
    gid: int

    def made(self, host_base: int) -> list[Any]:
        """The arguments of the step ``nodes`` for it."""
        return [self.name, self.mode, self.major, self.minor, host_base + self.uid, host_base + self.gid]


def device_nodes(linux: Mapping[str, Any]) -> tuple[Node, ...]:
    """Raises InputError."""
    return tuple(_node(number, item) for number, item in enumerate(linux.get("devices") or ()))


def _node(number: int, item: Mapping[str, Any]) -> Node:
    place, kind, path = f"linux.devices[{number}]", item["type"], item["path"]
    if kind not in _TYPES:
        raise InputError(f'"{kind}" is not a kind of device: one of b, c, u, p', place=f"{place}.type")
    clean = posixpath.normpath(path)
    if not path.startswith("/") or clean.strip("/") in ("", "dev") or ".." in path.split("/"):
        raise InputError(f'"{path}" is not the path of a device', place=f"{place}.path")
    clean = "/" + clean.lstrip("/")
    name = clean.removeprefix("/dev/")
    inside = name != clean
    if inside and name.split("/")[0] in _HIDDEN:
        raise InputError(f"{clean} would be hidden by what is mounted there", place=f"{place}.path")
    numbers = [item.get(key) for key in ("major", "minor")]
    if kind != "p" and None in numbers:
        raise InputError("a device needs its major and minor number", place=place)
    mode = item.get("fileMode")
    return Node(
        name if inside else f".outside-{number}",
        "" if inside else clean,
        _TYPES[kind] | (_DEFAULT_MODE if mode is None else mode & 0o7777),
        numbers[0] or 0,
        numbers[1] or 0,
        item.get("uid") or 0,
        item.get("gid") or 0,
    )
