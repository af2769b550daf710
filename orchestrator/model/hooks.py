"""Commands that are run in a container when it has started, and before it is stopped (compose-spec, "post_start")."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.values import frozen

_NOTHING: Mapping[str, str] = MappingProxyType({})


@frozen
class Hook:
    """`command`: an argv. None: as the container's main process has it. `environment`: added to the container's.
    `privileged`: with all capabilities. `place` is its compose path."""

    command: tuple[str, ...]
    user: str | None = None
    working_dir: str | None = None
    environment: Mapping[str, str] = _NOTHING
    privileged: bool = False
    place: str = ""
