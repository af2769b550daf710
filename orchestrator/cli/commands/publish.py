"""``pystack publish``: refused."""

from __future__ import annotations

from orchestrator.cli.settings import Settings
from orchestrator.errors import InputError


def publish(settings: Settings, repository: str) -> None:
    """Raises InputError."""
    raise InputError(
        f"a stack is not published to a registry, also not to {repository}: nothing here reads such artifacts",
        hint="publish its files; `pystack config --lock-image-digests -o FILE` pins their images",
    )
