"""``records/``: images. A record is written last, when all that it names is there and on the disk."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from orchestrator.errors import OperationError
from orchestrator.images.spec.config import parse_config
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest, digest_of, short
from orchestrator.images.spec.manifest import Manifest
from orchestrator.images.store.blobs import Blobs
from orchestrator.images.store.layers import Layers
from orchestrator.images.store.locks import STORE, Locks
from orchestrator.images.store.places import Places, digest_from, keep_damaged, refused, sealed
from orchestrator.images.store.values import Layer, StoredImage
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel.atomic import replace_file
from orchestrator.model.codec import from_json, to_json
from orchestrator.values import frozen, replace

_LOCK = "records"
_MOST_ACCOUNT_BYTES = 1 << 20


@frozen
class Record:
    """``records/HEX.json``. `layers`: without their paths. `blobs`: all that are kept with it."""

    id: Digest
    config: bytes
    layers: tuple[Layer, ...]
    created_s: float
    manifest: Descriptor | None = None
    blobs: tuple[Descriptor, ...] = ()
    passwd: bytes = b""
    group: bytes = b""


class ImageRecords:
    def __init__(self, places: Places, locks: Locks, blobs: Blobs, layers: Layers) -> None:
        self._places = places
        self._locks = locks
        self._blobs = blobs
        self._layers = layers

    def read(self, image_id: Digest) -> Record | None:
        """Whether its layers are there or not. A damaged one is told, and None."""
        path = self._places.record(image_id)
        data = self._places.read(path)
        if data is None:
            return None
        try:
            found = from_json(Record, data)
            for layer in found.layers:
                digest_of_key(layer.key)
            if found.id != image_id:
                raise ValueError("it is another image's")
        except ValueError:
            self._places.tell(path, "is damaged", "the image counts as not there: pull it again")
            return None
        return replace(
            found, layers=tuple(replace(one, path=os.path.join(self._places.layer(one.key), "fs")) for one in found.layers)
        )

    def get(self, image_id: Digest, names: Sequence[str]) -> StoredImage | None:
        record = self.read(image_id)
        if record is None:
            return None
        for layer in record.layers:
            if not self._layers.is_there(layer):
                done = f"the image {short(image_id)} counts as not there: pull it again"
                self._places.tell(self._places.layer(layer.key), "is missing or was not written to its end", done)
                return None
        return _shown(record, names)

    def ids(self) -> list[Digest]:
        """Of all records, whole or not, sorted."""
        found = []
        for name in self._places.list("records"):
            rest, json, _ = name.partition(".json")
            if name == rest + json:
                found.append(digest_from("sha256" if len(rest) == 64 else "sha512", rest))
        return [one for one in found if one is not None]

    def put(self, config: bytes, manifest: Manifest | None, blobs: Sequence[Descriptor]) -> Digest:
        parsed = parse_config(config)
        image_id = parsed.digest
        if manifest is not None:
            image_id = manifest.config.digest
            self._check(config, len(parsed.diff_ids), manifest)
            self._blobs.add(manifest.raw, manifest.descriptor.digest)
            blobs = (manifest.config, *manifest.layers, manifest.descriptor, *blobs)
        self._blobs.add(config, image_id)
        layers = self._layers.lowers(parsed.diff_ids)
        passwd, group = self._accounts(layers)
        self._layers.sync(layers)
        record = Record(
            image_id,
            config,
            layers,
            _instant(parsed.created) or time.time(),
            manifest.descriptor if manifest is not None else None,
            tuple({one.digest: one for one in blobs}.values()),
            passwd,
            group,
        )
        self._write(record)
        return image_id

    def remove(self, image_id: Digest) -> bool:
        """For who holds `STORE` exclusively. Raises OSError."""
        try:
            os.unlink(self._places.record(image_id))
        except FileNotFoundError:
            return False
        return True

    def set_aside(self, image_id: Digest) -> None:
        """A damaged one."""
        with refused(f"rename {self._places.record(image_id)}"):
            keep_damaged(self._places.record(image_id))

    def _check(self, config: bytes, count: int, manifest: Manifest) -> None:
        given = digest_of(config)
        if manifest.config.digest.startswith("sha256:") and given != manifest.config.digest:
            raise OperationError(f"the manifest is about the configuration {manifest.config.digest}, not {given}")
        if len(manifest.layers) != count:
            raise OperationError(
                f"image {short(manifest.config.digest)} has {len(manifest.layers)} layers by its manifest"
                f" and {count} by its configuration"
            )

    def _accounts(self, layers: Sequence[Layer]) -> tuple[bytes, bytes]:
        if not layers:
            return b"", b""
        with Merged([layer.path for layer in reversed(layers)]) as tree:
            return _small_file(tree, "etc/passwd"), _small_file(tree, "etc/group")

    def _write(self, record: Record) -> None:
        path = self._places.record(record.id)
        with refused(f"write {path}"), self._locks.hold(_LOCK), self._locks.hold(STORE, shared=True):
            for layer in record.layers:
                if not self._layers.is_there(layer):
                    raise OperationError(
                        f"layer {short(layer.diff_id)} was deleted while image {short(record.id)} was being made of it",
                        hint="try again",
                    )
            self._places.ensure("records")
            if os.path.lexists(path) and self.read(record.id) is None:
                keep_damaged(path)
            bare = replace(record, layers=tuple(replace(layer, path="") for layer in record.layers))
            replace_file(path, sealed(to_json(bare)))


def digest_of_key(key: str) -> Digest:
    """A layer's key as the digest that it is. Raises ValueError."""
    return digest(f"{'sha256' if len(key) == 64 else 'sha512'}:{key}")


def _shown(record: Record, names: Sequence[str]) -> StoredImage:
    config = parse_config(record.config)
    return StoredImage(
        record.id,
        config,
        record.layers,
        record.manifest,
        tuple(sorted(names)),
        record.created_s,
        sum(layer.bytes for layer in record.layers),
        record.passwd,
        record.group,
    )


def _small_file(tree: Merged, path: str) -> bytes:
    """A regular file of at most a MiB; b"" for anything else."""
    try:
        with tree.open(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return b""
            data = file.read(_MOST_ACCOUNT_BYTES + 1)
    except OSError:
        return b""
    return data if len(data) <= _MOST_ACCOUNT_BYTES else b""


def _instant(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time; 0 for what is none."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
