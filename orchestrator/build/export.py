"""The file system of a container as a tar archive: what its processes see, without what is mounted in it.

It is not stopped for that: whoever reads the archive may be slow. So it may change meanwhile; what has vanished is left
out, and a file that has become shorter ends with zeros, as with tar(1).
"""

from __future__ import annotations

import os
from typing import BinaryIO

from orchestrator.build.commit import ACLS, CAPABILITY, own_acl, own_capability, own_id
from orchestrator.build.snapshot import Origin
from orchestrator.contracts.site import IdMap
from orchestrator.errors import HostError, OperationError
from orchestrator.images.unpack.entries import Entry
from orchestrator.images.unpack.whole import write_merged
from orchestrator.values import replace


def export_container(origin: Origin, out: BinaryIO) -> int:
    """Write it to `out`; gives how many files changed meanwhile. Blocking. Raises OperationError, HostError, and
    BrokenPipeError when nobody reads any more."""
    container, ids = origin.spec.container, origin.ids
    try:
        before = os.stat(origin.upper)
    except FileNotFoundError as exc:
        raise OperationError(f"container {container} does not exist") from exc
    except OSError as exc:
        raise HostError(f"cannot read {origin.upper}: {exc.strerror}") from exc
    try:
        changed = write_merged((origin.upper, *origin.spec.lowers), out, lambda entry: as_seen_inside(entry, ids))
    except BrokenPipeError:
        raise
    except OSError as exc:
        why = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror  # Without a name: what it is written to.
        raise HostError(f"cannot export container {container}: {why}") from exc
    try:
        same = os.path.samestat(before, os.stat(origin.upper))
    except FileNotFoundError:
        same = False
    if not same:
        raise OperationError(f"container {container} was removed while it was being read")
    return changed


def as_seen_inside(entry: Entry, ids: IdMap) -> Entry:
    """An entry of a writable layer with the container's ids."""
    xattrs: dict[bytes, bytes] = {}
    for name, value in entry.xattrs.items():
        seen: bytes | None = value
        if name == CAPABILITY.encode():
            seen = own_capability(value, ids)
        elif name.decode(errors="replace") in ACLS:
            seen = own_acl(value, ids)
        if seen is not None:
            xattrs[name] = seen
    return replace(entry, uid=own_id(entry.uid, ids), gid=own_id(entry.gid, ids), xattrs=xattrs)
