"""What is to be done when files change (compose-spec, "develop")."""

from __future__ import annotations

from enum import Enum

from orchestrator.model.hooks import Hook
from orchestrator.values import frozen


class WatchAction(Enum):
    """What a change is answered with. Those that copy files into the container have a target."""

    SYNC = "sync"
    REBUILD = "rebuild"
    RESTART = "restart"
    SYNC_RESTART = "sync+restart"
    SYNC_EXEC = "sync+exec"

    @property
    def syncs(self) -> bool:
        return self in (WatchAction.SYNC, WatchAction.SYNC_RESTART, WatchAction.SYNC_EXEC)

    @property
    def restarts(self) -> bool:
        return self in (WatchAction.RESTART, WatchAction.SYNC_RESTART)


@frozen
class WatchRule:
    """`path`: absolute. `target`: in the container, "" for actions that copy nothing. `ignore`, `include`: patterns as in a
    ``.dockerignore``, from `path`. `initial_sync`: all is copied when the watch begins. `exec`: of ``sync+exec`` alone.
    `place` is its compose path."""

    path: str
    action: WatchAction
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    initial_sync: bool = False
    exec: Hook | None = None
    place: str = ""
