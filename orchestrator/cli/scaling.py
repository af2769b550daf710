"""``SERVICE=NUMBER``: numbers of replicas as the command line has them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cli.selection import check_services
from orchestrator.errors import InputError
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project

_DIGITS = 9
"""Far more than any service may have (`plan.replicas.MOST`)."""


def replicas(words: Sequence[str], project: Project) -> dict[ServiceName, int]:
    """The last word about a service holds. Raises InputError for what is no number, and for an unknown service."""
    found: dict[ServiceName, int] = {}
    for word in words:
        name, given, number = word.partition("=")
        if not given or not name or not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            raise InputError(
                f'"{word}" is not SERVICE=NUMBER', hint="a service and how many containers it is to have: web=3"
            )
        check_services([name], project.services, project.name)
        found[ServiceName(name)] = int(number)
    return found
