"""Errors of the adapters, pointed into the compose file; signal names."""

from __future__ import annotations

import re
from signal import SIGTERM, Signals

from orchestrator.errors import CommandError, HostError, InputError, OperationError, PystackError
from orchestrator.model.project import Project
from orchestrator.model.service import Service

_PLACED = re.compile(r"[^\n]*?:\d+:\d+: (services|networks|volumes)\.")
"""``compose.yaml:14:7: services.web...``: it points into the file already."""
_KINDS: tuple[type[PystackError], ...] = (InputError, HostError, CommandError, OperationError)


def located(error: PystackError, project: Project, service: Service, key: str = "") -> PystackError:
    """`error` with the place in the file in front: of the compose path its message begins with, else of the service's `key`
    (``image``), else of the service."""
    if _PLACED.match(error.message):
        return error
    path, separator, rest = error.message.partition(": ")
    if separator and (path == service.place or path.startswith((f"{service.place}.", "networks.", "volumes."))):
        return _copy(error, f"{project.where(path)}: {rest}")
    place = f"{service.place}.{key}" if key else service.place
    return _copy(error, f"{project.where(place)}: {error.message}")


def key_of(error: PystackError) -> str:
    """The attribute of a service that an error without a path is about."""
    return "command" if isinstance(error, CommandError) else ""


def signal_number(name: str | None) -> int:
    """``SIGTERM``, ``TERM``, ``15``, ``RTMIN+3``; None is SIGTERM. Raises InputError for what is no signal."""
    if not name:
        return int(SIGTERM)
    text = name.upper().removeprefix("SIG")
    if text.isdecimal() and 1 <= int(text) <= Signals.SIGRTMAX:
        return int(text)
    base, plus, offset = text.partition("+")
    try:
        number = int(Signals[f"SIG{base}"])
    except KeyError:
        raise InputError(f'"{name}" is not a signal', hint="write a name such as SIGTERM or SIGINT") from None
    if plus and offset.isdecimal() and base == "RTMIN" and number + int(offset) <= Signals.SIGRTMAX:
        return number + int(offset)
    if plus:
        raise InputError(f'"{name}" is not a signal', hint="write a name such as SIGTERM or SIGINT")
    return number


def _copy(error: PystackError, message: str) -> PystackError:
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), OperationError)
    return kind(message, hint=error.hint, exit_code=error.exit_code)
