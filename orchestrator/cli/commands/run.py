"""``pystack run``: a command in a container of its own beside a service's."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator.cli.commands.exec import variables_of
from orchestrator.cli.operation import Operation, report_failures
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.selection import check_images
from orchestrator.client import ensure_supervisor
from orchestrator.compose.discovery import discover, read_env_file
from orchestrator.compose.load import load
from orchestrator.compose.model.choice import select
from orchestrator.compose.model.one_off import Changes, one_off
from orchestrator.contracts.control import Run
from orchestrator.errors import InputError, PystackError
from orchestrator.model.names import Instance, Role, ServiceName, instance_id
from orchestrator.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.cli.render.progress import Progress
    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site


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
    quiet: bool,
    no_deps: bool,
    use_aliases: bool,
    build: bool,
    pull: str,
    quiet_pull: bool,
    remove_orphans: bool,
    cap_add: tuple[str, ...],
    cap_drop: tuple[str, ...],
) -> int:
    """Run COMMAND in a new container made from SERVICE. Ends with the command's exit code."""
    if tty and no_tty:
        raise InputError("--tty and --no-tty cannot be combined")
    on_terminal = not no_tty and not detach and os.isatty(0) and os.isatty(1)
    request = settings.request((service,))
    loaded = load(request)
    settings.warn(tuple(warning.text() for warning in loaded.warnings))
    project = loaded.project
    check_images(project, select(project, (service,)))
    environ = discover(request).environment
    changes = Changes(
        directory=request.directory,
        home=environ.get("HOME"),
        command=command,
        entrypoint=entrypoint,
        environment=_environment(environ, variables, env_files, on_terminal),
        labels=dict(_pair(label) for label in labels),
        user=user,
        working_dir=working_dir,
        ports=published,
        service_ports=service_ports,
        volumes=volumes,
        cap_add=cap_add,
        cap_drop=cap_drop,
    )
    made = Instance(ServiceName(service), Role.ONE_OFF)
    asked = Run(
        project,
        one_off(project, project.services[made.service], changes),
        name=name or instance_id(project.name, made, os.urandom(6).hex()),
        dependencies=not no_deps,
        remove=remove,
        tty=on_terminal,
        use_aliases=use_aliases,
        detach=detach,
        remove_orphans=remove_orphans,
        ignore_orphans=environ.get("COMPOSE_IGNORE_ORPHANS", "").lower() in ("1", "true"),
        named=settings.origin()[1],
    )
    site = settings.site_named(project.name)
    terminal = settings.terminal()
    board = Board()
    shown = replace(terminal, progress="quiet") if quiet and terminal.progress != "json" else terminal
    progress = choose(shown, f"run {project.name}", board)
    client, _ = ensure_supervisor(site, settings.begun)
    if detach:
        return _detached(client, asked, progress, board, site)
    from orchestrator.cli.copying import Feeder
    from orchestrator.cli.one_off import OneOff

    # Python has no stdin when it was closed at the start: something else may have that number by now.
    feeder = Feeder() if not on_terminal and sys.stdin is not None else None
    sys.stdout.flush()
    return OneOff(site, replace(asked, interactive=feeder is not None), progress, board, feeder).run(client)


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
