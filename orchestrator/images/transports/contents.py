"""Which images an archive or a directory holds.

    oci:             oci-layout, index.json, blobs/ALGORITHM/HEX                  (image-spec, image-layout.md)
    docker-archive:  manifest.json, and the files that it names; since Docker 25 an OCI layout as well
    dir:             version, manifest.json, HEX                                  (containers-transports(5))

What an OCI layout calls a name is in the annotations of its index: ``io.containerd.image.name``, or
``org.opencontainers.image.ref.name`` if that is more than a tag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

from orchestrator.errors import InputError, OperationError
from orchestrator.images.reference import Archive, parse_named
from orchestrator.images.spec import media_types
from orchestrator.images.spec.config import ConfigFile, parse_config
from orchestrator.images.spec.descriptor import Descriptor, Fields
from orchestrator.images.spec.digest import Digest, short
from orchestrator.images.spec.manifest import Index, Manifest, choose, parse_manifest
from orchestrator.images.spec.platform import Platform, runs
from orchestrator.images.transports.sources import Source, document
from orchestrator.values import field, frozen, replace

REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"
_DEEPEST = 3
"""Indexes within indexes."""
_SHOWN = 10
_MOST_IMAGES = 1000


@frozen
class Offered:
    """An image of an archive. `refs`: what it is called there; `names`: those that are full names (`Named.full`). `parts`:
    the path of each layer, lowest first. `seen_as`: the digest of the manifest, or of the index that it was chosen from."""

    config: ConfigFile = field(repr=False)
    parts: tuple[str, ...]
    refs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    manifest: Manifest | None = None
    seen_as: Digest | None = None


def transport_of(source: Source, path: str) -> str:
    """Of an archive or a directory about which nothing is said. Raises OperationError."""
    if source.size("manifest.json") is not None:
        return "dir" if source.size("version") is not None else "docker-archive"
    if source.size("index.json") is not None:
        return "oci"
    raise OperationError(
        f"{path} holds no image: neither index.json nor manifest.json is in it",
        hint="`pystack image save`, `docker save` or `skopeo copy` make one; of a file system: `pystack image import`",
    )


def contents(source: Source, archive: Archive, platform: Platform) -> list[Offered]:
    """The images that `archive` means: that with its name, or all for `platform`. Raises OperationError."""
    match archive.transport:
        case "docker-archive":
            found = _of_docker(source)
        case "dir":
            found = [_of_directory(source)]
        case _:
            found = _of_layout(source, platform)
    if not found:
        raise OperationError(f"{archive.full} holds no image for {platform}")
    return _selected(found, archive) if archive.name else _together(found)


def _selected(found: Sequence[Offered], archive: Archive) -> list[Offered]:
    if archive.name.startswith("@"):
        number = int(archive.name[1:])
        if number < len(found):
            return [found[number]]
        raise OperationError(f"{archive.full}: there are {len(found)} images, counted from 0")
    full = _full(archive.name)
    for image in found:
        if archive.name in image.refs or (full and full in image.names):
            return [replace(image, names=tuple(name for name in image.names if name == full) or image.names)]
    there = [name for image in found for name in image.refs or image.names or (short(image.config.digest),)]
    shown = ", ".join(there[:_SHOWN]) + (" and more" if len(there) > _SHOWN else "")
    raise OperationError(f"{archive.path} holds no image {archive.name}", hint=f"it holds {shown}")


def _together(found: Sequence[Offered]) -> list[Offered]:
    """Each image once, with all its names."""
    by_id: dict[Digest, Offered] = {}
    for image in found:
        known = by_id.get(image.config.digest, image)
        by_id[image.config.digest] = replace(
            known,
            refs=tuple(dict.fromkeys((*known.refs, *image.refs))),
            names=tuple(dict.fromkeys((*known.names, *image.names))),
        )
    return list(by_id.values())


# An OCI layout.


def _of_layout(source: Source, platform: Platform) -> list[Offered]:
    index = _index(source)
    found, refused = [], None
    for entry in index.manifests:
        if not _fits(entry, platform, len(index.manifests)):
            continue
        try:
            manifest = _manifest(source, entry, lambda inner: choose(inner, platform))
        except NotHereError as exc:
            refused = exc
            continue
        found.append(_offered(source, manifest, entry))
    if not found and refused is not None:
        raise refused
    return found


def _index(source: Source) -> Index:
    index = parse_manifest(document(source, "index.json"), media_types.OCI_INDEX)
    if not isinstance(index, Index):
        raise OperationError("index.json is a manifest and no index")
    if len(index.manifests) > _MOST_IMAGES:
        raise OperationError(f"index.json has {len(index.manifests)} entries, more than {_MOST_IMAGES}")
    return index


def _fits(entry: Descriptor, platform: Platform, count: int) -> bool:
    if entry.media_type not in media_types.INDEXES | media_types.MANIFESTS:
        return False
    if entry.platform is None or count == 1:
        return True
    wanted = [(one.os, one.architecture, one.variant) for one in runs(platform)]
    return (entry.platform.os, entry.platform.architecture, entry.platform.variant) in wanted


class NotHereError(OperationError):
    """A document that an index names is not in the archive: one of another platform, perhaps."""


def _manifest(source: Source, entry: Descriptor, chosen: Callable[[Index], Descriptor]) -> Manifest:
    for _ in range(_DEEPEST):
        found = parse_manifest(_blob(source, entry), entry.media_type)
        if isinstance(found, Manifest):
            own = replace(found.descriptor, digest=entry.digest)
            return replace(found, descriptor=own)
        entry = chosen(found)
    raise OperationError(f"index.json leads to indexes more than {_DEEPEST} deep")


def _offered(source: Source, manifest: Manifest, entry: Descriptor) -> Offered:
    config = parse_config(_blob(source, manifest.config))
    refs, names = _names(entry.annotations)
    parts = tuple(_blob_path(layer.digest) for layer in manifest.layers)
    return Offered(config, parts, refs, names, manifest, entry.digest)


def _names(annotations: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what it is called, full names)"""
    given = [annotations[key] for key in (FULL_NAME, REF_NAME) if annotations.get(key)]
    ref = annotations.get(REF_NAME, "")
    named = annotations.get(FULL_NAME) or (ref if "/" in ref or ":" in ref else "")
    full = _full(named) if named else ""
    return tuple(given), (full,) if full else ()


def _full(text: str) -> str:
    """As `Named.full`; "" for what is no name."""
    try:
        return parse_named(text).full
    except InputError:
        return ""


def _blob(source: Source, descriptor: Descriptor) -> bytes:
    """A document. Raises OperationError if it is not what its digest says."""
    path = _blob_path(descriptor.digest)
    if source.size(path) is None:
        raise NotHereError(f"{path} is missing, which the archive's index names")
    data = document(source, path)
    _check(data, descriptor)
    return data


def _check(data: bytes, descriptor: Descriptor) -> None:
    algorithm, _, rest = descriptor.digest.partition(":")
    if len(data) != descriptor.size:
        raise OperationError(f"blob {short(descriptor.digest)} has {len(data)} bytes, and not {descriptor.size}")
    if hashlib.new(algorithm, data).hexdigest() != rest:
        raise OperationError(f"blob {descriptor.digest} is something else: its digest is wrong")


def _blob_path(of: Digest) -> str:
    return "blobs/" + of.replace(":", "/")


# Docker's.


def _of_docker(source: Source) -> list[Offered]:
    try:
        items = json.loads(document(source, "manifest.json").decode())
    except (ValueError, RecursionError) as exc:
        raise OperationError(f"manifest.json is not valid JSON: {exc}") from exc
    if not isinstance(items, list) or len(items) > _MOST_IMAGES:
        raise OperationError("manifest.json is no list of images", hint="a directory with one of a registry's is `dir:`")
    manifests = _manifests_beside(source)
    return [_of_docker_item(source, item, number, manifests) for number, item in enumerate(items)]


def _of_docker_item(source: Source, item: object, number: int, manifests: Mapping[Digest, Manifest]) -> Offered:
    fields = Fields(item, f"image {number} of manifest.json")
    config = parse_config(document(source, fields.text("Config") or f"the configuration of image {number}"))
    parts = fields.texts("Layers")
    if len(parts) != len(config.diff_ids):
        raise OperationError(
            f"image {number} of manifest.json has {len(parts)} layers, and {len(config.diff_ids)} by its configuration"
        )
    tags = fields.texts("RepoTags")
    names = tuple(full for full in map(_full, tags) if full)
    manifest = manifests.get(config.digest)
    if manifest is not None and tuple(_blob_path(layer.digest) for layer in manifest.layers) != parts:
        manifest = None
    return Offered(config, parts, tags, names, manifest, manifest.descriptor.digest if manifest is not None else None)


def _manifests_beside(source: Source) -> dict[Digest, Manifest]:
    """By the configuration: those of the OCI layout in the same archive, as far as they are there."""
    found: dict[Digest, Manifest] = {}
    if source.size("index.json") is None:
        return found
    ahead = [(entry, 0) for entry in _index(source).manifests]
    while ahead:
        entry, depth = ahead.pop()
        known = entry.media_type in media_types.INDEXES | media_types.MANIFESTS
        if not known or source.size(_blob_path(entry.digest)) is None or len(found) > _MOST_IMAGES:
            continue
        document_found = parse_manifest(_blob(source, entry), entry.media_type)
        if isinstance(document_found, Manifest):
            found[document_found.config.digest] = document_found
        elif depth < _DEEPEST:
            ahead += [(inner, depth + 1) for inner in document_found.manifests]
    return found


# A directory.


def _of_directory(source: Source) -> Offered:
    raw = document(source, "manifest.json")
    manifest = parse_manifest(raw)
    if not isinstance(manifest, Manifest):
        raise OperationError("manifest.json is an index of several images", hint="copy the directory of one image")
    path = _hex(manifest.config.digest)
    data = document(source, path)
    _check(data, manifest.config)
    parts = tuple(_hex(layer.digest) for layer in manifest.layers)
    return Offered(parse_config(data), parts, manifest=manifest, seen_as=manifest.descriptor.digest)


def _hex(of: Digest) -> str:
    return of.partition(":")[2]
