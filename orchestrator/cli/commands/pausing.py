"""``pystack pause`` and ``unpause``."""

from __future__ import annotations

from orchestrator.cli.commands.lifecycle import operate
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected
from orchestrator.contracts.control import Pause, Unpause
from orchestrator.errors import OperationError, PystackError


def pause(settings: Settings, services: tuple[str, ...]) -> None:
    """Let the processes of services stand still."""
    _carry_out(settings, Pause(selected(services)), "paused")


def unpause(settings: Settings, services: tuple[str, ...]) -> None:
    """Let paused services go on."""
    _carry_out(settings, Unpause(selected(services)), "unpaused")


def _carry_out(settings: Settings, request: Pause | Unpause, past: str) -> None:
    """As Docker Compose: where no container is there is nothing to do, also when nothing of the project exists."""
    _check_services(settings, request.selection.services)
    operate(settings, request, past, needs_project=False)


def _check_services(settings: Settings, services: tuple[str, ...]) -> None:
    """Raises OperationError for one that is neither in the files nor recorded."""
    if not services:
        return
    from orchestrator.state.services import recorded

    known = set(recorded(settings.site()).services)
    if not known.issuperset(services):
        try:
            known |= set(settings.load().services)
        except PystackError:
            if not settings.project_name:
                raise
    for name in services:
        if name not in known:
            shown = ", ".join(sorted(known)) or "none"
            raise OperationError(f"no such service: {name}", hint=f"the services are: {shown}")
