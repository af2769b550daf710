"""A blob into a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, cast

from orchestrator.images.unpack.applier import Applied, Applier
from orchestrator.images.unpack.decode import decoded
from orchestrator.images.unpack.largefiles import LargeFiles
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.reading import read_entries
from orchestrator.values import replace


def apply_layer(
    blob: BinaryIO,
    target: str,
    lowers: Sequence[str] = (),
    *,
    limits: Limits = DEFAULT,
    on_bytes: Callable[[int], None] | None = None,
) -> Applied:
    """Unpack the layer `blob` (gzip, zstd or plain) into the empty directory `target`. `lowers`: the trees below it,
    topmost first.

    `on_bytes`: as in `decode.decoded`; what it raises ends the unpacking. On any error `target` holds a part of the layer
    and is the caller's to delete; no thread and no descriptor is left.
    """
    with (
        LargeFiles() as large,
        Applier(target, lowers, limits, large=large) as applier,
        decoded(blob, limits, on_bytes) as stream,
    ):
        for entry, data in read_entries(cast(BinaryIO, stream), limits):
            applier.add(entry, data)
        diff_id = stream.drain()
        large.wait()
        return replace(applier.finish(), diff_id=diff_id)
