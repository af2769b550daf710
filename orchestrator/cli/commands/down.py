"""``pystack down``."""

from __future__ import annotations

import time

from orchestrator.cli.connection import explain_unknown, manage
from orchestrator.cli.dryrun import shown_instead, told_instead
from orchestrator.cli.operation import Operation
from orchestrator.cli.orphans import ignores_orphans, removes_orphans
from orchestrator.cli.provided_stack import stack_with_providers
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.progress import choose
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import selected
from orchestrator.client import ensure_supervisor
from orchestrator.contracts.control import Down
from orchestrator.contracts.site import Site
from orchestrator.errors import PystackError
from orchestrator.model.project import Project
from orchestrator.state.directory import data_root_of
from orchestrator.state.loopback import give_back
from orchestrator.state.volumes import FileVolumes

_END_TIMEOUT_S = 10.0
"""For the supervisor to end after its last answer."""


def down(
    settings: Settings,
    services: tuple[str, ...],
    volumes: bool,
    remove_orphans: bool,
    timeout_s: float | None,
    rmi: str | None,
) -> None:
    """Stop and remove everything of the project, dependents first, or some services' containers. Named volumes stay, unless
    -v is given."""
    site = settings.site()
    images = _images(settings, site, rmi) if rmi is not None else ()
    provided = stack_with_providers(settings, site)
    kept = tuple(name for name in services if provided is None or name not in provided.providers)
    if kept or not services:
        _down(settings, site, kept, volumes, remove_orphans, timeout_s)
    if provided is not None:
        from orchestrator.cli.providers import release

        release(settings, provided, services, "down")
    if told_instead(settings, *(f"remove image {image}, if nothing else uses it" for image in images)):
        return
    if not services:
        give_back(data_root_of(site), site.project)
    if images:
        from orchestrator.cli.commands.image import remove_unused

        remove_unused(settings, images)


def _images(settings: Settings, site: Site, rmi: str) -> tuple[str, ...]:
    """The images of the stack as it is recorded, else as the files have it: all, or those whose name nobody chose."""
    from orchestrator.state.reading import Reading

    record = Reading(site).record
    project = record.project if record is not None else settings.load_if_possible()
    services = project.services.values() if project is not None else ()
    return tuple(
        dict.fromkeys(
            service.image
            for service in services
            if rmi == "all" or (service.build is not None and service.image == f"{site.project}-{service.name}")
        )
    )


def _down(
    settings: Settings,
    site: Site,
    services: tuple[str, ...],
    volumes: bool,
    remove_orphans: bool,
    timeout_s: float | None,
) -> None:
    began_s = time.monotonic()
    board = Board()
    progress = choose(settings.terminal(), f"down {site.project}", board)
    client = manage(site)
    project = settings.load_if_possible() if client is not None or volumes else None
    if client is None and volumes and _has_volumes(project, site):
        client, _ = ensure_supervisor(site)  # It is down already, but its volumes are still there.
    if client is None:
        progress.summary(f"project {site.project} does not exist: nothing to remove", {"removed": 0})
        return
    if not services and not settings.dry_run:
        _before(site, project)
    folder, named = settings.origin()
    request = Down(
        project,
        selected(services),
        volumes=volumes,
        remove_orphans=removes_orphans(settings, remove_orphans),
        timeout_s=timeout_s,
        working_dir=folder,
        named=named,
    )
    with client:
        try:
            if shown_instead(settings, request, site, client):
                return
            result = Operation(client, request, progress, board).run()
        except PystackError as error:
            raise explain_unknown(settings, error, services) from None
        finally:
            progress.close()
        if not result.get("statuses"):
            # Nothing is left. The next command must find no supervisor that is on its way out.
            client.close_and_wait_end(_END_TIMEOUT_S)
    removed = result.get("removed", 0)
    noun = "container" if removed == 1 else "containers"
    progress.summary(f"{removed} {noun} removed in {time.monotonic() - began_s:.2f} s", result)
    if not services:
        stack = project.services if project is not None else {}  # Of which another command may have made new ones.
        left = [row["container"] for row in result.get("statuses", ()) if row["service"] not in stack]
        _tell_orphans(settings, left)
    if volumes and project is not None and not services:
        _tell_kept(settings, project, site)


def _tell_orphans(settings: Settings, left: list[str]) -> None:
    """`left`: after all of the stack has gone. Their networks are still there, too."""
    if left and not ignores_orphans(settings):
        strays = ", ".join(sorted(left))
        settings.warn((f"left: {strays}, whose services are in no file of this stack; --remove-orphans removes them",))


def _before(site: Site, project: Project | None) -> None:
    """The stack's own hooks, as the files have them, else as it is recorded."""
    if project is None:
        from orchestrator.state.reading import Reading

        record = Reading(site).record
        project = record.project if record is not None else None
    if project is not None and project.host_hooks.before_down:
        from orchestrator.cli.host_hooks import run_host_hooks

        run_host_hooks(project, "before_down")


def _has_volumes(project: Project | None, site: Site) -> bool:
    """Whether volumes of the project are there: by the files, or where there are none by what they say themselves."""
    there = FileVolumes(site)
    if project is None:
        return bool(there.owned())
    return any(not volume.external for volume in there.existing(tuple(project.volumes.values())))


def _tell_kept(settings: Settings, project: Project, site: Site) -> None:
    """A volume that was taken out of the files, or has another name there, may be somebody's only copy."""
    named = {volume.full_name for volume in project.volumes.values()}
    for name in sorted(volume.full_name for volume in FileVolumes(site).owned() if volume.full_name not in named):
        settings.warn((f"volume {name} stays: the files do not have it any more; `pystack volume rm {name}` removes it",))
