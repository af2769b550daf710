"""``pystack pause`` and ``unpause``."""

from __future__ import annotations

from orchestrator.cli.commands.lifecycle import known, operate
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected
from orchestrator.contracts.control import Pause, Unpause


def pause(settings: Settings, services: tuple[str, ...]) -> None:
    """Let the processes of services stand still."""
    _carry_out(settings, Pause(selected(services)), "paused")


def unpause(settings: Settings, services: tuple[str, ...]) -> None:
    """Let paused services go on."""
    _carry_out(settings, Unpause(selected(services)), "unpaused")


def _carry_out(settings: Settings, request: Pause | Unpause, past: str) -> None:
    """As Docker Compose: where no container is there is nothing to do, also when nothing of the project exists."""
    known(settings, request.selection.services)
    operate(settings, request, past, needs_project=False)
