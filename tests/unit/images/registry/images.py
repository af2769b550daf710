"""Small images, made here."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.images.spec.digest import Digest
from orchestrator.images.spec.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from orchestrator.images.spec.platform import host_platform
from tests.unit.images.registry.server import FakeRegistry


@dataclass(frozen=True, slots=True)
class Made:
    """`manifest`: its digest. `blobs`: digests of the layers, lowest first."""

    manifest: Digest
    config: Digest
    blobs: tuple[Digest, ...]


def layer(files: Mapping[str, bytes], *, level: int = 1) -> tuple[bytes, str]:
    """A layer with these files, of whoever runs the tests; its compressed bytes and its diffID."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(data), os.getuid(), os.getgid()
            archive.addfile(entry, io.BytesIO(data))
    raw = plain.getvalue()
    return gzip.compress(raw, level, mtime=0), f"sha256:{hashlib.sha256(raw).hexdigest()}"


def publish(
    registry: FakeRegistry,
    repository: str,
    tag: str,
    layers: Sequence[Mapping[str, bytes]],
    *,
    architecture: str = "",
    changed: Mapping[str, object] | None = None,
) -> Made:
    """Make an image of these layers and put it into `registry`. `changed`: of the manifest, to spoil it."""
    packed = [layer(files) for files in layers]
    blobs = [registry.add_blob(data) for data, _ in packed]
    config = {
        "os": "linux",
        "architecture": architecture or host_platform().architecture,
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in packed]},
    }
    raw = json.dumps(config).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": registry.add_blob(raw), "size": len(raw)},
        "layers": [
            {"mediaType": OCI_LAYER_GZIP, "digest": digest, "size": len(data)} for digest, (data, _) in zip(blobs, packed)
        ],
        **(changed or {}),
    }
    manifest = registry.add_manifest(repository, tag, document)
    return Made(Digest(manifest), Digest(document["config"]["digest"]), tuple(Digest(blob) for blob in blobs))  # type: ignore[index]


def publish_index(registry: FakeRegistry, repository: str, tag: str, images: Mapping[str, Made]) -> str:
    """An index of these images by their architectures; its digest."""
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": made.manifest,
            "size": len(registry.manifests[repository, made.manifest][0]),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, made in images.items()
    ]
    return registry.add_manifest(repository, tag, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
