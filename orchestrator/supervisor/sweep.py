"""What is left of a project after ``down`` and stands in no record, since records can be lost: found by its names."""

from __future__ import annotations

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Volumes
from orchestrator.network.leftovers import remove_leftovers


async def sweep(site: Site, volumes: Volumes | None) -> None:
    """Remove the project's bridges, veths and nft table, and from `volumes` the named and anonymous ones that it made.
    Cgroups, bundles and records go when the supervisor ends. To be called when no container of the project is left.
    Raises HostError."""
    await remove_leftovers(site.key)
    if volumes is not None:
        volumes.remove_unclaimed(())
        for volume in volumes.owned():
            volumes.remove(volume)
