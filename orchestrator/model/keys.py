"""The hashes in the names of kernel objects (`model.names`), and the project's key.

Every command needs the key of its project, so this imports nothing: hashlib would load OpenSSL, which takes as long as all
the rest of such a command.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NewType

    ProjectName = NewType("ProjectName", str)
    ProjectKey = NewType("ProjectKey", str)
    """Eight hex digits that stand for (data directory, project) in the names of kernel objects."""
else:
    ProjectName = ProjectKey = str


def _sha256() -> Callable[[bytes], Any]:
    """The interpreter's own SHA-256 (``_sha2`` since Python 3.12, ``_sha256`` before), else hashlib's."""
    for module in ("_sha2", "_sha256"):
        try:
            return __import__(module).sha256  # type: ignore[no-any-return]
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256


def short_hash(text: str, length: int) -> str:
    """The first `length` hex digits of SHA-256 of `text`."""
    digest: str = _sha256()(text.encode("utf-8", "surrogateescape")).hexdigest()
    return digest[:length]


def project_key(data_dir: str, project: ProjectName) -> ProjectKey:
    return ProjectKey(short_hash(f"{data_dir}\0{project}", 8))
