"""Which files make up the project, where its folder is, what its environment and its name are.

Files: ``-f``, else ``COMPOSE_FILE``, else ``compose.yaml``, ``compose.yml``, ``docker-compose.yml`` or
``docker-compose.yaml`` (the first that is there) with its override file, in the directory or a parent. Environment: the
process's, then ``.env`` of the project's folder (or ``--env-file``). Source: Docker's documentation of the CLI, measured.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping

from orchestrator.compose.folder import DEFAULT_FILES, DESCRIPTORS, search
from orchestrator.compose.text import dotenv
from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic, unset_in_file
from orchestrator.compose.text.files import MAX_ENV_BYTES, FileError, read_text, shown_name
from orchestrator.errors import InputError
from orchestrator.model.names import normal_project_name, parse_project_name
from orchestrator.values import frozen


@frozen
class LoadRequest:
    """What to load. `directory` is absolute: where discovery starts (the working directory of the command).

    `files` are those of ``-f`` (``-`` is standard input, whose text is `stdin_text`); `profiles` those of ``--profile``;
    `services` the ones named on the command line, whose profiles become active. Relative paths are against `directory`.
    """

    directory: str
    environment: Mapping[str, str]
    files: tuple[str, ...] = ()
    stdin_text: str | None = None
    project_name: str | None = None
    project_directory: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@frozen
class Found:
    """The result of discovery. `files` are absolute (or ``-``); `environment` is complete but for the project's name.
    `warnings`: about the files that it is from."""

    files: tuple[str, ...]
    working_dir: str
    environment: Mapping[str, str]
    warnings: tuple[Diagnostic, ...] = ()


def _error(message: str, hint: str | None = None) -> ComposeError:
    return ComposeError([Diagnostic("", 0, 0, "", message, hint)])


def _absolute(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))


def discover(request: LoadRequest) -> Found:
    """The files, the folder and the environment of the project. Raises ComposeError."""
    environment = dict(request.environment)
    folder = None
    if request.project_directory is not None:
        folder = _absolute(request.directory, request.project_directory)
    first = folder or _folder_of(_absolute_all(request, request.files)) or request.directory
    warnings: list[Diagnostic] = []
    environment = _with_env_files(request, environment, first, warnings)
    files = _explicit(request, environment)
    if not files:
        files = search(folder or request.directory)
        if not files:
            names = " or ".join(DEFAULT_FILES[:2])
            raise _error(
                f"no compose file in {folder or request.directory} or above it",
                f"make {names}, or name the file with -f",
            )
    if folder is None:
        folder = _folder_of(files) or request.directory
        if folder != first:
            environment = _with_env_files(request, environment, folder, warnings)
    return Found(files, folder, environment, tuple(dict.fromkeys(warnings)))


def _folder_of(files: tuple[str, ...]) -> str | None:
    """The folder of the first file that is one."""
    return next((os.path.dirname(file) for file in files if file != "-" and not file.startswith(DESCRIPTORS)), None)


def _absolute_all(request: LoadRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("-" if name == "-" else _absolute(request.directory, name) for name in names)


def discover_files(request: LoadRequest) -> tuple[tuple[str, ...], str]:
    """(absolute compose files, the project's folder). Raises ComposeError."""
    found = discover(request)
    return found.files, found.working_dir


def _explicit(request: LoadRequest, environment: Mapping[str, str]) -> tuple[str, ...]:
    named = request.files
    if not named and environment.get("COMPOSE_FILE"):
        separator = environment.get("COMPOSE_PATH_SEPARATOR") or ":"
        named = tuple(environment["COMPOSE_FILE"].split(separator))
    return _absolute_all(request, named)


def _with_env_files(
    request: LoadRequest, environment: dict[str, str], folder: str, warnings: list[Diagnostic]
) -> dict[str, str]:
    named = request.env_files
    if not named and environment.get("COMPOSE_ENV_FILES"):
        named = tuple(environment["COMPOSE_ENV_FILES"].split(","))
    paths = [_absolute(request.directory, name) for name in named]
    if not paths:
        default = os.path.join(folder, ".env")
        if environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true"):
            return environment
        if not os.path.isfile(default):
            return environment
        paths = [default]
    found: dict[str, str] = {}
    for path in paths:
        found.update(read_env_file(path, request.directory, environment, found, warnings))
    return {**found, **environment}


def read_env_file(
    path: str,
    directory: str,
    environment: Mapping[str, str],
    known: Mapping[str, str] | None = None,
    warnings: list[Diagnostic] | None = None,
) -> dict[str, str]:
    """The variables of one ``.env`` file. Raises ComposeError."""
    name = shown_name(path, directory)
    text = ""

    def unset(variable: str, line: int) -> None:
        if warnings is not None:
            warnings.append(unset_in_file(variable, name, text, line))

    try:
        text = read_text(path, MAX_ENV_BYTES)
        return dotenv.parse(text, environment.get, known, unset)
    except FileError as exc:
        raise ComposeError([Diagnostic(name, exc.line, exc.column, "", f"the file {exc}", exc.hint)]) from None
    except dotenv.DotenvError as exc:
        lines = text.split("\n")
        quoted = lines[exc.line - 1] if exc.line <= len(lines) else None
        raise ComposeError([Diagnostic(name, exc.line, 1, "", str(exc), exc.hint, quoted)]) from None


def given_name(request: LoadRequest, environment: Mapping[str, str]) -> str | None:
    """The name from ``-p`` or COMPOSE_PROJECT_NAME; None when neither is set. Raises ComposeError."""
    name = request.project_name or environment.get("COMPOSE_PROJECT_NAME")
    if not name:
        return None
    try:
        return parse_project_name(name)
    except InputError as exc:
        raise _error(exc.message, exc.hint) from exc


def folder_name(working_dir: str) -> str:
    """The name that the project's folder gives. Raises ComposeError when nothing is left of it."""
    name = normal_project_name(os.path.basename(working_dir))
    if not name:
        raise _error(f"the folder {working_dir} gives no project name", "name the project with -p or name:")
    return name
