"""Errors of the adapters, pointed into the compose file."""

from __future__ import annotations

from orchestrator.errors import KINDS, CommandError, OperationError, PystackError
from orchestrator.model.project import Project
from orchestrator.model.service import Service


def located(error: PystackError, project: Project, service: Service, key: str = "") -> PystackError:
    """`error` with its place in the file: of the compose path that it names, else of the service's `key` (``image``), else
    of the service; or the option of the command line that gave it. One that has its place in a file already is left as it
    is."""
    path = error.place or (f"{service.place}.{key}" if key else service.place)
    place = service.given.get(path) or project.where(path)
    if place == error.place:
        return error
    kind = KINDS.get(error.kind, OperationError)
    return kind(error.message, hint=error.hint, exit_code=error.exit_code, place=place)


def key_of(error: PystackError) -> str:
    """The attribute of a service that an error without a path is about."""
    return "command" if isinstance(error, CommandError) else ""
