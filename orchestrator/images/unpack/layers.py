"""A blob into a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

from orchestrator.images.unpack.applier import Applied
from orchestrator.images.unpack.limits import Limits


def apply_layer(
    blob: BinaryIO,
    target: str,
    lowers: Sequence[str] = (),
    *,
    limits: Limits = Limits(),
    on_bytes: Callable[[int], None] | None = None,
) -> Applied:
    """Unpack the layer `blob` (gzip, zstd or plain) into the empty directory `target`. `lowers`: the trees below it,
    topmost first.

    `on_bytes`: as in `decode.decoded`; what it raises ends the unpacking. On any error `target` holds a part of the layer
    and is the caller's to delete; no thread and no descriptor is left.
    """
    raise NotImplementedError
