"""Whether a container's files may be put together by somebody else than a run of it: a writable layer can be mounted but
once (overlayfs.rst, "Sharing and copying layers")."""

from __future__ import annotations

from orchestrator.cli.wire import statuses_of
from orchestrator.client import Client
from orchestrator.contracts.state import Wanted
from orchestrator.model.names import ContainerId
from orchestrator.model.phase import Phase

_ENDED = frozenset({Phase.EXITED, Phase.FAILED, Phase.BLOCKED})


def rests(client: Client, container: ContainerId) -> bool:
    """Whether it does not run, and will not by itself. Raises PystackErrors."""
    return any(
        status.phase in _ENDED or (status.phase is Phase.CREATED and status.wanted is Wanted.STOPPED)
        for status in statuses_of(client.request("ps"))
        if status.container == container
    )
