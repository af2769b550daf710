"""``pystack cp``: files between this machine and a service's containers. It needs no supervisor."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.cli.container_files import Copying, copy_in, copy_out, local_source, stream_in, stream_out
from orchestrator.cli.dryrun import told_instead
from orchestrator.cli.output import opened_output, terminable
from orchestrator.cli.selection import check_named
from orchestrator.cli.volumes import files_of
from orchestrator.contracts.state import in_order
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.model.names import Role
from orchestrator.runtime.bundle import read_bundle
from orchestrator.runtime.view import View, is_running, opened_view
from orchestrator.state.reading import Reading

_STARTS_S, _LOOK_S = 5.0, 0.05

if TYPE_CHECKING:
    from typing import BinaryIO

    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.runtime import SandboxSpec
    from orchestrator.contracts.site import Site
    from orchestrator.model.names import ContainerId


def cp(
    settings: Settings, source: str, destination: str, archive: bool, follow: bool, index: int, one_offs: bool
) -> None:
    """Copy SRC to DEST, one of which is SERVICE:PATH."""
    (service, path), (other, far) = _side(source), _side(destination)
    if service and other:
        raise InputError("files are not copied between services", hint="by way of a file: cp SERVICE:PATH - > FILE.tar")
    if not service and not other:
        raise InputError("neither side is a service", hint="write SERVICE:PATH on one side")
    if not source or not destination:
        raise InputError("an empty path is nothing to copy")
    site = settings.site()
    copying = Copying(archive, follow, lambda text: settings.warn((text,)))
    if service:
        container = _containers(settings, site, service, index, one_offs)[0]
        if told_instead(settings, f"copy {container}:{path} to {destination}"):
            return
        _out(settings, site, container, path, destination, copying)
        return
    containers = _containers(settings, site, other, index, one_offs)
    if told_instead(settings, *(f"copy {source} to {container}:{far}" for container in containers)):
        return
    if source == "-":
        _unpack(settings, site, containers, far, copying)
        return
    found = local_source(path, copying)
    with terminable():
        for container in containers:
            with _seen(settings, site, container) as view:
                copy_in(view, container, found, far, copying)


def _out(settings: Settings, site: Site, container: ContainerId, path: str, destination: str, copying: Copying) -> None:
    if destination == "-" and sys.stdout.isatty():
        raise InputError("an archive is nothing for a terminal", hint="pystack cp SERVICE:PATH - > FILE.tar")
    with terminable(), _seen(settings, site, container) as view:
        if destination != "-":
            copy_out(view, container, path, destination, copying)
            return
        with opened_output(None) as out:
            stream_out(view, container, path, out, copying)


def _unpack(
    settings: Settings, site: Site, containers: list[ContainerId], path: str, copying: Copying
) -> None:
    if sys.stdin.isatty():
        raise InputError("no archive is on stdin", hint="pystack cp - SERVICE:PATH < FILE.tar")
    stream: BinaryIO = sys.stdin.buffer
    with terminable(), tempfile.TemporaryFile() as kept:
        if len(containers) > 1:  # It can be read but once.
            try:
                shutil.copyfileobj(stream, kept)
            except OSError as exc:
                raise HostError(f"cannot keep what comes on stdin: {exc.strerror}") from exc
            stream = kept
        for container in containers:
            if stream is kept:
                kept.seek(0)
            with _seen(settings, site, container) as view:
                stream_in(view, container, stream, path, copying)


def _side(text: str) -> tuple[str, str]:
    """Service and path; "" and the path for one of this machine: what begins with a dot or a slash, or has no colon (as
    Docker Compose has it)."""
    service, colon, path = text.partition(":")
    if not colon or text.startswith((".", os.sep)):
        return "", text
    if not service:
        raise InputError(f'"{text}" names no service')
    return service, path


def _containers(settings: Settings, site: Site, service: str, index: int, one_offs: bool) -> list[ContainerId]:
    """The lowest number first, one-offs last. Raises InputError, OperationError."""
    record = Reading(site).record
    if record is None:
        raise OperationError(f"project {site.project} has no containers", hint="`pystack up -d` brings it up")
    check_named(settings, (service,), {*record.project.services, *(c.instance.service for c in record.containers)})
    found = in_order(
        item
        for item in record.containers
        if item.instance.service == service and (one_offs or item.instance.role is Role.REPLICA)
    )
    if index:
        found = [item for item in found if item.instance.role is Role.REPLICA and item.instance.number == index]
        if not found:
            raise InputError(
                f'project {site.project} has no container {index} of service "{service}"',
                hint="`pystack ps -a` lists what it has",
            )
    if not found:
        raise OperationError(f'service "{service}" has no container', hint=f"`pystack create {service}` makes it")
    return [item.container for item in found]


@contextmanager
def _seen(settings: Settings, site: Site, container: ContainerId) -> Iterator[View]:
    """With a warning for what is not there."""
    spec = read_bundle(site, container)
    at_rest = _rests(site, spec)
    with opened_view(site, spec, lambda: provide(settings, spec), at_rest=at_rest) as view:
        settings.warn(view.missing)
        yield view


def _rests(site: Site, spec: SandboxSpec) -> bool:
    """False: it runs; one that is being started is waited for. Raises OperationError for one that takes longer."""
    end_s = time.monotonic() + _STARTS_S
    while not is_running(site, spec):
        from orchestrator.cli.resting import rests
        from orchestrator.client import connect

        client = connect(site)
        if client is None:  # Nobody is there who would start it.
            return True
        with client:
            if rests(client, spec.container):
                return True
        if time.monotonic() > end_s:
            hint = "do it once it runs, or stop it before: what is stopped can be copied to"
            raise OperationError(f"container {spec.container} does not run yet, and is about to", hint=hint)
        time.sleep(_LOOK_S)
    return False


def provide(settings: Settings, spec: SandboxSpec) -> None:
    """Mount what volumes with ``driver_opts`` are, if it is not: after a reboot. It stays for as long as there are
    containers that use it."""
    files = files_of(settings)
    sources = [mount.get("source") or "" for mount in spec.config.get("mounts") or ()]
    for name in files.names():
        about, data = files.about(name), files.data(name)
        if about is not None and about.options and any(f"{source}/".startswith(f"{data}/") for source in sources):
            files.provide(name, about)
