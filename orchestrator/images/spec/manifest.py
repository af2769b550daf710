"""Manifests and indexes (image-spec, manifest.md and image-index.md; Docker's manifest v2 schema 2 and manifest list).

One document must be one thing to everybody: what holds ``manifests`` and ``layers``, or says another media type than it
was sent as, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import OperationError
from orchestrator.images.spec import media_types
from orchestrator.images.spec.descriptor import Descriptor, Fields, is_media_type, read_descriptor, written
from orchestrator.images.spec.digest import digest_of, short
from orchestrator.images.spec.platform import Platform, runs
from orchestrator.images.spec.strict_json import canonical, read_object
from orchestrator.values import field, frozen

MOST_LAYERS = 1024
MOST_MANIFESTS = 1024
_KEYS = ("schemaVersion", "mediaType", "manifests", "layers", "config", "fsLayers", "annotations", "artifactType")
_ATTESTATION = "vnd.docker.reference.type"
"""BuildKit's mark of an index entry that is about another and no image."""


@frozen
class Manifest:
    """An image of one platform. `descriptor` is its own; `layers` lowest first; `raw` the bytes that its digest is of."""

    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    raw: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


@frozen
class Index:
    """Images of several platforms, in the order of the document."""

    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    raw: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_manifest(raw: bytes, media_type: str | None = None) -> Manifest | Index:
    """`media_type`: what it was sent as (``Content-Type``, or its descriptor's). Raises OperationError."""
    found = read_object(raw, "manifest", _KEYS)
    fields = Fields(found, "the manifest")
    said = _media_type(fields.text("mediaType"), media_type)
    if said in media_types.DOCKER_SCHEMA_1 or "fsLayers" in found or found.get("schemaVersion") == 1:
        raise OperationError(
            "the manifest is of Docker's schema 1, which is not supported: it was given up in 2017",
            hint="push the image again with a current tool, such as skopeo copy",
        )
    if fields.natural("schemaVersion", 2) != 2:
        raise OperationError(f"the manifest has schemaVersion {found['schemaVersion']}, not 2")
    kinds = [key for key in ("manifests", "layers") if found.get(key) is not None]
    if len(kinds) != 1:
        held = "both manifests and layers" if kinds else "neither manifests nor layers"
        raise OperationError(f"the manifest holds {held}, so it is no image")
    if said and said not in (media_types.INDEXES if kinds == ["manifests"] else media_types.MANIFESTS):
        raise OperationError(f'the manifest is of the media type "{said}" and holds {kinds[0]}')
    return _index(raw, fields, said) if kinds == ["manifests"] else _manifest(raw, fields, said)


def choose(index: Index, platform: Platform) -> Descriptor:
    """The entry that fits `platform` best (`platform.runs`), the first of equals; one without a platform fits where none
    else does. It may be an index itself. Raises OperationError that lists what there is."""
    usable = [item for item in index.manifests if item.media_type in media_types.MANIFESTS | media_types.INDEXES]
    images = [
        item for item in usable
        if _ATTESTATION not in item.annotations and not (item.platform is not None and item.platform.unknown)
    ]  # fmt: skip
    candidates: tuple[Platform | None, ...] = (*runs(platform), None)
    for candidate in candidates:
        for item in images:
            if _same(item.platform, candidate):
                return item
    there = sorted({str(item.platform) for item in images if item.platform is not None})
    raise OperationError(
        f"there is no image for {platform}",
        hint=f"it is there for {', '.join(there[:20])}{' and more' if len(there) > 20 else ''}" if there else None,
    )


def make_manifest(
    config: Descriptor, layers: Sequence[Descriptor], *, annotations: Mapping[str, str] | None = None, docker: bool = False
) -> bytes:
    """An OCI manifest, or one of Docker's schema 2 (which has no annotations). `layers` lowest first."""
    out = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST,
        "config": written(config),
        "layers": [written(layer) for layer in layers],
    }
    if annotations and not docker:
        out["annotations"] = dict(annotations)
    return canonical(out)


def make_index(
    manifests: Sequence[Descriptor], *, annotations: Mapping[str, str] | None = None, docker: bool = False
) -> bytes:
    """An OCI index, or Docker's manifest list (which has no annotations)."""
    out = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_LIST if docker else media_types.OCI_INDEX,
        "manifests": [written(item) for item in manifests],
    }
    if annotations and not docker:
        out["annotations"] = dict(annotations)
    return canonical(out)


def _media_type(own: str, sent_as: str | None) -> str:
    """What both say, "" where neither does. What a server sends when it does not know (``text/plain``) says nothing."""
    sent = (sent_as or "").partition(";")[0].strip().lower()
    known = media_types.INDEXES | media_types.MANIFESTS | media_types.DOCKER_SCHEMA_1
    if own and not is_media_type(own):
        raise OperationError(f"the manifest has {own[:80]!r} for a media type")
    if own and sent in known and own != sent:
        raise OperationError(f'the manifest was sent as "{sent}" and says that it is "{own}"')
    return own or (sent if sent in known else "")


def _index(raw: bytes, fields: Fields, media_type: str) -> Index:
    entries = fields.get("manifests", list)
    if len(entries) > MOST_MANIFESTS:
        raise OperationError(f"the index has {len(entries)} entries, more than {MOST_MANIFESTS}")
    manifests = tuple(read_descriptor(item, f"entry {number} of the index") for number, item in enumerate(entries))
    own = Descriptor(media_type or media_types.OCI_INDEX, digest_of(raw), len(raw))
    return Index(own, manifests, raw, fields.pairs("annotations"))


def _manifest(raw: bytes, fields: Fields, media_type: str) -> Manifest:
    config = read_descriptor(fields.get("config", dict, {}), "the manifest's config")
    if config.media_type not in media_types.CONFIGS:
        kind = fields.text("artifactType") or config.media_type
        raise OperationError(
            f'what the manifest describes is no image but "{kind[:120]}"', hint="it is an artifact for another tool"
        )
    entries = fields.get("layers", list)
    if len(entries) > MOST_LAYERS:
        raise OperationError(f"the image has {len(entries)} layers, more than {MOST_LAYERS}")
    layers = tuple(read_descriptor(item, f"layer {number} of the manifest") for number, item in enumerate(entries))
    for layer in layers:
        _check_layer(layer)
    by_config = media_types.DOCKER_MANIFEST if config.media_type == media_types.DOCKER_CONFIG else media_types.OCI_MANIFEST
    own = Descriptor(media_type or by_config, digest_of(raw), len(raw))
    return Manifest(own, config, layers, raw, fields.pairs("annotations"))


def _check_layer(layer: Descriptor) -> None:
    name = f"layer {short(layer.digest)}"
    if layer.media_type not in media_types.LAYERS:
        raise OperationError(f'{name} is of the media type "{layer.media_type}", which is none of a layer')
    if layer.foreign and layer.urls:
        raise OperationError(
            f"{name} is foreign: its content is not in the registry but at {layer.urls[0][:200]!r}",
            hint="such layers are never fetched (Windows images have them); use an image without them",
        )


def _same(found: Platform | None, candidate: Platform | None) -> bool:
    if found is None or candidate is None:
        return found is candidate
    return (found.os, found.architecture, found.variant) == (candidate.os, candidate.architecture, candidate.variant)
