"""An image of the store as blobs and a manifest, for whoever sends it somewhere: what is not there compressed is packed."""

from __future__ import annotations

from contextlib import suppress
from typing import BinaryIO, cast

from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import OperationError
from orchestrator.images.spec import media_types
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, short
from orchestrator.images.spec.manifest import Manifest, make_manifest, parse_manifest
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.places import refused
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import Layer, StoredImage
from orchestrator.images.transports.pipes import Piped
from orchestrator.images.transports.sources import MOST_DOCUMENT, Check
from orchestrator.images.unpack.compression import Compression, compress
from orchestrator.images.unpack.packing import write_tree

_TYPES = {
    Compression.NONE: media_types.OCI_LAYER,
    Compression.GZIP: media_types.OCI_LAYER_GZIP,
    Compression.ZSTD: media_types.OCI_LAYER_ZSTD,
}


def packed_manifest(
    store: Store,
    lease: Lease,
    image: StoredImage,
    progress: Progress,
    *,
    kind: Compression = Compression.GZIP,
    check: Check | None = None,
) -> Manifest:
    """The image's own manifest if all its blobs are there; else one that is made, whose blobs are. `lease` holds them.
    Layers are packed once: their blobs stay with them. Raises OperationError for a layer that is not what it was."""
    lease.hold(image.id, *(layer.diff_id for layer in image.layers))
    if (own := _own(store, lease, image)) is not None:
        return own
    layers = []
    for layer in image.layers:
        layers.append(_packed(store, lease, layer) or pack(store, lease, layer, progress, kind, check))
    store.add_blob(image.config.raw)
    config = Descriptor(media_types.OCI_CONFIG, image.config.digest, len(image.config.raw))
    raw = make_manifest(config, layers)
    manifest = parse_manifest(raw)
    assert isinstance(manifest, Manifest)
    lease.hold(config.digest, manifest.descriptor.digest)
    store.add_blob(raw)
    return manifest


def pack(
    store: Store, lease: Lease, layer: Layer, progress: Progress, kind: Compression, check: Check | None
) -> Descriptor:
    """The layer as a blob, which the store remembers: the archive that it came in, compressed; else its tree."""
    done = 0

    def told(data: bytes) -> int:
        nonlocal done
        done += len(data)
        if check is not None:
            check()
        progress(Transfer(short(layer.diff_id), "packing", done))
        return spool.write(data)

    plain = store.blob(layer.diff_id)
    with store.spool() as spool, refused(f"pack layer {short(layer.diff_id)}"):
        out = cast(BinaryIO, Sink(told))
        if plain is not None:
            with open(plain, "rb", buffering=0) as archive:
                compress(archive, out, kind)
        else:
            _pack_tree(layer, out, kind)
        lease.hold(spool.digest)
        blob = Descriptor(_TYPES[kind], spool.commit(), spool.size)
    store.note_packed(layer, blob)
    return blob


def _pack_tree(layer: Layer, out: BinaryIO, kind: Compression) -> None:
    tree = Piped(lambda archive: write_tree(layer.path, archive))
    with tree as stream:
        compress(stream, out, kind)
        if tree.result().diff_id != layer.diff_id:
            raise OperationError(
                f"the archive of layer {short(layer.diff_id)} is gone, and {layer.path} gives another one",
                hint="pull or load the image again, or build it again if it was built here",
            )


def _packed(store: Store, lease: Lease, layer: Layer) -> Descriptor | None:
    """The layer's blob, if it is there and compressed."""
    known = store.packed(layer)
    if known is None or known.digest == layer.diff_id:
        return None
    lease.hold(known.digest)
    return known if store.blob(known.digest) is not None else None


class Sink:
    """The writing side of a stream, for one function."""

    def __init__(self, write: object) -> None:
        self.write = write

    def flush(self) -> None:
        """Nothing is kept back."""


def _own(store: Store, lease: Lease, image: StoredImage) -> Manifest | None:
    if image.manifest is None:
        return None
    lease.hold(image.manifest.digest)
    with suppress(OperationError):
        found = parse_manifest(store.read_blob(image.manifest.digest, MOST_DOCUMENT), image.manifest.media_type)
        if isinstance(found, Manifest):
            needed: list[Digest] = [found.config.digest, *(layer.digest for layer in found.layers)]
            lease.hold(*needed)
            if all(store.blob(one) is not None for one in needed):
                return found
    return None
