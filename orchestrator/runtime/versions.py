"""What is stored carries a version, and an older one is upgraded step by step when it is read.

A file without a version is of version 1, which wrote none. ``UPGRADES[n]`` makes version n + 1 out of n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import OperationError

Stored = dict[str, Any]
Upgrades = Mapping[int, Callable[[Stored], Stored]]

VERSION_KEY = "version"


def upgrade(data: Stored, current: int, upgrades: Upgrades, what: str) -> Stored:
    """`data` as version `current` has it. Raises OperationError for one of a newer pystack, ValueError for what is no
    version."""
    version = data.get(VERSION_KEY, 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{version!r} is not a version")
    if version > current:
        raise OperationError(
            f"{what} was written by a newer pystack (version {version} of its format; this one knows {current})",
            hint="use the pystack that made it",
        )
    for number in range(version, current):
        data = upgrades[number](data)
    return {**data, VERSION_KEY: current}
