"""``pystack volumes``: those of the project."""

from __future__ import annotations

from orchestrator.cli.commands.volume import show
from orchestrator.cli.selection import check_named
from orchestrator.cli.settings import Settings
from orchestrator.cli.volumes import files_of, found_in, users_in
from orchestrator.state.records import FileState
from orchestrator.state.volume_users import volumes_of


def volumes(settings: Settings, services: tuple[str, ...], shape: str, quiet: bool) -> None:
    """List the project's volumes: what it made, and what its containers use."""
    site = settings.site()
    record = FileState(site).load()
    if services:
        known = {*record.project.services, *(item.instance.service for item in record.containers)} if record else set()
        check_named(settings, services, known)
    files = files_of(settings)
    all_of_them = found_in(files)
    used, anonymous = volumes_of(site, record, services)
    mine = [
        volume
        for volume in all_of_them
        if volume.name in used
        or volume.name.startswith(anonymous)
        or (not services and volume.about.key == site.key)
    ]
    show(mine, users_in(files, mine), quiet, shape)
