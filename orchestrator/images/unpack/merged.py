"""merged"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO


class Merged:
    """What overlayfs would show of `lowers` (topmost first), without a mount. A context manager; `close` lets go of the
    directories. Paths are from the root of that view, with or without a leading slash; names that are no UTF-8 are as
    `os.fsdecode` has them.
    """

    def __init__(self, lowers: Sequence[str]) -> None:
        raise NotImplementedError

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError

    def stat(self, path: str) -> os.stat_result | None:
        """None if there is nothing. Links on the way are followed inside the root, the last component is not."""
        raise NotImplementedError

    def readlink(self, path: str) -> str:
        """The text of the symbolic link `path`. Raises OSError(EINVAL) for anything else."""
        raise NotImplementedError

    def resolve(self, path: str) -> str:
        """`path` with all links followed inside the root. What does not exist keeps its name, so that it may be made
        there. Raises OSError(ELOOP)."""
        raise NotImplementedError

    def open(self, path: str) -> BinaryIO:
        """A regular file, for reading; links are followed inside the root. Raises OSError."""
        raise NotImplementedError

    def listdir(self, path: str) -> list[str]:
        """Sorted; links are followed inside the root. Raises OSError."""
        raise NotImplementedError

    def real(self, path: str) -> str | None:
        """Where on the host that lies which `stat(path)` is about; None if there is nothing."""
        raise NotImplementedError
