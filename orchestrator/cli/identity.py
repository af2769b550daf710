"""The project's name for verbs that need nothing else of the compose files."""

from __future__ import annotations

import os

from orchestrator.compose.folder import plain_name
from orchestrator.model.keys import normal_project_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings


def certain_name(settings: Settings) -> str | None:
    """The name, when it can be told without the loader: ``-p``, COMPOSE_PROJECT_NAME or the folder's. None otherwise, and
    for a name that is none."""
    given = settings.project_name or settings.environ.get("COMPOSE_PROJECT_NAME")
    if given:
        return given if normal_project_name(given) == given else None
    if settings.env_files:
        return None
    return plain_name(os.getcwd(), settings.environ, settings.files, settings.project_directory)


def project_name(settings: Settings) -> str:
    """The name, by ``-p``, COMPOSE_PROJECT_NAME (also of .env), ``name:`` or the folder's. Raises ComposeError."""
    name = certain_name(settings)
    if name is None:
        from orchestrator.compose.identity import project_identity

        name = project_identity(settings.request())[0]
    return name
