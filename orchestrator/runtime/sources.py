"""The sources of binds whose ids depend on who owns them, when a run starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import trio

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.oci.terms import OWNER_SOURCE
from orchestrator.runtime.owners import SINCE, OwnerMap, asked_owners, owner_map
from orchestrator.runtime.session import Session


async def mapped_sources(
    session: Session, site: Site, spec: SandboxSpec, version: int
) -> tuple[Mapping[str, str], Mapping[str, int]]:
    """Destination -> the name of a user namespace; name -> its descriptor, which stays the session's. `version`: of the
    monitor's protocol; one that is too old is asked for nothing but what is written. Raises OSError."""
    asked = asked_owners(spec.config)
    if version < SINCE:
        asked = {target: owner for target, owner in asked.items() if owner == OWNER_SOURCE}
    if not asked:
        return {}, {}
    # In a thread: a source may be on a network disk that does not answer.
    maps = await trio.to_thread.run_sync(owner_maps, spec, site, asked)
    names = {target: wanted.name for target, wanted in maps.items()}
    if version < SINCE:  # Its program says that it cannot be had.
        return names, {}
    return names, {wanted.name: await session.owner_namespace(wanted) for wanted in maps.values()}


def owner_maps(spec: SandboxSpec, site: Site, asked: Mapping[str, str]) -> dict[str, OwnerMap]:
    """Of the binds that are `asked` for, by destination. Blocking."""
    found = {}
    for entry in spec.config.get("mounts") or ():
        target = entry["destination"]
        if target in asked and entry.get("type") == "bind":
            with contextlib.suppress(OSError):  # Mounting it fails too, and says why.
                source = os.stat(entry["source"])
                wanted = owner_map(spec.config["process"], site.ids, asked[target], source.st_uid, source.st_gid)
                if wanted is not None:
                    found[target] = wanted
    return found
