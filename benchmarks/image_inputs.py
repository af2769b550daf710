"""What benchmarks/images.py works on: a layer of this machine's own files in three encodings, images of many layers, a
Dockerfile of ten stages, and an image of a gigabyte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.images.spec import media_types
from orchestrator.images.spec.config import History, make_config
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.spec.manifest import make_manifest
from orchestrator.images.spec.platform import host_platform
from tests.machine import make_busybox_rootfs

FROM = ("/usr/lib/python3", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/share")
STAGES = 10
LAYERS = (10, 100)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Inputs:
    """`raw`, `gzip`, `zstd`: the same layer; `tree`: unpacked. `archives`: OCI archives of an image of it, by encoding.
    `layered`: OCI layouts by their number of layers. `base`: an OCI layout of busybox."""

    raw: Path
    gzip: Path
    zstd: Path
    tree: Path
    megabytes: float
    entries: int
    archives: Mapping[str, Path]
    layered: Mapping[int, Path]
    base: Path


def make_inputs(place: Path, megabytes: int) -> Inputs:
    place.mkdir()
    raw, tree = place / "layer.tar", place / "tree"
    names = _some_files(megabytes << 20)
    # Whole seconds and no extended headers where none is needed, as Go's archive/tar writes most layers.
    tar = ("tar", "--format=gnu", "--numeric-owner", "--no-recursion", "--null", "-C", "/", "-c", "-f", str(raw), "-T", "-")
    subprocess.run(tar, input=b"\0".join(os.fsencode(name) for name in names), check=True)
    subprocess.run(("gzip", "-4", "-k", str(raw)), check=True)
    subprocess.run(("zstd", "-q", "-k", "-T0", str(raw)), check=True)
    tree.mkdir()
    subprocess.run(("tar", "-x", "-p", "--numeric-owner", "-f", str(raw), "-C", str(tree)), check=True)
    blobs = {"raw": raw, "gzip": place / "layer.tar.gz", "zstd": place / "layer.tar.zst"}
    diff_id = _digest(raw)
    archives = {}
    for kind, blob in blobs.items():
        layout = _layout(place / f"oci-{kind}", [(blob, diff_id)], kind)
        archives[kind] = place / f"{kind}.tar"
        subprocess.run(("tar", "-c", "-f", str(archives[kind]), "-C", str(layout), "."), check=True)
    base = _busybox(place / "busybox.tar", make_busybox_rootfs(place / "rootfs"))
    layered = {count: _layered(place / f"layers{count}", base, count) for count in LAYERS}
    size = raw.stat().st_size / 1e6
    return Inputs(
        raw, blobs["gzip"], blobs["zstd"], tree, size, len(names), archives, layered,
        _layout(place / "base", [(base, _digest(base))], "raw"),
    )  # fmt: skip


def _some_files(most_bytes: int) -> list[str]:
    """Of this machine, parents first, until they are so many bytes."""
    found: list[str] = []
    left = most_bytes
    for top in FROM:
        of_this = min(left, most_bytes * 2 // 5)
        for directory, below, files in os.walk(top):
            below.sort()
            found.append(directory.lstrip("/"))
            for name in sorted(files):
                size = os.lstat(os.path.join(directory, name)).st_size
                if size <= of_this:
                    of_this, left = of_this - size, left - size
                    found.append(os.path.join(directory, name).lstrip("/"))
            if of_this < most_bytes // 100:
                break
    return found


def _busybox(path: Path, rootfs: Path) -> Path:
    subprocess.run(("tar", "-c", "-f", str(path), "--numeric-owner", "-C", str(rootfs), "."), check=True)
    return path


def _layered(layout: Path, base: Path, count: int) -> Path:
    """`count` layers: busybox, and above it each a file of its own and one that all replace."""
    layers = [(base, _digest(base))]
    layout.with_suffix(".parts").mkdir()
    for number in range(1, count):
        path = layout.with_suffix(".parts") / f"{number}.tar"
        with tarfile.open(path, "w") as archive:
            for name in (f"data/of{number}", "data/shared"):
                content = f"layer {number}\n".encode() * 100
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        layers.append((path, _digest(path)))
    return _layout(layout, layers, "raw")


_MEDIA = {"raw": media_types.OCI_LAYER, "gzip": media_types.OCI_LAYER_GZIP, "zstd": media_types.OCI_LAYER_ZSTD}


def _layout(directory: Path, layers: Sequence[tuple[Path, Digest]], kind: str) -> Path:
    """An OCI layout with one image. The layers are (blob, diffID), lowest first."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(data: bytes) -> tuple[Digest, int]:
        found = digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
        (blobs / found.partition(":")[2]).write_bytes(data)
        return found, len(data)

    descriptors = []
    for blob, _ in layers:
        found = _digest(blob)
        target = blobs / found.partition(":")[2]
        if not target.exists():
            os.link(blob, target)
        descriptors.append(Descriptor(_MEDIA[kind], found, blob.stat().st_size))
    settings = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
    created, diff_ids = "2024-05-06T07:08:09Z", [diff_id for _, diff_id in layers]
    history = [History(created=created, created_by="bench") for _ in layers]  # buildah insists on it
    config = make_config(host_platform(), settings, diff_ids, history, created=created)
    manifest, size = keep(make_manifest(Descriptor(media_types.OCI_CONFIG, *keep(config)), descriptors))
    entry = {"mediaType": media_types.OCI_MANIFEST, "digest": manifest, "size": size}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def _digest(path: Path) -> Digest:
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
    return digest(f"sha256:{hashed.hexdigest()}")


def start_context(directory: Path) -> Path:
    """A stack with one service that is built: ten stages, each with a file of the context and a RUN; the last has what all
    made."""
    lines = []
    for number in range(STAGES - 1):
        (directory / f"file{number}").write_text(f"this is file {number}\n" * 50)
        lines += [f"FROM localhost/base:1 AS s{number}", f"COPY file{number} /work/in"]
        lines += [f"RUN cat /work/in /work/in > /work/out{number}"]
    lines += ["FROM localhost/base:1", *(f"COPY --from=s{number} /work/out{number} /all/" for number in range(STAGES - 1))]
    lines += ["RUN cat /all/* > /everything", 'CMD ["sleep", "3600"]']
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    (directory / "compose.yaml").write_text("services:\n  app:\n    build: .\n    image: localhost/built:1\n")
    return directory


def write_big_image(place: Path, megabytes: int, name: str) -> None:
    """An image of four layers, half of whose bytes are random, pushed as `name`."""
    layers = []
    base = _busybox(place / "busybox.tar", make_busybox_rootfs(place / "rootfs"))
    parts = [(base, "base"), *((place / f"{number}.tar", str(number)) for number in range(4))]
    for path, part in parts:
        if part != "base":
            _write_big_layer(path, megabytes // 4, part)
        packed = path.with_suffix(".tar.gz")
        with open(path, "rb") as source, gzip.open(packed, "wb", compresslevel=1) as out:
            while chunk := source.read(_CHUNK):
                out.write(chunk)
        layers.append((packed, _digest(path)))
    layout = _layout(place / "oci", layers, "gzip")
    words = ("copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{name}")
    subprocess.run(("skopeo", "--insecure-policy", *words), check=True)


def _write_big_layer(path: Path, megabytes: int, part: str) -> None:
    """In files of 8 MB."""
    with tarfile.open(path, "w") as archive:
        for number in range(0, megabytes, 8):
            entry = tarfile.TarInfo(f"big/{part}/{number}")
            content = b"".join(os.urandom(1 << 19) + bytes(1 << 19) for _ in range(min(8, megabytes - number)))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
