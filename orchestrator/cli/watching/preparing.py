"""What a stack's rules come to on this machine, before anything is watched: checked, with the place of what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from orchestrator.cli.watching.rules import Filter, Ground, filter_of
from orchestrator.errors import InputError
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind
from orchestrator.model.watch import WatchAction, WatchRule
from orchestrator.values import frozen

IGNORE_FILE = ".dockerignore"
_MOST_IGNORE_BYTES = 4 << 20


@frozen
class Prepared:
    """A rule that is watched. `image`: of its service."""

    service: ServiceName
    image: str
    rule: WatchRule
    ground: Ground
    filter: Filter


def prepare(project: Project, chosen: Collection[str], warn: Callable[[str], None]) -> tuple[Prepared, ...]:
    """The rules of the `chosen` services. Raises InputError with the place of what cannot be watched, and when there is
    nothing to watch."""
    services = [service for name, service in project.services.items() if name in chosen and service.watch]
    if not services:
        raise InputError(
            "none of the selected services has anything to watch", hint="say what under develop.watch: docs/watch.md"
        )
    found = []
    for service in services:
        ignore = _ignore_file(service)
        for rule in service.watch:
            try:
                _check(rule, service)
                if rule.action.syncs and _is_mounted(rule.path, service):
                    warn(f"{rule.path} is mounted into {service.name}, which sees its changes: it is not watched")
                    continue
                ground = _ground(rule, service)
                found.append(Prepared(service.name, service.image, rule, ground, filter_of(rule, ground, *ignore)))
            except InputError as error:
                raise InputError(error.message, hint=error.hint, place=project.where(error.place)) from error
    if not found:
        raise InputError("nothing is left to watch: all that is to be synced is mounted")
    return tuple(found)


def _check(rule: WatchRule, service: Service) -> None:
    """Raises InputError with a compose path."""
    if rule.action is WatchAction.REBUILD and service.build is None:
        raise InputError(
            f'service "{service.name}" has no build, so it cannot be rebuilt',
            hint="add build:, or take another action",
            place=f"{rule.place}.action",
        )
    if rule.action is WatchAction.SYNC_EXEC and (rule.exec is None or not rule.exec.command):
        raise InputError("sync+exec needs a command", hint="add exec: {command: ...}", place=rule.place)
    if not os.path.exists(rule.path):
        raise InputError(f"there is nothing to watch at {rule.path}", hint="make it first", place=f"{rule.place}.path")


def _ground(rule: WatchRule, service: Service) -> Ground:
    path = os.path.realpath(rule.path)
    local = service.build is not None and os.path.isabs(service.build.context)
    context = os.path.realpath(service.build.context) if service.build is not None and local else ""
    if os.path.isdir(path):
        return Ground(path, context=context)
    above, name = os.path.split(path)
    return Ground(above, name, context)


def _is_mounted(path: str, service: Service) -> bool:
    """Whether a bind mount shows it in the container already."""
    binds = (mount.source for mount in service.volumes if mount.kind is MountKind.BIND and mount.source)
    return any(f"{path}/".startswith(f"{source.rstrip('/')}/") for source in binds)


def _ignore_file(service: Service) -> tuple[str, str]:
    """The text and the name of the build context's ignore file, as a build takes it. Raises InputError."""
    build = service.build
    if build is None or not os.path.isabs(build.context):
        return "", ""
    beside = os.path.normpath(os.path.join(build.context, f"{build.dockerfile}.dockerignore"))
    paths = [os.path.join(build.context, IGNORE_FILE)]
    for path in paths if build.dockerfile_inline is not None else [beside, *paths]:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(_MOST_IGNORE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise InputError(f"cannot read {path}: {exc.strerror}") from exc
        if len(text) > _MOST_IGNORE_BYTES:
            raise InputError(f"{path} is larger than {_MOST_IGNORE_BYTES >> 20} MiB")
        return text, path
    return "", ""
