"""A project's name and its key, and the hashes in the names of kernel objects (`model.names`).

Every command needs the key of its project, so this imports next to nothing: hashlib would load OpenSSL, which takes as long
as all the rest of such a command.
"""

from __future__ import annotations

from orchestrator.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NewType

    ProjectName = NewType("ProjectName", str)
    ProjectKey = NewType("ProjectKey", str)
    """Eight hex digits that stand for (data directory, project) in the names of kernel objects."""
else:
    ProjectName = ProjectKey = str


MOST_NAME = 240
"""Characters of a project's, a container's or a volume's name: it becomes a file's name, which has 255 bytes at most, with
something behind it."""
_PROJECT_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
PROJECT_NAME_HINT = "use lower-case letters, digits, dashes and underscores, and start with a letter or a digit"


def normal_project_name(text: str) -> str:
    """What is left of `text` (a folder's name, ``name:``) as a project's name, maybe nothing. Source: compose-spec."""
    return "".join(letter for letter in text.lower() if letter in _PROJECT_LETTERS).lstrip("_-")


def parse_project_name(text: str) -> ProjectName:
    """`text`, which must be a project's name as it stands (``-p``): it becomes a directory's name. Raises InputError."""
    if not text or normal_project_name(text) != text:
        raise InputError(f'"{text}" is not a project name', hint=PROJECT_NAME_HINT)
    return ProjectName(text)


def check_project_name(name: str) -> None:
    """Raises InputError for one that is too long to be the name of a directory."""
    if len(name) > MOST_NAME:
        message = f'the project name "{name[:20]}..." has {len(name)} characters, and {MOST_NAME} are the most'
        raise InputError(message, hint="give a shorter one: -p NAME, or name: in the compose file")


def _sha256() -> Callable[[bytes], Any]:
    """The interpreter's own SHA-256 (``_sha2`` since Python 3.12, ``_sha256`` before), else hashlib's."""
    for module in ("_sha2", "_sha256"):
        try:
            return __import__(module).sha256  # type: ignore[no-any-return]
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256


_hash: Callable[[bytes], Any] | None = None
"""Found once: a module that is not there is looked for anew each time."""


def short_hash(text: str, length: int) -> str:
    """The first `length` hex digits of SHA-256 of `text`."""
    global _hash
    _hash = _hash or _sha256()
    digest: str = _hash(text.encode("utf-8", "surrogateescape")).hexdigest()
    return digest[:length]


def project_key(data_dir: str, project: ProjectName) -> ProjectKey:
    return ProjectKey(short_hash(f"{data_dir}\0{project}", 8))
