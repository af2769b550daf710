"""What is left of a project after ``down`` and stands in no record, since records can be lost: found by its names."""

from __future__ import annotations

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Volumes
from orchestrator.model.project import Project
from orchestrator.network.leftovers import remove_leftovers


async def sweep(site: Site, volumes: Volumes | None, stack: Project | None) -> None:
    """Remove the project's bridges, veths and nft table, and from `volumes` the named and anonymous ones that it made. As
    with Docker Compose a named one that the files do not have any more stays; without a `stack` nobody knows, and all go.
    Cgroups, bundles and records go when the supervisor ends. To be called when no container of the project is left.
    Raises HostError."""
    await remove_leftovers(site.key)
    if volumes is not None:
        volumes.remove_unclaimed(())
        ours = [volume.full_name for volume in stack.volumes.values() if not volume.external] if stack is not None else None
        for volume in volumes.owned():
            if ours is None or volume.full_name in ours:
                volumes.remove(volume)
