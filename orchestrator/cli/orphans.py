"""What is to happen to orphans, by ``--remove-orphans`` and the environment."""

from __future__ import annotations

from orchestrator.cli.parser import truth
from orchestrator.cli.settings import Settings
from orchestrator.errors import InputError


def orphans(settings: Settings, remove: bool) -> tuple[bool, bool]:
    """Whether to remove them, and whether to say nothing about them. `remove`: of the command line. Raises InputError for
    both at once, and for a variable that is neither true nor false."""
    removes = removes_orphans(settings, remove)
    ignores = ignores_orphans(settings)
    if removes and ignores:
        raise InputError("COMPOSE_IGNORE_ORPHANS cannot be combined with --remove-orphans or COMPOSE_REMOVE_ORPHANS")
    return removes, ignores


def removes_orphans(settings: Settings, remove: bool) -> bool:
    """As `orphans`, for a verb that does both or neither."""
    return remove or _true(settings, "COMPOSE_REMOVE_ORPHANS")


def ignores_orphans(settings: Settings) -> bool:
    return _true(settings, "COMPOSE_IGNORE_ORPHANS")


def _true(settings: Settings, name: str) -> bool:
    text = settings.variable(name)
    try:
        return bool(text) and truth(text)
    except ValueError as error:
        raise InputError(f"{name}: {error}", hint="1 or 0") from None
