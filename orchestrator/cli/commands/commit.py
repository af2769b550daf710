"""``pystack commit`` and ``pystack export``: what a container has become. They need no supervisor."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from orchestrator.build.snapshot import Origin, Wish, commit_container
from orchestrator.cli.dryrun import told_instead
from orchestrator.cli.imagework import store_of
from orchestrator.cli.output import opened_output, terminable
from orchestrator.cli.selection import check_named
from orchestrator.contracts.state import in_order
from orchestrator.errors import InputError, OperationError
from orchestrator.images.reference import parse_named
from orchestrator.model.names import Role
from orchestrator.state.reading import Reading

if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings


def commit(
    settings: Settings,
    service: str,
    name: str | None,
    author: str | None,
    changes: tuple[str, ...],
    index: int,
    message: str | None,
    pause: bool,
) -> int:
    """Make an image of a container, and print its id."""
    from orchestrator.kernel.cgroup import detect
    from orchestrator.runtime.freezing import frozen_container

    named = parse_named(name) if name is not None else None
    if named is not None and named.digest is not None:
        raise InputError(f'"{name}" has a digest: a name that is given has none')
    wish = Wish(changes, author or "", message or "", named.full if named is not None else "")
    origin = _origin(settings, service, index)
    container = origin.spec.container
    if told_instead(settings, f"make an image of container {container}" + (f", and name it {name}" if name else "")):
        return 0
    with terminable():
        image = commit_container(
            origin,
            store_of(settings),
            wish,
            lambda: frozen_container(origin.site, container, detect()) if pause else nullcontext(),
        )
    print(image.id)
    return 0


def export(settings: Settings, service: str, output: str | None, index: int) -> int:
    """Write a container's file system as a tar archive."""
    from orchestrator.build.export import export_container

    if output is None and sys.stdout.isatty():
        raise InputError("an archive is nothing for a terminal", hint=f"pystack export {service} -o {service}.tar")
    origin = _origin(settings, service, index)
    if told_instead(settings, f"write container {origin.spec.container} as an archive to {output or 'stdout'}"):
        return 0
    with terminable(), opened_output(output) as file:
        changed = export_container(origin, file)
    if changed:
        files = "a file" if changed == 1 else f"{changed} files"
        settings.warn((f"{files} of container {origin.spec.container} changed while it was being read",))
    return 0


def _origin(settings: Settings, service: str, index: int) -> Origin:
    """The replica of that number; 0: the lowest, else a one-off. Raises InputError, OperationError."""
    site = settings.site()
    record = Reading(site).record
    if record is None:
        raise OperationError(f"project {site.project} has no containers", hint="`pystack up -d` brings it up")
    known = {*record.project.services, *(item.instance.service for item in record.containers)}
    check_named(settings, (service,), known)
    of_service = in_order(item for item in record.containers if item.instance.service == service)
    found = [
        item
        for item in of_service
        if not index or (item.instance.role is Role.REPLICA and item.instance.number == index)
    ]
    if not found and index:
        raise InputError(
            f'project {site.project} has no container {index} of service "{service}"',
            hint="`pystack ps -a` lists what it has",
        )
    if not found:
        raise OperationError(f'service "{service}" has no container', hint=f"`pystack create {service}` makes it")
    return Origin.of(site, found[0].container, found[0].definition)
