"""What the scheduler drives."""

from __future__ import annotations

from orchestrator.contracts.images import Images
from orchestrator.contracts.network import Networking
from orchestrator.contracts.runtime import Runtime
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Records, Volumes
from orchestrator.values import frozen


@frozen
class Adapters:
    """One project's half of the contracts."""

    site: Site
    runtime: Runtime
    networking: Networking
    images: Images
    records: Records
    volumes: Volumes
