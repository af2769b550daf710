"""The store: one directory, any number of processes (docs/images.md, "The store")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from orchestrator.contracts.state import Finding
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest
from orchestrator.images.spec.manifest import Manifest
from orchestrator.images.store.blobs import Ingest
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.values import Collected, Layer, Name, StoredImage
from orchestrator.images.unpack.limits import Limits


class Store:
    """`root`: nothing is made there until something is added. Every method blocks. Raises HostError for what the machine
    refuses (a full disk, a missing permission)."""

    def __init__(self, root: str) -> None: ...

    # Blobs
    def blob(self, digest: Digest) -> str | None:
        """The path of a blob that is there, verified when it came."""

    def read_blob(self, digest: Digest, most_bytes: int) -> bytes:
        """A small one, verified again. Raises OperationError if it is not there, bigger or damaged."""

    def ingest(self, digest: Digest, size: int | None) -> Ingest:
        """A context manager; waits until nobody else fetches the same. Size: as announced, checked while writing."""

    def add_blob(self, data: bytes) -> Digest:
        """At once."""

    # Layers. `parents`: the diffIDs of those below, lowest first
    def layer(self, diff_id: Digest, parents: Sequence[Digest]) -> Layer | None: ...

    def unpack(
        self,
        blob: Descriptor,
        diff_id: Digest,
        parents: Sequence[Digest],
        *,
        limits: Limits = Limits(),
        on_bytes: Callable[[int], None] | None = None,
    ) -> Layer:
        """The layer, unpacked from its blob unless it is there; once, also if several processes want it."""

    def adopt(self, tree: str, diff_id: Digest, parents: Sequence[Digest]) -> Layer:
        """A finished layer (overlay's marks for what is deleted) at or below a directory that `tmp` gave: it is moved."""

    def note_packed(self, layer: Layer, blob: Descriptor) -> Layer:
        """The compressed form of a layer that was made here: it is kept as long as the layer, and used again."""

    def tmp(self) -> str:
        """A fresh directory below tmp/; deleted by a collection when this process has ended. Its owner may delete it."""

    # Images
    def put(self, config: bytes, manifest: Manifest | None = None, *, blobs: Sequence[Descriptor] = ()) -> StoredImage:
        """Its layers must be there, and what it consists of held by a lease. Adds the configuration and the manifest as
        blobs; `blobs`: others that are to be kept as long as it. Synced. Raises OperationError."""

    def get(self, image_id: Digest) -> StoredImage | None:
        """None unless record and layers are all there."""

    def find(self, text: str) -> StoredImage | None:
        """By name, name@digest, id or the beginning of one. Raises InputError for one that several ids begin with."""

    def images(self) -> list[StoredImage]:
        """All that are whole, by their ids."""

    def forget(self, image_id: Digest) -> bool:
        """Delete an image's record and names; its content goes with the next collection. Raises BusyError if it is leased."""

    def name(self, name: str, image: Digest, *, digest: Digest | None = None) -> None:
        """`name`: `Named.full`. It moves here from the image that has it. Raises OperationError if there is no such image."""

    def names(self) -> Mapping[str, Name]: ...

    def unname(self, name: str) -> bool: ...

    # Build cache: small values; `holds`: what a collection keeps while the entry is recent
    def cached(self, key: str) -> bytes | None:
        """Asking makes it recent."""

    def cache(self, key: str, value: bytes, holds: Sequence[Digest]) -> None: ...

    # Life
    def lease(self) -> Lease:
        """A context manager. What it holds survives any collection: hold first, then look whether it is there."""

    def collect(
        self,
        *,
        in_use: Collection[Digest],
        unnamed: bool,
        unused: bool,
        until_s: float | None = None,
        cache: bool = False,
        dry: bool = False,
    ) -> Collected:
        """Remove what nothing needs. `in_use`: ids of images of containers. `unnamed`: also images without a name, `unused`:
        all that are not in use; both only if made before the instant `until_s`. `cache`: the whole build cache too."""

    def findings(self) -> tuple[Finding, ...]:
        """What was damaged or missing in what was looked at since this was last asked."""
