"""Whether a stack has services that are no containers: `stop` and `down` ask each time, so it costs next to nothing."""

from __future__ import annotations

import os

from orchestrator.errors import PystackError
from orchestrator.state.directory import WANTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.site import Site
    from orchestrator.model.project import Project

_RECORDED = b'"providers":{"'
"""In a record of a stack that has some (`model.codec` leaves out what is empty), and in no text of it: quotes have
backslashes there."""
_WORDS = (b"provider", b"include", b"extends")
"""One of them stands in files of a stack that has some."""


def stack_with_providers(settings: Settings, site: Site) -> Project | None:
    """The stack as it is recorded, else as the files have it; None for one without providers."""
    try:
        with open(os.path.join(site.data_dir, WANTED), "rb") as file:
            if _RECORDED not in file.read():
                return None
    except OSError:
        project = settings.load_if_possible() if _may_have(settings) else None
    else:
        from orchestrator.state.reading import Reading

        record = Reading(site).record
        project = record.project if record is not None else None
    return project if project is not None and project.providers else None


def _may_have(settings: Settings) -> bool:
    from orchestrator.compose.discovery import discover

    try:
        for path in discover(settings.request()).files:
            with open(path, "rb") as file:
                data = file.read()
            if any(word in data for word in _WORDS):
                return True
    except (PystackError, OSError):  # Whoever loads them says what is wrong.
        return False
    return False
