"""The store: one directory, any number of processes (docs/images.md, "The store")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from orchestrator.contracts.state import Finding
from orchestrator.errors import BusyError, InputError, OperationError
from orchestrator.images.reference import Named, parse_named
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest, short
from orchestrator.images.spec.manifest import Manifest
from orchestrator.images.store.blobs import Blobs, Ingest, Spool
from orchestrator.images.store.buildcache import BuildCache
from orchestrator.images.store.collection import Collector, Wish
from orchestrator.images.store.layers import Layers
from orchestrator.images.store.leases import Lease, leased
from orchestrator.images.store.locks import STORE, Locks
from orchestrator.images.store.names import Names
from orchestrator.images.store.places import Places, hex_of, refused
from orchestrator.images.store.records import ImageRecords
from orchestrator.images.store.values import Collected, Layer, Name, StoredImage
from orchestrator.images.store.workshop import Workshop
from orchestrator.images.unpack.limits import DEFAULT, Limits

_HEX = frozenset("0123456789abcdef")
_SHOWN = 5
_LONGEST_PREFIX = 128


class Store:
    """`root`: nothing is made there until something is added. Every method blocks, may be called from any thread, and
    raises HostError for what the machine refuses (a full disk, a missing permission)."""

    def __init__(self, root: str) -> None:
        self._places = Places(root)
        self._locks = Locks(self._places)
        self._workshop = Workshop(self._places, self._locks)
        self._blobs = Blobs(self._places, self._locks, self._workshop)
        self._layers = Layers(self._places, self._locks, self._workshop)
        self._records = ImageRecords(self._places, self._locks, self._blobs, self._layers)
        self._names = Names(self._places, self._locks)
        self._cache = BuildCache(self._places, self._locks)

    def __repr__(self) -> str:
        return f"Store({self._places.root!r})"

    # Blobs

    def blob(self, digest: Digest) -> str | None:
        """The path of a blob that is there, verified when it came."""
        return self._blobs.path(digest)

    def read_blob(self, digest: Digest, most_bytes: int) -> bytes:
        """A small one, verified again. Raises OperationError if it is not there, bigger or damaged."""
        return self._blobs.read(digest, most_bytes)

    def ingest(self, digest: Digest, size: int | None, *, on_wait: Callable[[], None] | None = None) -> Ingest:
        """A context manager. It waits until nobody else fetches the same; `on_wait` is called meanwhile, and may raise."""
        return self._blobs.ingest(digest, size, on_wait)

    def spool(self) -> Spool:
        """A context manager: a blob whose digest is known only when all of it was written."""
        return self._blobs.spool()

    def add_blob(self, data: bytes) -> Digest:
        return self._blobs.add(data)

    # Layers. `parents`: the diffIDs of those below, lowest first

    def layer(self, diff_id: Digest, parents: Sequence[Digest]) -> Layer | None:
        return self._layers.find(diff_id, parents)

    def unpack(
        self,
        blob: Descriptor,
        diff_id: Digest,
        parents: Sequence[Digest],
        *,
        limits: Limits = DEFAULT,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Layer:
        """The layer, unpacked from its blob unless it is there; once, also if several want it at the same time. `on_bytes`
        is called with 0 while another process unpacks it. Raises OperationError for what is no such layer."""

        @contextmanager
        def opened() -> Iterator[BinaryIO]:
            path = self.blob(blob.digest)
            if path is None:
                raise OperationError(f"blob {short(blob.digest)} is not there", hint="pull the image again")
            with open(path, "rb", buffering=0) as file:
                yield file

        try:
            return self._layers.unpack(opened, blob, diff_id, parents, limits, on_bytes)
        except OperationError:
            if self.blob(blob.digest) is not None and not self._blobs.intact(blob.digest):
                raise OperationError(
                    f"{self._places.blob(blob.digest)} was damaged and is removed", hint="pull the image again"
                ) from None
            raise

    def adopt(self, tree: str, diff_id: Digest, parents: Sequence[Digest]) -> Layer:
        """A finished layer, with overlay's marks for what is deleted, in or below a directory that `tmp` gave: it is moved
        to its place, or deleted if the layer is there."""
        return self._layers.adopt(tree, diff_id, parents)

    def packed(self, layer: Layer) -> Descriptor | None:
        """The tar archive that a layer came in (or was packed in), compressed or not, if its blob is there."""
        found = self._layers.about(layer.key)
        return found.blob if found is not None and found.blob is not None and self.blob(found.blob.digest) else None

    def note_packed(self, layer: Layer, blob: Descriptor) -> None:
        """`blob` is the layer as a tar archive: it is kept as long as the layer."""
        self._layers.note_packed(layer, blob)

    def tmp(self) -> str:
        """A fresh directory below tmp/, of this process until it ends. Its owner deletes it (`discard`) or gives what is in
        it to `adopt`; a collection deletes those of processes that have ended."""
        return self._workshop.make()

    def discard(self, directory: str) -> None:
        """Delete what `tmp` gave, if it is still there."""
        self._workshop.discard(directory)

    def sweep(self) -> None:
        """Delete what killed processes left below tmp/, as far as nobody has to wait for it."""
        self._workshop.sweep()

    # Images

    def put(self, config: bytes, manifest: Manifest | None = None, *, blobs: Sequence[Descriptor] = ()) -> StoredImage:
        """Record an image whose layers are there and held by a lease. The configuration and the manifest become blobs, and
        everything is on the disk when this returns. `blobs`: others that are kept as long as it. Raises OperationError."""
        image = self.get(self._records.put(config, manifest, blobs))
        if image is None:
            raise OperationError("the image was deleted while it was being recorded", hint="try again")
        return image

    def get(self, image_id: Digest) -> StoredImage | None:
        """None unless record and layers are all there."""
        return self._records.get(image_id, [name for name, means in self.names().items() if means.image == image_id])

    def find(self, text: str) -> StoredImage | None:
        """By name, name@digest, id or the beginning of one. Raises InputError for what several ids begin with, and for what
        cannot be a name."""
        rest = text.removeprefix("sha256:").removeprefix("sha512:")
        beginning = bool(rest) and _HEX.issuperset(rest) and len(rest) <= _LONGEST_PREFIX
        if rest == text and len(rest) != 64:
            try:
                image = self._meant(parse_named(text))
            except InputError:
                if not beginning:
                    raise
                image = None
            if image is not None and (found := self.get(image)) is not None:
                return found
        return self.get(image) if beginning and (image := self._beginning_with(rest)) is not None else None

    def images(self) -> list[StoredImage]:
        """All that are whole, by their ids."""
        names: dict[Digest, list[str]] = {}
        for name, means in self.names().items():
            names.setdefault(means.image, []).append(name)
        found = (self._records.get(image, names.get(image, ())) for image in self._records.ids())
        return [image for image in found if image is not None]

    def forget(self, image_id: Digest) -> bool:
        """Delete an image's record and its names; what it consisted of goes with the next collection. Raises BusyError if
        somebody is about to use it."""
        with self._locks.hold(STORE), refused(f"delete image {short(image_id)}"):
            if image_id in leased(self._places, clean=False):
                raise BusyError(f"image {short(image_id)} is being used by another command", hint="try again later")
            for name, means in self._names.all().items():
                if means.image == image_id:
                    self._names.remove(name)
            return self._records.remove(image_id)

    def name(self, name: str, image: Digest, *, digest: Digest | None = None) -> None:
        """`name`: `Named.full`; from now on it means this image. `digest`: of the manifest or index under which it was
        seen. Raises OperationError if there is no such image."""
        if self._records.read(image) is None:
            raise OperationError(f"there is no image {short(image)} to be named {name}")
        self._names.set(name, image, digest)

    def names(self) -> Mapping[str, Name]:
        return self._names.all()

    def unname(self, name: str) -> bool:
        """Whether there was such a name."""
        return self._names.remove(name)

    def name_file(self, name: str) -> str:
        """Where it is written what `name` means: in words that have the image's id in quotes."""
        return self._places.name(name)

    def files_of(self, image: StoredImage) -> tuple[str, ...]:
        """Files that are there as long as the image is whole."""
        return (self._places.record(image.id), *(self._layers.mark(layer) for layer in image.layers))

    # Build cache

    def cached(self, key: str) -> bytes | None:
        """Asking makes it recent."""
        return self._cache.get(key)

    def cache(self, key: str, value: bytes, holds: Sequence[Digest]) -> None:
        """`holds`: layers (by diffID) and blobs that a collection keeps while the entry is recent; not records."""
        self._cache.put(key, value, holds)

    # Life

    def lease(self) -> Lease:
        return Lease(self._places, self._locks)

    def collect(
        self,
        *,
        in_use: Collection[Digest],
        unnamed: bool,
        unused: bool,
        until_s: float | None = None,
        only: Collection[Digest] | None = None,
        cache: bool = False,
        dry: bool = False,
    ) -> Collected:
        """Remove what nothing needs. `in_use`: ids of the images of containers. `unnamed`: also images without a name;
        `unused`: all that are not in use; both only what was created before the instant `until_s`, and only of `only`.
        `cache`: the whole build cache, not only what nobody asked for in two weeks. `dry`: only tell."""
        wish = Wish(frozenset(in_use), unnamed, unused, until_s, cache, frozenset(only) if only is not None else None)
        collector = Collector(self._places, self._locks, self._names, self._records, self._layers, self._cache)
        return collector.run(wish, dry=dry)

    def findings(self) -> tuple[Finding, ...]:
        """What was found damaged or missing since this was last asked."""
        return self._places.told()

    # Finding

    def _meant(self, named: Named) -> Digest | None:
        """The image that a name means. One with a digest is also found by another name of that repository, under which this
        manifest was seen."""
        if (means := self._names.get(named.full)) is not None:
            return means.image
        if named.digest is None:
            return None
        for name, means in self.names().items():
            if means.digest == named.digest and _repository(name) == named.name:
                return means.image
        return None

    def _beginning_with(self, text: str) -> Digest | None:
        ids = [image for image in self._records.ids() if hex_of(image).startswith(text)]
        if len(ids) > 1:
            some = ", ".join(short(image) for image in ids[:_SHOWN])
            raise InputError(
                f"{len(ids)} images have ids that begin with {text}", hint=f"write more of it: {some}"
            )
        return digest(ids[0]) if ids else None


def _repository(name: str) -> str:
    try:
        return parse_named(name).name
    except InputError:
        return ""
