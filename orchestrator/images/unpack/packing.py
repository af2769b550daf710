"""packing"""

from __future__ import annotations

from typing import BinaryIO

from orchestrator.values import frozen


@frozen
class Packed:
    diff_id: str
    bytes: int
    entries: int


def write_tree(tree: str, out: BinaryIO, *, times_at_most_s: int | None = None, whole: bool = False) -> Packed:
    """The directory `tree` as a tar stream in `out`: the same bytes for the same tree, wherever it lies.

    A layer's tree: whiteouts are written as ``.wh.NAME``, opaque directories as ``.wh..wh..opq``, and the root is left
    out. `whole`: a merged root file system or a volume, no layer: its root is an entry (``./``) and nothing is a mark.
    `times_at_most_s`: later times become this one (SOURCE_DATE_EPOCH). Sockets are left out. Raises OperationError for
    what no layer can say (a file named ``.wh.x``), OSError for what cannot be read or written.
    """
    raise NotImplementedError
