"""``pystack up`` and ``create``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from orchestrator.cli.dryrun import shown_instead
from orchestrator.cli.isolation import isolated
from orchestrator.cli.operation import Operation, report_failures, report_left
from orchestrator.cli.orphans import orphans
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.scaling import replicas
from orchestrator.cli.selection import check_services
from orchestrator.cli.settings import Settings
from orchestrator.cli.wanted_images import caller_variables, with_policies
from orchestrator.cli.wire import selected, statuses_of
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Recreate, Up
from orchestrator.contracts.state import Wanted
from orchestrator.errors import InputError, PystackError
from orchestrator.model.host_hooks import HostHooks
from orchestrator.model.names import Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.service import Condition
from orchestrator.plan.selection import require_services
from orchestrator.values import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from contextlib import AbstractContextManager

    from orchestrator.cli.attach import Selection
    from orchestrator.cli.cascade import Cascade
    from orchestrator.cli.watching.beside import Beside
    from orchestrator.cli.watching.session import Watching
    from orchestrator.contracts.events import ContainerStatus
    from orchestrator.model.project import Project


def up(
    settings: Settings,
    services: tuple[str, ...],
    detach: bool,
    wait: bool,
    wait_timeout_s: float | None,
    force_recreate: bool,
    no_recreate: bool,
    recreate_dependencies: bool,
    renew_volumes: bool,
    no_deps: bool,
    no_start: bool,
    scale: tuple[str, ...],
    remove_orphans: bool,
    timeout_s: float | None,
    attached: tuple[str, ...],
    attach_dependencies: bool,
    unattached: tuple[str, ...],
    no_log_prefix: bool,
    no_color: bool,
    raw: bool,
    timestamps: bool,
    abort_on_exit: bool,
    abort_on_failure: bool,
    exit_code_from: str | None,
    build: bool,
    no_build: bool,
    pull: str | None,
    quiet_pull: bool,
    quiet_build: bool,
    isolate: bool,
    menu: bool,
    watch: bool,
) -> int:
    """Bring services up, dependencies first; then return (`detach`, `wait`), or follow their logs until Ctrl-C."""
    began_s = time.monotonic()
    cascading = abort_on_exit or abort_on_failure or exit_code_from is not None
    _check_combination(cascading, detach, wait, no_start, watch, no_build)
    project, chosen = _loaded(settings, services)
    project = isolated(settings, project, begin=True) if isolate else project
    project = with_policies(project, chosen, build=build, no_build=no_build, pull=pull)
    managed = tuple(name for name in project.services if name in services) if no_deps and services else chosen
    _check_code_from(exit_code_from, project, managed)
    request = _request(
        settings, project, services, force_recreate, no_recreate, scale, remove_orphans, no_start=no_start, no_deps=no_deps
    )
    more = {"timeout_s": timeout_s, "wait": wait, "wait_timeout_s": wait_timeout_s}
    request = replace(request, recreate_dependencies=recreate_dependencies, renew_volumes=renew_volumes, **more)
    board = Board(project.services, quiet_images=quiet_pull, quiet_builds=quiet_build)
    watching = _watch_of(settings, project, managed, watch and not settings.dry_run)
    request = _prepared(settings, request, managed, services)
    if project.providers and not managed and (services or not project.scheduled) and not settings.all_resources:
        return 0  # All that was asked for are providers.
    if detach or wait or no_start or settings.dry_run or not (managed or project.scheduled):
        return _returning(settings, request, managed, began_s, board)
    shown = attached or _shown(project, (managed if attach_dependencies else services) or managed)
    selection = _selection(project, shown, unattached, managed, services)
    look = {"colour": not no_color, "raw": raw, "prefix": not no_log_prefix, "timestamps": timestamps}
    cascade = _cascade(project, managed, abort_on_failure, exit_code_from) if cascading else None
    return _followed(settings, request, selection, look, cascade, began_s, board, watching, menu=menu)


def _returning(settings: Settings, request: Up, managed: Collection[str], began_s: float, board: Board) -> int:
    """``up -d``."""
    _detached(settings, request, managed, began_s, board)
    _host_hooks(settings, request.project, "after_up")
    return 0


def _prepared(settings: Settings, request: Up, chosen: Collection[str], named: tuple[str, ...]) -> Up:
    """What comes before the request: the stack's own hooks, and its services that are no containers."""
    _host_hooks(settings, request.project, "before_up")
    if not request.project.providers:
        return request
    from orchestrator.cli.providers import ask

    return replace(request, project=ask(settings, request.project, chosen, named))


def _host_hooks(settings: Settings, project: Project, name: str) -> None:
    if project.host_hooks != HostHooks() and not settings.dry_run:  # Few have any, and it imports `subprocess`.
        from orchestrator.cli.host_hooks import run_host_hooks

        run_host_hooks(project, name)


def _cascade(project: Project, managed: tuple[str, ...], only_failures: bool, code_from: str | None) -> Cascade:
    from orchestrator.cli.cascade import Cascade

    return Cascade(managed, only_failures=only_failures, code_from=code_from, completing=_completing(project))


def _selection(
    project: Project,
    shown: tuple[str, ...],
    unattached: tuple[str, ...],
    managed: tuple[str, ...],
    services: tuple[str, ...],
) -> Selection:
    """`shown`: whose logs, but for the `unattached`. `services`: as on the command line, and `managed` what they mean.
    Raises InputError for unknown services, and when nothing is left to follow."""
    from orchestrator.cli.attach import Selection

    check_services((*shown, *unattached), project.services, project.name)
    followed = tuple(name for name in shown if name not in unattached)
    if unattached and not followed:
        raise InputError("--no-attach leaves no logs to follow", hint="-d returns once everything is started")
    return Selection(followed, (*managed, *(() if services else project.scheduled)), services or managed)


def _shown(project: Project, services: Iterable[str]) -> tuple[str, ...]:
    """Those of `services` whose logs the stack does not keep out of sight (``attach: false``)."""
    return tuple(name for name in services if project.services[ServiceName(name)].attach)


def _followed(
    settings: Settings,
    request: Up,
    selection: Selection,
    look: Mapping[str, bool],
    cascade: Cascade | None,
    began_s: float,
    board: Board,
    watch: Beside,
    *,
    menu: bool,
) -> int:
    """Bring up, and follow until all have ended or are stopped; the exit code. `look`: of log lines, see `printer_for`.
    `menu`: keys do something. `watch`: is ended with it."""
    from orchestrator.cli.attach import Foreground
    from orchestrator.cli.render.loglines import printer_for

    project = request.project
    printer = printer_for(settings.terminal(), **look)
    site = settings.site_named(project.name)

    def summary(result: Any) -> str:
        _host_hooks(settings, project, "after_up")
        return _summary(result, selection.managed, time.monotonic() - began_s)

    with watch, ExitStack() as stack:
        progress = choose(settings.terminal(), f"up {project.name}", board)
        client, _ = ensure_supervisor(site, settings.begun)
        foreground = Foreground(site, selection, progress, board, printer, request.timeout_s, cascade, watch)
        if menu and settings.terminal().stderr_tty:
            foreground.use_keys(stack)
        return foreground.run(client, request, summary)


def _watch_of(settings: Settings, project: Project, managed: tuple[str, ...], wanted: bool) -> Beside:
    """Not begun unless it is `wanted`. Raises InputError when it cannot be begun."""
    from orchestrator.cli.watching.beside import Beside

    def opened() -> AbstractContextManager[Watching]:
        from orchestrator.cli.commands.watch import watching_beside

        return watching_beside(settings, project, managed)

    watch = Beside(opened)
    if wanted:
        watch.open()
    return watch


def bring_up(
    settings: Settings, project: Project, services: tuple[str, ...], chosen: Collection[str], *, quiet: bool
) -> None:
    """As ``up -d``, for a command that goes on."""
    request = _request(settings, project, services, False, False, (), False)
    board = Board(project.services, quiet_images=quiet, quiet_builds=quiet)
    _host_hooks(settings, project, "before_up")
    _returning(settings, request, chosen, time.monotonic(), board)


def create(
    settings: Settings,
    services: tuple[str, ...],
    force_recreate: bool,
    no_recreate: bool,
    scale: tuple[str, ...],
    remove_orphans: bool,
    build: bool,
    no_build: bool,
    pull: str | None,
    quiet_pull: bool,
) -> None:
    """Make the containers of services, and of what they depend on; start nothing."""
    began_s = time.monotonic()
    project, chosen = _loaded(settings, services)
    project = with_policies(project, chosen, build=build, no_build=no_build, pull=pull)
    if project.providers:
        from orchestrator.cli.providers import ask

        project = ask(settings, project, chosen, services)
    request = _request(settings, project, services, force_recreate, no_recreate, scale, remove_orphans, no_start=True)
    _detached(settings, request, chosen, began_s, Board(project.services, quiet_images=quiet_pull))


def _check_combination(
    cascading: bool, detach: bool, wait: bool, no_start: bool, watch: bool, no_build: bool
) -> None:
    """Raises InputError."""
    if watch and (detach or wait):
        raise InputError("-d and --wait cannot be combined with --watch", hint="`pystack watch` watches what runs")
    if watch and (no_build or no_start):
        raise InputError(f"{'--no-build' if no_build else '--no-start'} cannot be combined with --watch")
    if cascading and (detach or wait):
        raise InputError("-d and --wait cannot be combined with --abort-on-container-* or --exit-code-from")
    if no_start and (cascading or wait):
        raise InputError("--no-start cannot be combined with --wait, --abort-on-container-* or --exit-code-from")


def _loaded(settings: Settings, services: tuple[str, ...]) -> tuple[Project, tuple[ServiceName, ...]]:
    """The whole stack, and what of it is to be brought up. Raises InputError, ComposeError."""
    project, chosen = settings.load_to_run(services)
    require_services(project, [ServiceName(name) for name in services])
    alone = settings.all_resources and (project.networks or project.volumes)
    if not chosen and not alone and not project.scheduled and not project.providers:
        files = ", ".join(project.compose_files)
        raise InputError(f"no service to bring up in {files}", hint="add one below `services:`, or enable its --profile")
    return project, chosen


def _check_code_from(service: str | None, project: Project, managed: Collection[str]) -> None:
    """Raises InputError."""
    if service is None:
        return
    check_services([service], project.services, project.name)
    if service not in managed:
        raise InputError(
            f'--exit-code-from: "{service}" is not among what is brought up', hint=f"name it too: {', '.join(managed)}"
        )


def _request(
    settings: Settings,
    project: Project,
    services: tuple[str, ...],
    force: bool,
    keep: bool,
    scale: tuple[str, ...],
    remove_orphans: bool,
    *,
    no_start: bool = False,
    no_deps: bool = False,
) -> Up:
    """What ``up`` and ``create`` have in common. Raises InputError."""
    remove, ignore = orphans(settings, remove_orphans)
    return Up(
        project,
        selected(tuple(name for name in services if name not in project.providers), no_deps=no_deps),
        scale=replicas(scale, project),
        recreate=recreate_mode(force, keep),
        remove_orphans=remove,
        ignore_orphans=ignore,
        start=not no_start,
        all_resources=settings.all_resources,
        named=settings.origin()[1],
        registry=caller_variables(settings.environ),
    )


def _detached(settings: Settings, request: Up, managed: Collection[str], began_s: float, board: Board) -> None:
    """Bring up without following. Ctrl-C only leaves."""
    project = request.project
    site = settings.site_named(project.name)
    if shown_instead(settings, request, site):
        return
    progress = choose(settings.terminal(), f"{'up' if request.start else 'create'} {project.name}", board)
    client, _ = ensure_supervisor(site, settings.begun)
    with client:
        try:
            result = Operation(client, request, progress, board).run()
        except KeyboardInterrupt:
            progress.close()
            progress.note("the start goes on in the background: `pystack ps` shows it, `pystack stop` ends it")
            raise
        except PystackError:
            progress.close()
            report_failures(site, board, progress)
            report_left(site, board, progress)
            raise
        finally:
            progress.close()
    progress.summary(_summary(result, managed, time.monotonic() - began_s), result)


def recreate_mode(force: bool, keep: bool) -> Recreate:
    """Raises InputError when both are wanted."""
    if force and keep:
        raise InputError("--force-recreate and --no-recreate cannot be combined")
    return Recreate.ALWAYS if force else Recreate.NEVER if keep else Recreate.CHANGED


def _completing(project: Project) -> frozenset[str]:
    """Services that others wait for to complete."""
    edges = (edge for service in project.services.values() for edge in service.depends_on.values())
    return frozenset(edge.service for edge in edges if edge.condition is Condition.COMPLETED)


def _summary(result: Any, managed: Collection[str], seconds: float) -> str:
    """``5 services up in 1.24 s``, with what completed and what was there already."""
    found = statuses_of(result.get("statuses", []))
    statuses = [status for status in found if status.service in managed and status.role is not Role.JOB]
    running = [status.service for status in statuses if status.phase is Phase.RUNNING]
    others = [_ended_as(status) for status in statuses]
    noun = "service" if len(set(running)) == len(running) else "container"
    if not managed:
        return f"networks and volumes are there after {seconds:.2f} s"
    parts = [f"{len(running)} {noun}{'' if len(running) == 1 else 's'} up"] if running or "created" not in others else []
    parts += [f"{others.count(word)} {word}" for word in _OTHERS if word in others]
    return f"{', '.join(parts)} in {seconds:.2f} s" + ("" if result.get("changed") else ", nothing had to change")


_OTHERS = ("created", "completed", "stopped", "failed", "restarting")


def _ended_as(status: ContainerStatus) -> str:
    """What the summary calls a container that does not run: one of `_OTHERS`, or ""."""
    if status.phase is not Phase.EXITED:
        return {Phase.CREATED: "created", Phase.FAILED: "failed", Phase.BACKOFF: "restarting"}.get(status.phase, "")
    if status.wanted is not Wanted.RUNNING:
        return "stopped"
    return "completed" if status.exit is None or status.exit.code == 0 else "failed"
