"""Layers and images for tests: made of a few files, and put into a store."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.images.spec import media_types
from orchestrator.images.spec.config import make_config
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest_of
from orchestrator.images.spec.manifest import Manifest, make_manifest, parse_manifest
from orchestrator.images.spec.platform import host_platform
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage

Files = Mapping[str, bytes | str | None]
"""By path: content of a file, the text of a symbolic link, or None for a directory."""


def tar(files: Files) -> bytes:
    """A tar archive of the caller's own files, modes and times fixed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.uid, entry.gid, entry.mtime = os.getuid(), os.getgid(), 1_700_000_000
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@dataclass(frozen=True)
class Made:
    """An image that is in no store yet. `layers`: lowest first, as tar archives; `blobs`: the same, compressed."""

    config: bytes
    manifest: Manifest
    layers: tuple[bytes, ...]
    blobs: tuple[bytes, ...]

    @property
    def id(self) -> Digest:
        return digest_of(self.config)

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        return tuple(digest_of(layer) for layer in self.layers)

    def documents(self) -> dict[Digest, bytes]:
        """Every blob of the image by its digest."""
        return {digest_of(raw): raw for raw in (self.config, self.manifest.raw, *self.blobs)}


def image(*layers: Files, config: Mapping[str, object] | None = None, created: str = "2024-05-06T07:08:09Z") -> Made:
    """An image of these layers, lowest first."""
    tars = tuple(tar(files) for files in layers)
    blobs = tuple(gzip.compress(raw, mtime=0) for raw in tars)
    raw = make_config(host_platform(), config or {}, [digest_of(one) for one in tars], created=created)
    manifest = parse_manifest(
        make_manifest(
            Descriptor(media_types.OCI_CONFIG, digest_of(raw), len(raw)),
            [Descriptor(media_types.OCI_LAYER_GZIP, digest_of(blob), len(blob)) for blob in blobs],
        )
    )
    assert isinstance(manifest, Manifest)
    return Made(raw, manifest, tars, blobs)


def put(store: Store, made: Made, *names: str) -> StoredImage:
    """The image in the store, the way a pull does it."""
    with store.lease() as lease:
        lease.hold(made.id, made.manifest.descriptor.digest, *made.diff_ids, *(one.digest for one in made.manifest.layers))
        for number, (descriptor, blob) in enumerate(zip(made.manifest.layers, made.blobs, strict=True)):
            with store.ingest(descriptor.digest, descriptor.size) as ingest:
                if not ingest.present:
                    ingest.restart()
                    ingest.write(blob)
                    ingest.commit()
            store.unpack(descriptor, made.diff_ids[number], made.diff_ids[:number])
        stored = store.put(made.config, made.manifest)
        for name in names:
            store.name(name, stored.id, digest=made.manifest.descriptor.digest)
    return store.get(stored.id) or stored


def files_below(root: str | Path) -> list[str]:
    """Every file and directory, relative, sorted."""
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*"))


def hex_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def kept(store_root: Path, parts: Sequence[str] = ("blobs", "layers", "records", "names")) -> list[str]:
    """What lies in the store under its final name: blobs, keys of layers, records, names."""
    found = []
    for part in parts:
        for path in sorted((store_root / part).rglob("*") if part == "blobs" else (store_root / part).glob("*")):
            if part != "blobs" or path.is_file():
                found.append(f"{part}/{path.name}")
    return found
