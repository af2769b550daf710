"""What the store gives to its callers."""

from __future__ import annotations

from orchestrator.images.spec.config import ConfigFile
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest
from orchestrator.values import frozen

Content = bytes


@frozen
class Layer:
    """An unpacked layer. `key`: its directory's name in the store; `path`: what overlayfs gets. `bytes`: of its files."""

    key: str
    path: str
    diff_id: Digest
    bytes: int
    entries: int


@frozen
class StoredImage:
    """An image that is there, whole. `id`: the digest of its configuration. `layers`: lowest first. `names`: sorted.
    `manifest`: the one it came with, None for one that was made here. `created_s`: what the configuration says, else when
    it was put. `bytes`: of all layers, unpacked. `passwd` and `group`: out of the merged layers."""

    id: Digest
    config: ConfigFile
    layers: tuple[Layer, ...]
    manifest: Descriptor | None
    names: tuple[str, ...]
    created_s: float
    bytes: int
    passwd: Content
    group: Content


@frozen
class Name:
    """What a name means: the image, and the digest of the manifest (or index) under which it was seen, if it was."""

    image: Digest
    digest: Digest | None
    at_s: float


@frozen
class Collected:
    """What a collection removed, or would. `images`: ids; `names`: those that they had; `layers`: keys; `blobs`: digests;
    `cache`: how many entries of the build cache. `bytes`: on the disk, of all that."""

    images: tuple[Digest, ...] = ()
    names: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    blobs: tuple[Digest, ...] = ()
    cache: int = 0
    bytes: int = 0
