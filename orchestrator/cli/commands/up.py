"""``pystack up``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from orchestrator.cli.operation import Operation, report_failures
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.selection import check_images, check_services
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected, statuses_of
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Recreate, Up
from orchestrator.errors import InputError, PystackError
from orchestrator.model.phase import Phase
from orchestrator.model.service import Condition

if TYPE_CHECKING:
    from orchestrator.cli.render.progress import Progress
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site
    from orchestrator.model.project import Project


def up(
    settings: Settings,
    services: tuple[str, ...],
    detach: bool,
    wait: bool,
    wait_timeout_s: float | None,
    force_recreate: bool,
    no_recreate: bool,
    no_deps: bool,
    remove_orphans: bool,
    timeout_s: float | None,
    no_log_prefix: bool,
    raw: bool,
    timestamps: bool,
    abort_on_exit: bool,
    abort_on_failure: bool,
    exit_code_from: str | None,
) -> int:
    """Bring services up, dependencies first; then return (`detach`, `wait`), or follow their logs until Ctrl-C."""
    began_s = time.monotonic()
    cascading = abort_on_exit or abort_on_failure or exit_code_from is not None
    if cascading and (detach or wait):
        raise InputError("-d and --wait cannot be combined with --abort-on-container-* or --exit-code-from")
    stack = settings.load(services)
    project = _part(stack, services, exit_code_from)
    request = Up(
        stack,
        selected(services, no_deps=no_deps),
        recreate=recreate_mode(force_recreate, no_recreate),
        remove_orphans=remove_orphans,
        timeout_s=timeout_s,
        wait=wait,
        wait_timeout_s=wait_timeout_s,
        named=settings.origin()[1],
    )
    site = settings.site_named(project.name)
    terminal = settings.terminal()
    board = Board(project.services)
    progress = choose(terminal, f"up {project.name}", board)
    client, _ = ensure_supervisor(site, settings.begun)
    if not (detach or wait):
        from orchestrator.cli.attach import Foreground, Selection
        from orchestrator.cli.render.loglines import LogPrinter

        shown = tuple(services) or tuple(project.services)
        selection = Selection(shown, _with_dependencies(project, services, no_deps), _completing(project))
        printer = LogPrinter(
            selection.shown,
            colour=terminal.colour_out,
            raw=raw or not terminal.stdout_tty,
            prefix=not no_log_prefix,
            timestamps=timestamps,
        )
        foreground = Foreground(site, selection, progress, board, printer, timeout_s)
        if cascading:
            foreground.cascade(only_failures=abort_on_failure and not abort_on_exit, code_from=exit_code_from)
        return foreground.run(client, request, lambda result: _summary(result, time.monotonic() - began_s))
    result = _detached(client, request, progress, board, site)
    progress.summary(_summary(result, time.monotonic() - began_s), result)
    return 0


def _part(stack: Project, services: tuple[str, ...], exit_code_from: str | None) -> Project:
    """What of `stack` is brought up: the named services with what they need. What cannot be run is refused before anything
    is begun. Raises InputError."""
    from orchestrator.compose.model.choice import active_part, select

    project = active_part(stack, select(stack, services))
    check_images(project, project.services)
    if not project.services:
        files = ", ".join(project.compose_files)
        raise InputError(f"no service to bring up in {files}", hint="add one below `services:`, or enable its --profile")
    check_services(services, project.services, project.name)
    if exit_code_from is not None:
        check_services([exit_code_from], project.services, project.name)
    return project


def _detached(client: Client, request: Up, progress: Progress, board: Board, site: Site) -> Any:
    """Bring up without following; the result. Ctrl-C only leaves."""
    with client:
        try:
            return Operation(client, request, progress, board).run()
        except KeyboardInterrupt:
            progress.close()
            progress.note("the start goes on in the background: `pystack ps` shows it, `pystack stop` ends it")
            raise
        except PystackError:
            progress.close()
            report_failures(site, board, progress)
            raise
        finally:
            progress.close()


def recreate_mode(force: bool, keep: bool) -> Recreate:
    """Raises InputError when both are wanted."""
    if force and keep:
        raise InputError("--force-recreate and --no-recreate cannot be combined")
    return Recreate.ALWAYS if force else Recreate.NEVER if keep else Recreate.CHANGED


def _with_dependencies(project: Project, services: tuple[str, ...], no_deps: bool) -> tuple[str, ...]:
    """What this `up` brings up, and so what Ctrl-C stops."""
    if not services:
        return tuple(project.services)
    wanted, queue = set(services), list(services)
    while queue and not no_deps:
        service = next((s for name, s in project.services.items() if name == queue[-1]), None)
        queue.pop()
        for name in service.depends_on if service is not None else ():
            if name not in wanted:
                wanted.add(name)
                queue.append(name)
    return tuple(name for name in project.services if name in wanted)


def _completing(project: Project) -> frozenset[str]:
    """Services that others wait for to complete."""
    edges = (edge for service in project.services.values() for edge in service.depends_on.values())
    return frozenset(edge.service for edge in edges if edge.condition is Condition.COMPLETED)


def _summary(result: Any, seconds: float) -> str:
    """``5 services up in 1.24 s``, with what completed and what was there already."""
    statuses = statuses_of(result.get("statuses", []))
    running = sum(status.phase is Phase.RUNNING for status in statuses)
    done = sum(status.phase is Phase.EXITED for status in statuses)
    text = f"{running} {'service' if running == 1 else 'services'} up"
    if done:
        text += f", {done} completed"
    return f"{text} in {seconds:.2f} s" + ("" if result.get("changed") else ", nothing had to change")
