"""Id mappings: of user namespaces, and of mounts (user_namespaces(7), mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

import os

from orchestrator.errors import HostError, InputError
from orchestrator.kernel import constants as c
from orchestrator.kernel.process import clone3

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from typing import Any
else:  # Both would make enumerations of all that they have
    import _signal as signal


def lines_of(mappings: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{item.get('containerID', 0)} {item.get('hostID', 0)} {item.get('size', 0)}\n" for item in mappings)


def write_maps(pid: int, uids: str, gids: str) -> None:
    """Of the process `pid`, that is in a new user namespace. Raises HostError."""
    for name, text in (("gid_map", gids), ("uid_map", uids)):
        try:
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as exc:
            raise HostError(f"cannot set the {name}: {exc.strerror}: {text.strip()}") from exc


def map_lines(config: Mapping[str, Any], item: Mapping[str, Any], option: str, place: str) -> tuple[str, str]:
    """Of a mount: its own mappings, else those of crun's option (``idmap=uids=0-1-10#...;gids=...``), else the
    container's. Raises InputError."""
    linux = config.get("linux") or {}
    uids, gids = item.get("uidMappings"), item.get("gidMappings")
    if uids or gids:
        if not (uids and gids):
            raise InputError("uidMappings and gidMappings are both needed", place=place)
        return lines_of(uids), lines_of(gids)
    _, equals, text = option.partition("=")
    if equals:
        return _of_option(text, linux, place)
    if not linux.get("uidMappings"):
        raise InputError("idmap needs mappings: of the mount or of the container", place=place)
    return lines_of(linux["uidMappings"]), lines_of(linux["gidMappings"])


def _of_option(text: str, linux: Mapping[str, Any], place: str) -> tuple[str, str]:
    found = {}
    for part in text.split(";"):
        kind, _, ranges = part.partition("=")
        if kind not in ("uids", "gids") or not ranges:
            raise InputError(f"{part!r} is not of the form uids=A-B-COUNT", place=place)
        lines = []
        for entry in ranges.split("#"):
            relative = entry.startswith("@")
            numbers = entry.lstrip("@+").split("-")
            if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
                raise InputError(f"{entry!r} is not of the form A-B-COUNT", place=place)
            inside, target, count = map(int, numbers)
            if relative:
                target = outside(linux.get(f"{kind[:-1]}Mappings") or (), target)
            lines.append(f"{inside} {target} {count}\n")
        found[kind] = "".join(lines)
    if len(found) != 2:
        raise InputError("idmap= needs uids and gids", place=place)
    return found["uids"], found["gids"]


def outside(mappings: Sequence[Mapping[str, Any]], inside: int) -> int:
    """The host's id of the container's; `inside` itself where there are no mappings. Raises InputError."""
    for item in mappings:
        if 0 <= inside - item["containerID"] < item["size"]:
            return int(item["hostID"]) + inside - int(item["containerID"])
    if mappings:
        raise InputError(f"the container has no id {inside}", place="linux.uidMappings")
    return inside


def mount_namespace(uids: str, gids: str) -> int:
    """A user namespace with these mappings, as a descriptor: a child that does nothing has it for a moment."""
    pid = clone3(c.CLONE_NEWUSER)
    if pid == 0:
        try:
            while True:
                signal.pause()
        finally:
            os._exit(0)
    try:
        write_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
