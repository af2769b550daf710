"""What the scheduler drives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from orchestrator.contracts.images import Images
from orchestrator.contracts.network import Networking
from orchestrator.contracts.runtime import Runtime
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Records, Volumes
from orchestrator.model.names import ContainerId
from orchestrator.values import frozen

FollowOutput = Callable[[ContainerId, Callable[[bytes], None], trio.Event], Awaitable[None]]
"""Tell what a container writes as it is written, all of it; return once the event is set (it has ended) and all is told."""


async def _nothing_is_written(_container: ContainerId, _tell: Callable[[bytes], None], ended: trio.Event) -> None:
    await ended.wait()



@frozen
class Adapters:
    """One project's half of the contracts. `output`: of what runs before a service (``pre_start``)."""

    site: Site
    runtime: Runtime
    networking: Networking
    images: Images
    records: Records
    volumes: Volumes
    output: FollowOutput = _nothing_is_written
