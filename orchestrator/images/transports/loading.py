"""Images from archives and directories into the store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import BinaryIO, cast

from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import OperationError
from orchestrator.images.reference import Archive
from orchestrator.images.spec import media_types
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, short
from orchestrator.images.spec.platform import Platform, host_platform
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.transports.contents import Offered, contents, transport_of
from orchestrator.images.transports.sources import Check, Source, fetched, opened
from orchestrator.images.unpack.decode import decoded
from orchestrator.images.unpack.limits import DEFAULT, Limits

_CHUNK = 1 << 20
_MAGIC_BYTES = 6
_KINDS = {b"\x1f\x8b": media_types.OCI_LAYER_GZIP, b"\x28\xb5\x2f\xfd": media_types.OCI_LAYER_ZSTD}
_RARE = (b"BZh", b"\xfd7zXZ\0")
"""Compressions that Docker unpacks, and no manifest can name."""


def load(
    store: Store,
    archive: Archive | str,
    progress: Progress,
    *,
    platform: Platform | None = None,
    limits: Limits = DEFAULT,
    check: Check | None = None,
) -> list[StoredImage]:
    """The images of an archive or a directory, put into the store and named as they are named there. A path alone: whatever
    it holds, also compressed, also a pipe. `check` is called again and again, and may raise. `platform`: None is this
    machine's. Raises InputError for a path that leads to nothing, OperationError for what holds no image or is damaged."""
    path = archive if isinstance(archive, str) else archive.path
    with store.lease() as lease, opened(path, store, lease, check) as source:
        if isinstance(archive, str):
            archive = Archive(transport_of(source, path), path)
        images = contents(source, archive, platform or host_platform())
        work = Load(store, lease, source, progress, limits, check)
        return [work.image(image) for image in images]


class Load:
    """What `load` does for each image."""

    def __init__(
        self, store: Store, lease: Lease, source: Source, progress: Progress, limits: Limits, check: Check | None
    ) -> None:
        self._store = store
        self._lease = lease
        self._source = source
        self._progress = progress
        self._limits = limits
        self._check = check

    def image(self, offered: Offered) -> StoredImage:
        config, manifest = offered.config, offered.manifest
        image_id = manifest.config.digest if manifest is not None else config.digest
        blobs = manifest.layers if manifest is not None else ()
        if manifest is not None and len(blobs) != len(config.diff_ids):
            by_config = f"{len(config.diff_ids)} by its configuration"
            raise OperationError(f"image {short(image_id)} has {len(blobs)} layers by its manifest and {by_config}")
        held = [manifest.descriptor.digest] if manifest is not None else []
        self._lease.hold(image_id, *held, *config.diff_ids, *(blob.digest for blob in blobs))
        for number, diff_id in enumerate(config.diff_ids):
            parents = config.diff_ids[:number]
            if blobs:
                self._layer_of_blob(offered.parts[number], blobs[number], diff_id, parents)
            else:
                self._layer_of_part(offered.parts[number], diff_id, parents)
        image = self._store.put(config.raw, manifest)
        for name in offered.names:
            self._store.name(name, image.id, digest=offered.seen_as)
        return self._store.get(image.id) or image

    def _layer_of_blob(self, part: str, blob: Descriptor, diff_id: Digest, parents: tuple[Digest, ...]) -> None:
        if self._store.blob(blob.digest) is None:
            with self._source.open(self._there(part)) as data:
                told = self._telling(diff_id, "pulling", blob.size)
                fetched(self._store, blob.digest, blob.size, data, self._check, told)
        layer = self._store.layer(diff_id, parents)
        if layer is not None:
            self._progress(Transfer(short(diff_id), "shared"))
            if self._store.packed(layer) is None:
                self._store.note_packed(layer, blob)
            return
        told = self._telling(diff_id, "unpacking", blob.size)
        self._store.unpack(blob, diff_id, parents, limits=self._limits, on_bytes=told)
        self._progress(Transfer(short(diff_id), "done", blob.size, blob.size))

    def _layer_of_part(self, part: str, diff_id: Digest, parents: tuple[Digest, ...]) -> None:
        """From a tar archive of which no digest is known. It becomes a blob as it is: made from the tree it would be
        another one, and the image with it."""
        layer = self._store.layer(diff_id, parents)
        if layer is not None and self._store.packed(layer) is not None:
            self._progress(Transfer(short(diff_id), "shared"))
            return
        blob = self._kept(self._there(part), diff_id)
        if layer is not None:
            self._store.note_packed(layer, blob)
            return
        told = self._telling(diff_id, "unpacking", blob.size)
        self._store.unpack(blob, diff_id, parents, limits=self._limits, on_bytes=told)
        self._progress(Transfer(short(diff_id), "done", blob.size, blob.size))

    def _kept(self, part: str, diff_id: Digest) -> Descriptor:
        with self._source.open(part) as data:
            head = data.read(_MAGIC_BYTES)
        told = self._telling(diff_id, "pulling", self._source.size(part) or 0)
        with ExitStack() as held:
            data = held.enter_context(self._source.open(part))
            if head.startswith(_RARE):
                data = cast(BinaryIO, held.enter_context(decoded(data, self._limits)))
            spool = held.enter_context(self._store.spool())
            while chunk := data.read(_CHUNK):
                spool.write(chunk)
                told(len(chunk))
            self._lease.hold(spool.digest)
            kind = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), media_types.OCI_LAYER)
            return Descriptor(kind, spool.commit(), spool.size)

    def _there(self, part: str) -> str:
        if self._source.size(part) is None:
            raise OperationError(f"{part} is missing, a layer of the image")
        return part

    def _telling(self, diff_id: Digest, action: str, total: int) -> Callable[[int], None]:
        done = 0

        def told(more: int) -> None:
            nonlocal done
            done += more
            if self._check is not None:
                self._check()
            self._progress(Transfer(short(diff_id), action, done, total))

        return told
