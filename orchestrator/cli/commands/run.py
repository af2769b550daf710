"""``pystack run``: a command in a container of its own beside a service's."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator.cli.commands.exec import variables_of, wants_terminal
from orchestrator.cli.detaching import Keys
from orchestrator.cli.dryrun import shown_instead
from orchestrator.cli.isolation import isolated
from orchestrator.cli.operation import Operation, report_failures
from orchestrator.cli.orphans import orphans
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.selection import check_files, check_images
from orchestrator.cli.wanted_images import caller_variables, with_policies
from orchestrator.client import ensure_supervisor
from orchestrator.compose.discovery import discover, read_env_file
from orchestrator.compose.load import load
from orchestrator.compose.model.choice import select
from orchestrator.compose.model.one_off import Changes, one_off, with_undeclared
from orchestrator.contracts.control import Run
from orchestrator.errors import InputError, PystackError
from orchestrator.model.names import Instance, Role, ServiceName, instance_id
from orchestrator.plan.selection import require_manual
from orchestrator.values import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from orchestrator.cli.render.progress import Progress
    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site
    from orchestrator.model.project import Project


def run(
    settings: Settings,
    service: str,
    command: tuple[str, ...],
    detach: bool,
    remove: bool,
    variables: tuple[str, ...],
    env_files: tuple[str, ...],
    user: str | None,
    working_dir: str | None,
    published: tuple[str, ...],
    service_ports: bool,
    name: str | None,
    entrypoint: str | None,
    volumes: tuple[str, ...],
    labels: tuple[str, ...],
    no_tty: bool,
    tty: bool,
    interactive: bool,
    detach_keys: str | None,
    quiet: bool,
    no_deps: bool,
    use_aliases: bool,
    remove_orphans: bool,
    cap_add: tuple[str, ...],
    cap_drop: tuple[str, ...],
    build: bool,
    no_build: bool,
    pull: str | None,
    quiet_pull: bool,
    quiet_build: bool,
) -> int:
    """Run COMMAND in a new container made from SERVICE, or a job. Ends with the command's exit code."""
    on_terminal = wants_terminal(tty, no_tty) and interactive and not detach
    keys = Keys(detach_keys)
    removes, ignores = orphans(settings, remove_orphans)
    project, environ = _loaded(settings, service)
    chosen = {service, *(wanted := select(project, () if no_deps else (service,)))}
    project = with_policies(project, chosen, build=build, no_build=no_build, pull=pull)
    project = _provided(settings, project, wanted, service, no_deps=no_deps)
    changes = Changes(
        directory=os.getcwd(), home=environ.get("HOME"), command=command, entrypoint=entrypoint,
        environment=_environment(environ, variables, env_files, on_terminal), labels=dict(map(_pair, labels)),
        user=user, working_dir=working_dir, ports=published, service_ports=service_ports, volumes=volumes,
        cap_add=cap_add, cap_drop=cap_drop, tty=on_terminal, stdin_open=interactive and (on_terminal or detach),
    )  # fmt: skip
    definition = one_off(project, project.services[ServiceName(service)], changes)
    request = Run(
        with_undeclared(project, definition),
        definition,
        name=name or "", dependencies=not no_deps, remove=remove, tty=on_terminal, use_aliases=use_aliases, detach=detach,
        remove_orphans=removes, ignore_orphans=ignores, registry=caller_variables(settings.environ),
    )  # fmt: skip
    board = Board(quiet_images=quiet_pull, quiet_builds=quiet_build)
    return _carry_out(settings, request, quiet, board, keys, stdin=interactive)


def _provided(settings: Settings, project: Project, wanted: Collection[str], service: str, *, no_deps: bool) -> Project:
    if not project.providers:
        return project
    from orchestrator.cli.providers import ask, recall

    return recall(settings, project) if no_deps else ask(settings, project, wanted, (service,))


def _loaded(settings: Settings, service: str) -> tuple[Project, Mapping[str, str]]:
    """The whole stack, and the variables that its files see. Raises ComposeError, InputError."""
    request = settings.request((service,))
    loaded = load(request)
    settings.warn(tuple(warning.text() for warning in loaded.warnings))
    check_images(loaded.project, select(loaded.project, (service,)))
    check_files(loaded.project, select(loaded.project, (service,)))
    require_manual(loaded.project, ServiceName(service))
    return isolated(settings, loaded.project), discover(request).environment


def _carry_out(settings: Settings, request: Run, quiet: bool, board: Board, keys: Keys, *, stdin: bool) -> int:
    # Named here, so that it can be told from others before the supervisor has answered.
    role = Role.JOB if request.definition.job else Role.ONE_OFF
    made = Instance(request.definition.name, role)
    name = request.name or instance_id(request.project.name, made, os.urandom(6).hex())
    request = replace(request, name=name, named=settings.origin()[1])
    site = settings.site_named(request.project.name)
    if shown_instead(settings, request, site):
        return 0
    _make_volumes(settings, request)
    terminal = settings.terminal()
    if quiet and terminal.progress != "json":
        terminal = replace(terminal, progress="quiet")
    progress = choose(terminal, f"run {site.project}", board)
    client, _ = ensure_supervisor(site, settings.begun)
    if request.detach:
        return _detached(client, request, progress, board, site)
    from orchestrator.cli.console import size_of
    from orchestrator.cli.copying import Feeder
    from orchestrator.cli.one_off import OneOff

    # Python has no stdin when it was closed at the start.
    if request.tty:
        rows, columns = size_of(0)
        request = replace(request, rows=rows, columns=columns)
    feeder = Feeder() if stdin and not request.tty else None
    sys.stdout.flush()
    return OneOff(site, replace(request, interactive=feeder is not None), progress, board, feeder, keys).run(client)


def _make_volumes(settings: Settings, request: Run) -> None:
    """Those that no file declares, as Docker's engine does it: by the name that was given, and nobody's project's."""
    for mount in request.definition.volumes:
        if mount.undeclared and mount.source is not None:
            from orchestrator.cli.volumes import files_of
            from orchestrator.state.volume_files import About, check_name

            check_name(mount.source)
            files = files_of(settings)
            if not files.exists(mount.source):
                files.ensure(mount.source, About())
                settings.warn((f"volume {mount.source} was made: the stack has none of that name",))


def _detached(client: Client, request: Run, progress: Progress, board: Board, site: Site) -> int:
    with client:
        try:
            Operation(client, request, progress, board).run()
        except PystackError:
            progress.close()
            report_failures(site, board, progress)
            raise
        finally:
            progress.close()
    print(request.name)
    return 0


def _environment(
    environ: Mapping[str, str], variables: tuple[str, ...], files: tuple[str, ...], on_terminal: bool
) -> dict[str, str]:
    """Those of the files, then those that are given one by one, which the files may refer to. TERM comes along with a
    terminal."""
    given = variables_of(variables, environ)
    found: dict[str, str] = {"TERM": environ["TERM"]} if on_terminal and environ.get("TERM") else {}
    for file in files:
        found.update(read_env_file(os.path.abspath(file), os.getcwd(), given, found))
    return {**found, **given}


def _pair(label: str) -> tuple[str, str]:
    name, _, text = label.partition("=")
    if not name:
        raise InputError(f'"{label}" is not a label', hint="write NAME=VALUE")
    return name, text
