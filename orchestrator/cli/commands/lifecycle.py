"""``pystack start``, ``stop``, ``restart`` and ``kill``: one request each, one engine behind them."""

from __future__ import annotations

import time

from orchestrator.cli.connection import explain_unknown, manage
from orchestrator.cli.dryrun import shown_instead
from orchestrator.cli.operation import Operation, report_failures
from orchestrator.cli.provided_stack import stack_with_providers
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected
from orchestrator.contracts.control import NAMES, Connect, Disconnect, Kill, Pause, Remove, Restart, Start, Stop, Unpause
from orchestrator.errors import OperationError, PystackError
from orchestrator.units import parse_signal, signal_name
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.contracts.site import Site


def operate(
    settings: Settings,
    request: Start | Stop | Restart | Kill | Pause | Unpause | Remove | Connect | Disconnect,
    past: str,
    *,
    needs_project: bool = True,
) -> None:
    """Run `request` on the project's supervisor with progress; `past` words the summary. When nothing of the project exists
    it raises OperationError; or, where that does not matter, there is nothing to do (raises as `known`)."""
    began_s = time.monotonic()
    site = settings.site()
    verb = NAMES[type(request)]
    if not isinstance(request, Connect | Disconnect) and (asked := request.selection.services):
        left = _recorded_of(settings, site, asked, verb if needs_project else "")
        if not left:
            choose(settings.terminal(), verb, Board()).summary(f"nothing to {verb}", {"changed": 0})
            return
        request = replace(request, selection=replace(request.selection, services=left))
    services = () if isinstance(request, Connect | Disconnect) else request.selection.services
    board = Board()
    progress = choose(settings.terminal(), f"{verb} {site.project}", board)
    client = manage(site)
    if client is None and not needs_project:
        known(settings, services)
        progress.summary(f"nothing to {verb}", {"changed": 0})
        return
    if client is None:
        raise OperationError(f"project {site.project} does not exist", hint="`pystack up` makes it")
    with client:
        try:
            if shown_instead(settings, request, site, client):
                return
            result = Operation(client, request, progress, board).run()
        except PystackError as error:
            progress.close()
            if not settings.dry_run:
                report_failures(site, board, progress)
            raise explain_unknown(settings, error, services) from None
        finally:
            progress.close()
    number = result.get("changed", 0)
    noun = "container" if number == 1 else "containers"
    text = f"{number} {noun} {past} in {time.monotonic() - began_s:.2f} s" if number else f"nothing to {verb}"
    progress.summary(text, result)


def _recorded_of(settings: Settings, site: Site, services: tuple[str, ...], needed: str) -> tuple[str, ...]:
    """Those of `services` that are recorded, or of which only containers are: the supervisor knows no others. All, when
    nothing is recorded. `needed`: the verb that each must have a container for; "" when one without is passed over. Raises
    OperationError, and as `known`."""
    from orchestrator.state.services import recorded

    found = recorded(site)
    there = {*found.services, *(item.service for item in found.containers.values())}
    new = [name for name in services if name not in there] if there else []
    if new:
        known(settings, new)
    if new and needed:
        message = f'service "{new[0]}" has no container to {needed}'
        raise OperationError(message, hint=f"create it with: pystack up {new[0]}")
    return tuple(name for name in services if name not in new)


def known(settings: Settings, services: Iterable[str]) -> None:
    """Raises InputError for a service that is neither in the files nor recorded, ComposeError when neither can tell."""
    from orchestrator.cli.selection import check_services
    from orchestrator.state.services import recorded

    names = set(recorded(settings.site()).services)
    if not names.issuperset(services):
        try:
            names |= set(settings.load().services)
        except PystackError:
            if not settings.project_name:
                raise
    check_services(tuple(services), names, settings.site().project)


def start(
    settings: Settings,
    services: tuple[str, ...],
    no_deps: bool,
    wait: bool,
    wait_timeout_s: float | None,
    resume: bool,
) -> None:
    """Start stopped services."""
    request = Start(selected(services, no_deps=no_deps), wait, wait_timeout_s, resume)
    operate(settings, request, "started", needs_project=not resume)


def stop(settings: Settings, services: tuple[str, ...], timeout_s: float | None, halt: bool) -> None:
    """Stop services, dependents first. Their files, addresses and logs stay. As with Docker Compose there is nothing to do
    where no container is."""
    provided = stack_with_providers(settings, settings.site())
    kept = tuple(name for name in services if provided is None or name not in provided.providers)
    if kept or not services:
        operate(settings, Stop(selected(kept), timeout_s, halt), "stopped", needs_project=False)
    if provided is not None:
        from orchestrator.cli.providers import release

        release(settings, provided, services, "stop")


def restart(settings: Settings, services: tuple[str, ...], timeout_s: float | None, no_deps: bool) -> None:
    """Stop and start services, whether they run or not."""
    operate(settings, Restart(selected(services, no_deps=no_deps), timeout_s), "restarted")


def kill(settings: Settings, services: tuple[str, ...], name: str, remove_orphans: bool) -> None:
    """Send a signal to services' main processes. Where none runs there is nothing to do."""
    request = Kill(selected(services), signal_name(parse_signal(name)), remove_orphans)
    operate(settings, request, "signalled", needs_project=False)
