"""Images of the store into archives and directories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import BinaryIO

from orchestrator.contracts.images import Progress
from orchestrator.errors import InputError, OperationError
from orchestrator.images.reference import Archive, parse_named
from orchestrator.images.spec import media_types
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, short
from orchestrator.images.spec.manifest import Index, Manifest, make_index, parse_manifest
from orchestrator.images.spec.strict_json import canonical
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.transports.contents import FULL_NAME, REF_NAME
from orchestrator.images.transports.packing import packed_manifest
from orchestrator.images.transports.sources import Check
from orchestrator.images.transports.targets import Folder, Tar, Target
from orchestrator.images.unpack.compression import Compression
from orchestrator.values import frozen, replace

_LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})
_DIRECTORY_VERSION = b"Directory Transport Version: 1.1\n"


@frozen
class Saved:
    """An image, its manifest, and what it is to be called: names (`Named.full`), or `ref`."""

    image: StoredImage
    manifest: Manifest
    names: tuple[str, ...]
    ref: str = ""


def save(
    store: Store,
    images: Sequence[str],
    archive: Archive,
    progress: Progress,
    *,
    kind: Compression = Compression.GZIP,
    check: Check | None = None,
    out: BinaryIO | None = None,
) -> None:
    """Write images, each given by a name (by which it is then called there) or an id. `kind`: how layers are packed that
    were made here. `out`: where a tar goes instead of to the archive's path. The archive is there when it is whole; an OCI
    layout that exists already gets the images added.

    Raises InputError for a wrong path or more than one image where there is a place for one, OperationError for an image
    that is not there.
    """
    if len(images) != 1 and (archive.name or archive.transport == "dir"):
        raise InputError(f"{archive.full} has a place for one image, not {len(images)}")
    with store.lease() as lease:
        saved = _saved(store, lease, images, archive, progress, kind, check)
        with _target(archive, check, out) as target:
            if archive.transport == "dir":
                _write_directory(store, target, saved[0])
            else:
                _write_layout(store, target, saved, archive)


def _target(archive: Archive, check: Check | None, out: BinaryIO | None) -> Target:
    match archive.transport:
        case "oci":
            return Folder(archive.path, "index.json", check, extended=True)
        case "dir":
            return Folder(archive.path, "manifest.json", check, extended=False)
        case _:
            return Tar(archive.path, check, out)


def _saved(
    store: Store,
    lease: Lease,
    images: Sequence[str],
    archive: Archive,
    progress: Progress,
    kind: Compression,
    check: Check | None,
) -> list[Saved]:
    found: dict[Digest, Saved] = {}
    for text in images:
        image = store.find(text)
        if image is None:
            raise OperationError(f'image "{text}" is not here', hint="`pystack image ls` lists those that are")
        known = found.get(image.id)
        if known is None:
            known = Saved(image, packed_manifest(store, lease, image, progress, kind=kind, check=check), ())
        names = () if archive.name else _names(text, image)
        found[image.id] = replace(known, names=tuple(dict.fromkeys((*known.names, *names))), ref=archive.name)
    return list(found.values())


def _names(text: str, image: StoredImage) -> tuple[str, ...]:
    """The name that `text` is of the image; nothing if it is an id."""
    try:
        full = parse_named(text).full
    except InputError:
        return ()
    return (full,) if full in image.names else ()


def _write_layout(store: Store, target: Target, saved: Sequence[Saved], archive: Archive) -> None:
    """An OCI layout; for docker-archive with Docker's manifest.json beside it, as Docker writes it since version 25."""
    entries = [entry for one in saved for entry in _entries(one)]
    target.add("oci-layout", _LAYOUT)
    if archive.transport == "docker-archive":
        target.add("manifest.json", json.dumps([_docker_item(one) for one in saved]).encode())
    target.add("index.json", make_index([*_kept(target, entries), *entries]))
    written: set[Digest] = set()
    for one in saved:
        manifest = one.manifest
        for digest in (manifest.descriptor.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)):
            if digest not in written:
                written.add(digest)
                target.copy(f"blobs/{digest.replace(':', '/')}", _blob(store, digest))


def _entries(one: Saved) -> list[Descriptor]:
    bare = Descriptor(one.manifest.descriptor.media_type, one.manifest.descriptor.digest, one.manifest.descriptor.size)
    if one.ref:
        return [replace(bare, annotations={REF_NAME: one.ref})]
    return [replace(bare, annotations={FULL_NAME: name, REF_NAME: name}) for name in one.names] or [bare]


def _kept(target: Target, new: Sequence[Descriptor]) -> list[Descriptor]:
    """Entries of an index that is being extended: without those whose name is written anew."""
    raw = target.existing("index.json")
    if raw is None:
        return []
    index = parse_manifest(raw, media_types.OCI_INDEX)
    if not isinstance(index, Index):
        raise OperationError(f"index.json in {target.path} is a manifest and no index")
    names = {entry.annotations.get(REF_NAME) for entry in new}
    return [entry for entry in index.manifests if entry not in new and entry.annotations.get(REF_NAME, "") not in names]


def _docker_item(one: Saved) -> dict[str, object]:
    names = [one.ref] if one.ref else list(one.names)
    tags = [named.familiar for named in map(parse_named, names) if named.tag and named.digest is None]
    return {
        "Config": f"blobs/{one.manifest.config.digest.replace(':', '/')}",
        "RepoTags": tags,
        "Layers": [f"blobs/{layer.digest.replace(':', '/')}" for layer in one.manifest.layers],
    }


def _write_directory(store: Store, target: Target, one: Saved) -> None:
    target.add("version", _DIRECTORY_VERSION)
    for digest in dict.fromkeys((one.manifest.config.digest, *(layer.digest for layer in one.manifest.layers))):
        target.copy(digest.partition(":")[2], _blob(store, digest))
    target.add("manifest.json", one.manifest.raw)


def _blob(store: Store, digest: Digest) -> str:
    path = store.blob(digest)
    if path is None:
        raise OperationError(f"blob {short(digest)} is not there", hint="pull the image again")
    return path
