"""Which project a command is about, reading as little as possible: ``ps``, ``logs`` and ``exec`` ask before each run.

With ``-p`` or COMPOSE_PROJECT_NAME no compose file is read; else the files are parsed only if one of them can have a
``name:``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.compose import discovery
from orchestrator.compose.discovery import Found, LoadRequest
from orchestrator.compose.folder import may_have_name
from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic
from orchestrator.compose.text.files import Source, read_source, stdin_source
from orchestrator.compose.text.interpolate import InterpolationError, substitute
from orchestrator.model.names import PROJECT_NAME_HINT, ProjectName, normal_project_name

if TYPE_CHECKING:
    from orchestrator.compose.text.tree import Node


def project_identity(request: LoadRequest) -> tuple[ProjectName, str]:
    """(name, folder) of the project. Raises ComposeError."""
    found = discovery.discover(request)
    name = discovery.given_name(request, found.environment) or written_name(request, found)
    return ProjectName(name), found.working_dir


def written_name(request: LoadRequest, found: Found, *, interpolate: bool = True) -> str:
    """The name of the last file that has one, else the folder's. Raises ComposeError for a file that cannot be read: it
    may have had the name; and for one whose variables leave nothing of it, for the folder's name would be another project.
    Other errors in the files are left to the loader."""
    last: tuple[str, Node] | None = None
    for path in found.files:
        source = stdin_source(request.stdin_text or "") if path == "-" else read_source(path, request.directory)
        if may_have_name(source.text.encode()):
            last = _name_in(source, found, interpolate) or last
    if last is None:
        return discovery.folder_name(found.working_dir)
    text, node = last
    if not normal_project_name(text):
        raise ComposeError([_unnamed(text, node)])
    return normal_project_name(text)


def _unnamed(text: str, node: Node) -> Diagnostic:
    from orchestrator.compose.text.tree import diagnostic

    hint = PROJECT_NAME_HINT if text else "set the variable, or write a default: ${NAME:-default}"
    return diagnostic(node, "name", f'"{text}" leaves no project name', hint=hint)


def _name_in(source: Source, found: Found, interpolate: bool) -> tuple[str, Node] | None:
    """With its variables, and where it stands. One that is written as "" is none."""
    from orchestrator.compose.text.tree import parse  # YAML costs 20 ms, and most calls do not need it

    last = None
    try:
        documents = parse(source)
    except ComposeError:  # What is up can be looked at and taken down while its file is being written.
        return _name_in_broken(source, found, interpolate)
    for document in documents:
        node = document.get("name")
        if node is None or not isinstance(node.value, str) or not node.value:
            continue
        try:
            text = substitute(node.value, found.environment.get, lambda _: None) if interpolate else node.value
        except InterpolationError:
            continue
        last = text, node
    return last


def _name_in_broken(source: Source, found: Found, interpolate: bool) -> tuple[str, Node] | None:
    """As `_name_in`, of a text that is no YAML: by the last line of it that can be a top-level ``name``."""
    lines = source.text.splitlines()
    numbers = [number for number, line in enumerate(lines) if line.startswith("name:")]
    if not numbers or source.text.strip() == lines[numbers[-1]].strip():
        return None
    text = "\n" * numbers[-1] + lines[numbers[-1]]
    return _name_in(Source(source.name, source.path, text), found, interpolate)
