"""What a run is made on and that is not the container's own: the sources of its binds, and places in them.

Between the preparation of a run and its start others may change these. A job that it waits for may make the folder that it
works in, the file that it binds, the folder of a volume that is mounted alone; an editor replaces a file by another of the
same name. So what was prepared counts only on the same ground, and nothing is prepared that would make something there.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.kernel.rooted import open_in

Ground = tuple[tuple[int, ...], ...]


def ground_of(spec: SandboxSpec) -> Ground | None:
    """Which files these are now, and whose; None: one of them is not there. Blocking: a source may be on a network disk
    that does not answer."""
    try:
        return tuple(_identities(spec))
    except OSError:
        return None


def _identities(spec: SandboxSpec) -> Iterator[tuple[int, ...]]:
    entries = spec.config.get("mounts") or ()
    sources = {entry["destination"]: entry["source"] if entry.get("type") == "bind" else None for entry in entries}
    for source in sources.values():
        if source is not None:
            yield _identity(os.stat(source))
    cwd = spec.config["process"].get("cwd") or "/"
    for place in (*sources, *(file.path for file in spec.files), cwd):
        above = _mount_above(place, sources)
        if (source := sources.get(above)) is not None:
            yield _found_in(source, posixpath.relpath(place, above))


def _mount_above(place: str, targets: dict[str, str | None]) -> str:
    """The target that is nearest to `place`; "/" where there is none."""
    above = posixpath.dirname(place)
    while above != "/" and above not in targets:
        above = posixpath.dirname(above)
    return above


def _found_in(source: str, path: str) -> tuple[int, ...]:
    top = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = open_in(top, os.fsencode(path))
        try:
            return _identity(os.fstat(found))
        finally:
            os.close(found)
    finally:
        os.close(top)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_uid, found.st_gid
