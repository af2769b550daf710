"""The project's name for verbs that need nothing else of the compose files.

Most files have no ``name:``, and the project is then named after its folder. That is seen by looking at the lines that
begin in the first column, without a YAML parser (whose import costs more than all that such a verb does). Whatever looks
unusual there is left to the loader.
"""

from __future__ import annotations

import re

from orchestrator.compose.discovery import LoadRequest, discover, folder_name, given_name

_MAX_BYTES = 1 << 20
_ORDINARY = re.compile(rb"(?!name\s*:)[A-Za-z0-9_.-]+:(?:\s|$)|---\s*$|#")
"""A top-level key that is not ``name``, the start of a document, or a comment."""


def project_name(request: LoadRequest) -> str:
    """The name, by ``-p``, COMPOSE_PROJECT_NAME (also of .env), ``name:`` or the folder's. Raises ComposeError."""
    found = discover(request)
    name = given_name(request, found.environment)
    if not name and not any(_may_name(path) for path in found.files):
        name = folder_name(found.working_dir)
    if name:
        return name
    from orchestrator.compose.load import project_identity

    return project_identity(request)[0]


def _may_name(path: str) -> bool:
    """Whether the file may have a top-level ``name``."""
    if path == "-":
        return True
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError:
        return True
    if len(text) > _MAX_BYTES or b"\r" in text.replace(b"\r\n", b"") or text[:1] in (b"\xef", b"\xfe", b"\xff"):
        return True
    starts = [line for line in text.split(b"\n") if line[:1] not in (b"", b" ", b"\t", b"\r")]
    keys = [line for line in starts if line[:1] not in (b"#", b"-")]
    return not keys or not all(_ORDINARY.match(line) for line in starts)
