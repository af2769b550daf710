"""Who owns on the host what a container writes into a bind: the maps of an id-mapped mount, by the source's owner. Pure.

On such a mount the owner of the source on disk is the container's user inside, and the host's root is nobody: nothing that
a container writes can belong to root. Whoever else has no place there (the container's root beside another user, and the
user with the number of the source's owner) can write nothing that is theirs (EOVERFLOW), instead of files of odd owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.contracts.site import IdMap
from orchestrator.errors import InputError
from orchestrator.oci.annotations import object_in
from orchestrator.oci.namespaces import own_namespaces
from orchestrator.oci.terms import ANNOTATION_OWNERS, OWNER_BY_SOURCE, OWNER_SOURCE
from orchestrator.values import frozen

SINCE = 5
"""The version of the monitor's protocol that has such mounts."""
_FIRST_USER = 1000
_DYNAMIC = range(61184, 65536)
"""systemd's dynamic users, and nobody."""
_OWN_SWITCH = "PUID="
"""The variable of images that begin as root, give their folders to this id, and become it: they need both."""

Extent = tuple[int, int, int]
"""First id on disk, first on the host of who sees it, and how many: a line of uid_map (user_namespaces(7))."""


@frozen
class OwnerMap:
    """`name`: of the user namespace with these maps."""

    name: str
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]


def asked_owners(config: Mapping[str, Any]) -> dict[str, str]:
    """Destination -> whose (`oci.terms`). Raises InputError."""
    place = f"annotations.{ANNOTATION_OWNERS}"
    asked = object_in(config, ANNOTATION_OWNERS, "owners")
    if asked and "user" not in own_namespaces(config):
        raise InputError("owners of binds need a user namespace", place=place)
    for text in asked.values():
        if text not in (OWNER_BY_SOURCE, OWNER_SOURCE):
            raise InputError(f'"{text}" is no owner of a bind', place=place)
    return asked


def owner_map(process: Mapping[str, Any], ids: IdMap, owner: str, uid: int, gid: int) -> OwnerMap | None:
    """For a source of `uid` and `gid`, in a container with this OCI ``process``; None: as all ids are mapped."""
    if owner == OWNER_BY_SOURCE and not (_is_ordinary(uid, ids) and not _switches(process)):
        return None
    user = process.get("user") or {}
    own = int(user.get("uid", 0)), int(user.get("gid", 0))
    if own == (uid, gid) == (0, 0):
        return None
    name = f"ids:{uid}={own[0]},{gid}={own[1]}"
    return OwnerMap(name, _exchanged(ids, uid, own[0]), _exchanged(ids, gid, own[1]))


def _is_ordinary(uid: int, ids: IdMap) -> bool:
    """Whether it is a person's, and not the system's or a container's."""
    return uid >= _FIRST_USER and uid not in _DYNAMIC and ids.inside(uid) is None


def _switches(process: Mapping[str, Any]) -> bool:
    return any(text.startswith(_OWN_SWITCH) for text in process.get("env") or ())


def _exchanged(ids: IdMap, disk: int, inner: int) -> tuple[Extent, ...]:
    """All ids as they are, but `disk`, which is the container's `inner`, and root, who is nobody then."""
    lines: Iterable[Extent] = ids.extents()
    for number in (0, inner, disk):
        lines = list(_without(lines, number))
    return (*lines, (disk, ids.outside(inner), 1))


def _without(lines: Iterable[Extent], number: int) -> Iterator[Extent]:
    for first, outer, count in lines:
        before = number - first
        if not 0 <= before < count:
            yield first, outer, count
            continue
        if before:
            yield first, outer, before
        if count - before - 1:
            yield number + 1, outer + before + 1, count - before - 1
