"""The folder of a project: which files in it are compose files, and what name they and it give, seen without a parser.

Most files have no ``name:``, and the project is then named after its folder. That is seen by looking at the lines that
begin in the first column. Next to nothing is imported: verbs that talk to what runs need no more than this of the compose
files.
"""

from __future__ import annotations

import os.path

from orchestrator.model.keys import normal_project_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_FILES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
"""Where a shell's ``<(...)`` is: a file there is in no folder."""
_KEY = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_MAX_BYTES = 1 << 20


def search(directory: str) -> tuple[str, ...]:
    """The compose file in `directory` or the nearest one above it, with its override file; none: an empty tuple."""
    at = directory
    while True:
        for name in DEFAULT_FILES:
            path = os.path.join(at, name)
            if os.path.exists(path):
                overrides = [os.path.join(at, other) for other in OVERRIDE_FILES]
                return (path, *[other for other in overrides if os.path.exists(other)][:1])
        parent = os.path.dirname(at)
        if parent == at:
            return ()
        at = parent


def plain_name(
    directory: str, environment: Mapping[str, str], files: Sequence[str] = (), project_directory: str | None = None
) -> str | None:
    """The folder's name as the project's, when it is certain that nothing else names it; else None: the loader knows.

    For a command without ``-p`` and ``--env-file``; `files` are those of ``-f``, the other arguments as in
    `discovery.LoadRequest`.
    """
    if any(environment.get(name) for name in ("COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_ENV_FILES")):
        return None
    beside = [name for name in files if name != "-" and not name.startswith(DESCRIPTORS)]
    found = tuple(os.path.normpath(os.path.join(directory, name)) for name in beside)
    if len(found) != len(files):
        return None
    if project_directory is not None:
        folder = os.path.normpath(os.path.join(directory, project_directory))
        found = found or search(folder)
    else:
        found = found or search(directory)
        folder = os.path.dirname(found[0]) if found else ""
    # The .env of the directory is read before the files are known, that of their folder afterwards.
    if not found or any(_sets_compose(os.path.join(place, ".env")) for place in {directory, folder}):
        return None
    if any(text is None or may_have_name(text) for text in map(_content, found)):
        return None
    return normal_project_name(os.path.basename(folder)) or None


def may_have_name(text: bytes) -> bool:
    """Whether a file with this text may have a top-level ``name``. What looks unusual may."""
    if b"\r" in text.replace(b"\r\n", b"") or text[:1] in (b"\xef", b"\xfe", b"\xff"):
        return True
    starts = [line for line in text.split(b"\n") if line[:1] not in (b"", b" ", b"\t", b"\r", b"#")]
    keys = [line for line in starts if line[:1] != b"-"]
    return not keys or not all(_is_ordinary(line) for line in starts)


def _is_ordinary(line: bytes) -> bool:
    """A top-level key that is not ``name``, or the start of a document."""
    if line.rstrip() == b"---":
        return True
    key, colon, rest = line.partition(b":")
    word = key.rstrip()
    return bool(colon and key and _KEY.issuperset(key) and word != b"name" and rest[:1] in (b"", b" ", b"\t", b"\r"))


def _sets_compose(path: str) -> bool:
    """Whether the ``.env`` file may set a variable of Compose's own."""
    try:
        with open(path, "rb") as file:
            return b"COMPOSE_" in file.read()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _content(path: str) -> bytes | None:
    """None when it cannot be read, or is long."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    return text if len(text) <= _MAX_BYTES else None
