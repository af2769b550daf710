"""An image out of a root file system: a tar stream or a directory becomes its only layer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import InputError
from orchestrator.images.spec.config import History, make_config
from orchestrator.images.spec.digest import digest
from orchestrator.images.spec.platform import Platform, host_platform
from orchestrator.images.store.places import refused
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.transports.pipes import Piped
from orchestrator.images.transports.sources import Check
from orchestrator.images.unpack.layers import apply_layer
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.packing import write_tree


def import_tree(
    store: Store,
    source: BinaryIO | str,
    config: Mapping[str, Any],
    progress: Progress,
    *,
    comment: str = "",
    platform: Platform | None = None,
    created_s: float | None = None,
    limits: Limits = DEFAULT,
    check: Check | None = None,
) -> StoredImage:
    """The image, without a name. Its layer is written anew: the same files give the same image, in whatever archive they
    come. `source`: a tar stream, compressed or not, or the path of a directory. `config`: what a
    container takes over (image-spec, config.md: ``Cmd``, ``Env``, ...). `created_s`: None is now. Raises OperationError."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if created_s is None else created_s))
    with store.lease() as lease, ExitStack() as held:
        writer: Piped[object] | None = None
        if isinstance(source, str):
            if not os.path.isdir(source):
                raise InputError(f"{source} is not a directory")
            writer = Piped(_writer(source))
            source = held.enter_context(writer)
        done = 0

        def told(more: int) -> None:
            nonlocal done
            done += more
            if check is not None:
                check()
            progress(Transfer("layer", "unpacking", done))

        tree = store.tmp()
        held.callback(store.discard, tree)
        with refused("unpack the tree"):
            apply_layer(source, tree, limits=limits, on_bytes=told)
            if writer is not None:
                writer.result()
            with open(os.devnull, "wb") as nothing:
                diff_id = digest(write_tree(tree, nothing).diff_id)
        lease.hold(diff_id)
        layer = store.adopt(tree, diff_id, ())
        history = (History(created=created, created_by="pystack image import", comment=comment),)
        raw = make_config(platform or host_platform(), config, (layer.diff_id,), history, created=created)
        return store.put(raw)


def _writer(directory: str) -> Callable[[BinaryIO], object]:
    return lambda out: write_tree(directory, out, whole=True)
