"""reading"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from orchestrator.images.unpack.entries import Entry
from orchestrator.images.unpack.limits import Limits


def read_entries(stream: BinaryIO, limits: Limits = Limits()) -> Iterator[tuple[Entry, BinaryIO]]:
    """The entries of a tar stream that is not compressed (for one that is: `decode.decoded`), each with its data.

    Data that was not read when the next entry is asked for is skipped. After the last entry the stream stands behind the
    end-of-archive blocks; what follows them is nobody's. Raises OperationError for whatever is no tar archive, or is more
    than `limits`.
    """
    raise NotImplementedError
