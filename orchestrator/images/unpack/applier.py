"""applier"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from orchestrator.images.unpack.entries import Entry
from orchestrator.images.unpack.limits import Limits
from orchestrator.values import frozen


@frozen
class Applied:
    """`diff_id`: of the tar stream, "" where there was none. `bytes`: of data. `complete`: the tree is the same whatever
    is below it: no parent directory, link or file had to be taken from there."""

    diff_id: str
    bytes: int
    entries: int
    complete: bool


class Applier:
    """Entries into `target`, a directory whose `lowers` (topmost first) are below it. A context manager.

    `whiteouts`: whether names that begin with ``.wh.`` are marks (a layer) or names like any other (COPY, ADD, volumes).
    Needs root. Raises OperationError for what an entry may not do, HostError for what this machine cannot.
    """

    def __init__(
        self, target: str, lowers: Sequence[str] = (), limits: Limits = Limits(), *, whiteouts: bool = True
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> Applier:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, entry: Entry, data: BinaryIO | None = None) -> None:
        """Make what `entry` says. `data`: `entry.data_bytes` are read of it."""
        raise NotImplementedError

    def finish(self) -> Applied:
        """Set what had to wait until all was there: times of directories."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of all descriptors. What was made stays."""
        raise NotImplementedError
