"""Images out of archives and directories into the store and back."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.images import ImageRequest, Transfer
from orchestrator.errors import InputError, OperationError, PystackError
from orchestrator.images.machine import MachineImages
from orchestrator.images.reference import Archive
from orchestrator.images.spec import media_types
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import digest_of
from orchestrator.images.spec.manifest import make_index
from orchestrator.images.spec.platform import Platform, host_platform
from orchestrator.images.store.store import Store
from orchestrator.images.transports.importing import import_tree
from orchestrator.images.transports.loading import load
from orchestrator.images.transports.saving import save
from orchestrator.images.unpack.compression import Compression
from tests.unit.images import made
from tests.unit.images.made import Made

BASE = {"etc/": None, "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
APP = {"app/": None, "app/run": b"#!x", "app/link": "run"}
REDIS = "docker.io/library/redis:7"
FULL, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"


def quiet(_told: str | Transfer) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "other"))


def layout(*images: tuple[Made, Mapping[str, str]]) -> dict[str, bytes]:
    """The files of an OCI layout."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = []
    for image, said in images:
        own = image.manifest.descriptor
        entries.append(Descriptor(own.media_type, own.digest, own.size, annotations=said))
        files |= {f"blobs/{of.replace(':', '/')}": data for of, data in image.documents().items()}
    return files | {"index.json": make_index(entries)}


def docker(*images: tuple[Made, list[str]]) -> dict[str, bytes]:
    """The files of an archive as ``docker save`` wrote it before version 25."""
    items: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for image, tags in images:
        paths = [f"{made.hex_of(layer)}/layer.tar" for layer in image.layers]
        files |= dict(zip(paths, image.layers, strict=True))
        files[f"{image.id[7:]}.json"] = image.config
        items.append({"Config": f"{image.id[7:]}.json", "RepoTags": tags or None, "Layers": paths})
    return files | {"manifest.json": json.dumps(items).encode()}


def write(path: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


def packed(files: Mapping[str, bytes]) -> bytes:
    return made.tar(files)


def trees(store: Store, text: str) -> list[list[str]]:
    image = store.find(text)
    assert image is not None
    return [made.files_below(layer.path) for layer in image.layers]


# In.


def test_an_oci_layout_is_loaded_with_its_names_and_digests(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE, APP)
    write(tmp_path / "layout", layout((image, {REF: "redis:7"})))
    (loaded,) = load(store, Archive("oci", str(tmp_path / "layout")), quiet)
    assert loaded.id == image.id
    assert loaded.manifest == image.manifest.descriptor
    assert loaded.names == (REDIS,)
    assert store.names()[REDIS].digest == image.manifest.descriptor.digest
    assert trees(store, "redis:7") == [["etc", "etc/passwd"], ["app", "app/link", "app/run"]]
    assert loaded.passwd == BASE["etc/passwd"]


async def test_of_an_archive_for_another_platform_nothing_runs(tmp_path: Path) -> None:
    write(tmp_path / "in", layout((made.image(BASE), {FULL: REDIS})))
    images, own = MachineImages(str(tmp_path / "images")), str(host_platform())
    other = "linux/riscv64" if "s390x" in own else "linux/s390x"
    for reference in ("oci:in", f"oci:in:{REDIS}"):
        with pytest.raises(OperationError, match=f"is for {own}, and not for {other}"):
            await images.obtain(ImageRequest(reference, str(tmp_path), other), quiet)
        with pytest.raises(OperationError, match=f"is for {own}, and not for {other}"):
            await images.inspect(ImageRequest(reference, str(tmp_path), other))
    loaded = await images.obtain(ImageRequest("oci:in", str(tmp_path), own), quiet)
    with pytest.raises(OperationError, match=f"is for {own}, and not for {other}"):
        await images.inspect(ImageRequest(loaded.identity, "/", other))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("reverse", [False, True])
def test_an_archive_of_one_is_loaded_compressed_or_not_in_any_order(
    store: Store, tmp_path: Path, compress: Callable[[bytes], bytes], reverse: bool
) -> None:
    image = made.image(BASE, APP)
    files = layout((image, {FULL: REDIS, REF: "7"}))
    (tmp_path / "a.tar").write_bytes(compress(packed(dict(sorted(files.items(), reverse=reverse)))))
    (loaded,) = load(store, str(tmp_path / "a.tar"), quiet)
    assert (loaded.id, loaded.names) == (image.id, (REDIS,))
    assert os.listdir(tmp_path / "images/tmp") == []


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("reverse", [False, True])
def test_an_archive_of_docker_save_is_loaded_in_any_order(
    store: Store, tmp_path: Path, compress: Callable[[bytes], bytes], reverse: bool
) -> None:
    image = made.image(BASE, APP, {"etc/.wh.passwd": b""})
    files = docker((image, ["redis:7", "quay.io/team/app:1"]))
    (tmp_path / "a.tar").write_bytes(compress(packed(dict(sorted(files.items(), reverse=reverse)))))
    (loaded,) = load(store, str(tmp_path / "a.tar"), quiet)
    assert (loaded.id, loaded.manifest) == (image.id, None)
    assert loaded.names == (REDIS, "quay.io/team/app:1")
    assert loaded.passwd == b""


def test_layers_of_docker_save_may_be_links_to_others_in_the_archive(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE, APP)
    files: dict[str, bytes | str] = dict(docker((image, ["redis:7"])))
    first = f"{made.hex_of(image.layers[0])}/layer.tar"
    files["real.tar"] = files[first]
    files[first] = "../real.tar"
    (tmp_path / "a.tar").write_bytes(made.tar(files))
    (loaded,) = load(store, str(tmp_path / "a.tar"), quiet)
    assert loaded.id == image.id


def test_a_layer_that_is_a_link_out_of_the_archive_is_missing(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE)
    (tmp_path / "secret").write_bytes(image.layers[0])
    files: dict[str, bytes | str] = dict(docker((image, [])))
    files[f"{made.hex_of(image.layers[0])}/layer.tar"] = str(tmp_path / "secret")
    (tmp_path / "a.tar").write_bytes(made.tar(files))
    with pytest.raises(OperationError, match=r"layer\.tar is missing, a layer"):
        load(store, str(tmp_path / "a.tar"), quiet)


def test_an_archive_of_docker_25_keeps_its_manifest(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE, APP)
    blobs = [f"blobs/{layer.digest.replace(':', '/')}" for layer in image.manifest.layers]
    item = {"Config": f"blobs/sha256/{image.id[7:]}", "RepoTags": ["redis:7"], "Layers": blobs}
    files = layout((image, {FULL: REDIS, REF: "7"})) | {"manifest.json": json.dumps([item]).encode()}
    (tmp_path / "a.tar").write_bytes(packed(files))
    for archive in (str(tmp_path / "a.tar"), Archive("oci-archive", str(tmp_path / "a.tar"))):
        (loaded,) = load(store, archive, quiet)
        assert loaded.manifest == image.manifest.descriptor
        assert loaded.names == (REDIS,)


def test_a_directory_is_loaded(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE)
    files = {of[7:]: data for of, data in image.documents().items()}
    files |= {"manifest.json": image.manifest.raw, "version": b"1"}
    write(tmp_path / "dir", files)
    for archive in (Archive("dir", str(tmp_path / "dir")), str(tmp_path / "dir")):
        (loaded,) = load(store, archive, quiet)
        assert (loaded.id, loaded.manifest, loaded.names) == (image.id, image.manifest.descriptor, ())


def test_a_pipe_is_loaded(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(packed(docker((image, []))),))
    writer.start()
    (loaded,) = load(store, str(tmp_path / "pipe"), quiet)
    writer.join(30)
    assert loaded.id == image.id
    assert os.listdir(tmp_path / "images/tmp") == []


def test_all_images_of_an_archive_are_loaded_or_the_one_that_is_named(store: Store, other: Store, tmp_path: Path) -> None:
    first, second = made.image(BASE), made.image(BASE, APP)
    path = str(tmp_path / "a.tar")
    Path(path).write_bytes(packed(layout((first, {REF: "one"}), (second, {REF: "redis:7"}), (first, {REF: "also:1"}))))
    assert [image.id for image in load(store, path, quiet)] == [first.id, second.id]
    assert list(store.names()) == ["docker.io/library/also:1", REDIS]
    for name, image in (("one", first), ("redis:7", second), ("docker.io/library/redis:7", second), ("@1", second)):
        (loaded,) = load(other, Archive("oci-archive", path, name), quiet)
        assert loaded.id == image.id
    with pytest.raises(OperationError, match="holds no image two") as caught:
        load(other, Archive("oci-archive", path, "two"), quiet)
    assert caught.value.hint == "it holds one, redis:7, also:1"
    with pytest.raises(OperationError, match="there are 3 images"):
        load(other, Archive("oci-archive", path, "@3"), quiet)


def test_of_an_index_the_image_for_the_platform_is_loaded(store: Store, tmp_path: Path) -> None:
    ours, theirs = made.image(BASE), made.image(APP)
    own = ours.manifest.descriptor
    foreign = Platform("linux", "s390x")
    index = make_index(
        [
            Descriptor(own.media_type, theirs.manifest.descriptor.digest, theirs.manifest.descriptor.size, foreign),
            Descriptor(own.media_type, own.digest, own.size, host_platform()),
        ]
    )
    files = layout((ours, {}))
    files[f"blobs/sha256/{made.hex_of(index)}"] = index
    files["index.json"] = make_index(
        [Descriptor(media_types.OCI_INDEX, digest_of(index), len(index), annotations={FULL: REDIS})]
    )
    write(tmp_path / "layout", files)
    (loaded,) = load(store, str(tmp_path / "layout"), quiet)
    assert loaded.id == ours.id
    assert store.names()[REDIS].digest == digest_of(index)
    with pytest.raises(OperationError, match="there is no image for linux/arm64"):
        load(store, str(tmp_path / "layout"), quiet, platform=Platform("linux", "arm64"))
    with pytest.raises(OperationError, match="is missing, which the archive's index names"):
        load(store, str(tmp_path / "layout"), quiet, platform=foreign)


def test_what_is_there_already_is_not_unpacked_again(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE, APP)
    write(tmp_path / "layout", layout((image, {})))
    told: list[str | Transfer] = []
    load(store, str(tmp_path / "layout"), told.append)
    assert {item.action for item in told if isinstance(item, Transfer)} == {"pulling", "unpacking", "done"}
    told.clear()
    load(store, str(tmp_path / "layout"), told.append)
    assert {item.action for item in told if isinstance(item, Transfer)} == {"shared"}


def test_an_interrupted_load_leaves_no_image_and_goes_on_from_there(store: Store, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    image = made.image(BASE, APP)
    write(tmp_path / "layout", layout((image, {REF: "redis:7"})))
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        load(store, str(tmp_path / "layout"), quiet, check=check)
    assert store.images() == []
    assert os.listdir(tmp_path / "images/tmp") == []
    assert os.listdir(tmp_path / "images/leases") == []
    (loaded,) = load(store, str(tmp_path / "layout"), quiet)
    assert loaded.names == (REDIS,)


def with_changed(files: dict[str, bytes], path: str, data: bytes | None) -> dict[str, bytes]:
    changed = dict(files)
    if data is None:
        del changed[path]
    else:
        changed[path] = data
    return changed


def broken() -> dict[str, tuple[dict[str, Any], str]]:
    image = made.image(BASE)
    oci, old = layout((image, {})), docker((image, []))
    blob = f"blobs/{image.manifest.layers[0].digest.replace(':', '/')}"
    config = f"blobs/sha256/{image.id[7:]}"
    manifest = f"blobs/{image.manifest.descriptor.digest.replace(':', '/')}"
    layer = f"{made.hex_of(image.layers[0])}/layer.tar"
    two = json.loads(old["manifest.json"])
    two[0]["Layers"] *= 2
    return {
        "nothing in it": ({"x": b""}, "holds no image: neither index.json nor manifest.json"),
        "another layer": (with_changed(oci, blob, gzip.compress(made.tar(APP))), "blob .* is"),
        "no layer": (with_changed(oci, blob, None), "is missing, a layer of the image"),
        "another configuration": (with_changed(oci, config, b"{}"), "blob .* has 2 bytes, and not"),
        "no manifest": (with_changed(oci, manifest, None), "is missing, which the archive's index names"),
        "a damaged manifest": (with_changed(oci, manifest, bytes(image.manifest.descriptor.size)), "its digest is wrong"),
        "an index that is no JSON": (with_changed(oci, "index.json", b"{"), "not valid JSON"),
        "an index that is a manifest": (with_changed(oci, "index.json", image.manifest.raw), "index"),
        "an empty index": (with_changed(oci, "index.json", make_index([])), "holds no image for linux"),
        "a huge index": (with_changed(oci, "index.json", bytes(5 << 20)), "index.json has 5242880 bytes, more than"),
        "a manifest.json that is no list": (with_changed(old, "manifest.json", b"{}"), "is no list of images"),
        "a manifest.json that is no JSON": (with_changed(old, "manifest.json", b"[" * 90000), "is not valid JSON"),
        "a list of numbers": (with_changed(old, "manifest.json", b"[1]"), "image 0 of manifest.json is not an object"),
        "no configuration": (with_changed(old, f"{image.id[7:]}.json", None), r"\.json is missing"),
        "no tar of a layer": (with_changed(old, layer, None), "layer.tar is missing"),
        "another tar of a layer": (with_changed(old, layer, made.tar(APP)), "is something else: what was unpacked"),
        "garbage for a layer": (with_changed(old, layer, b"garbage" * 1000), "no tar header where one has to be"),
        "more layers than diff_ids": (
            with_changed(old, "manifest.json", json.dumps(two).encode()),
            "has 2 layers, and 1 by its configuration",
        ),
    }


@pytest.mark.parametrize("case", broken())
@pytest.mark.parametrize("archived", [True, False])
def test_a_damaged_archive_is_one_error_and_nothing_half_made(
    store: Store, tmp_path: Path, case: str, archived: bool
) -> None:
    files, sentence = broken()[case]
    if archived:
        (tmp_path / "in").write_bytes(made.tar(files))
        source: str | Archive = str(tmp_path / "in")
    else:
        write(tmp_path / "in", files)
        source = str(tmp_path / "in")
    with pytest.raises(OperationError, match=sentence):
        load(store, source, quiet)
    assert store.images() == []
    store.collect(in_use=(), unnamed=True, unused=True)
    assert made.kept(tmp_path / "images") == []
    assert made.kept(tmp_path / "images", ("tmp", "trash", "leases")) == []


_PRESSED = gzip.compress(b"garbage" * 100, mtime=0)


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(1024), _PRESSED, b"\x1f\x8b garbage"])
def test_what_is_no_archive_is_one_error(store: Store, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(OperationError):
        load(store, str(tmp_path / "a.tar"), quiet)


def test_an_archive_that_is_cut_anywhere_is_one_error(store: Store, tmp_path: Path) -> None:
    whole = packed(docker((made.image(BASE, APP), ["redis:7"])))
    end = len(whole.rstrip(b"\0"))
    for at in range(0, end, 1500):
        (tmp_path / "a.tar").write_bytes(whole[:at])
        with pytest.raises(OperationError):
            load(store, str(tmp_path / "a.tar"), quiet)
    assert store.images() == []


def test_a_path_to_nothing_is_an_input_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot open .*/none: No such file or directory"):
        load(store, str(tmp_path / "none"), quiet)


def test_links_and_fifos_in_a_layout_lead_nowhere(store: Store, tmp_path: Path) -> None:
    image = made.image(BASE)
    write(tmp_path / "layout", layout((image, {})))
    blob = tmp_path / f"layout/blobs/{image.manifest.layers[0].digest.replace(':', '/')}"
    blob.rename(tmp_path / "outside")
    blob.symlink_to(tmp_path / "outside")
    with pytest.raises(OperationError, match="is missing, a layer"):
        load(store, str(tmp_path / "layout"), quiet)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(OperationError, match="is missing, a layer"):
        load(store, str(tmp_path / "layout"), quiet)


# Out.

WAYS = ("oci:{}/out", "oci:{}/out:redis:7", "oci-archive:{}/out.tar", "docker-archive:{}/out.tar", "dir:{}/out")


def archive_of(text: str, tmp_path: Path) -> Archive:
    transport, path, *name = text.format(tmp_path).split(":", 2)
    return Archive(transport, path, *name)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_saved_is_loaded_with_the_same_digests(store: Store, other: Store, tmp_path: Path, way: str) -> None:
    image = made.image(BASE, APP)
    stored = made.put(store, image, REDIS)
    archive = archive_of(way, tmp_path)
    save(store, ["redis:7"], archive, quiet)
    (loaded,) = load(other, archive, quiet)
    assert (loaded.id, loaded.manifest) == (stored.id, stored.manifest)
    assert loaded.names == (() if way.startswith("dir:") else (REDIS,))
    assert [made.files_below(layer.path) for layer in loaded.layers] == [
        made.files_below(layer.path) for layer in stored.layers
    ]
    assert sorted(os.listdir(tmp_path)) == sorted(["images", "other", os.path.basename(archive.path)])


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_was_made_here_is_packed_once_and_has_its_diff_ids(
    store: Store, other: Store, tmp_path: Path, way: str
) -> None:
    (tmp_path / "tree/app").mkdir(parents=True)
    (tmp_path / "tree/app/run").write_bytes(os.urandom(3000))
    os.link(tmp_path / "tree/app/run", tmp_path / "tree/app/same")
    stored = import_tree(store, str(tmp_path / "tree"), {"Cmd": ["run"]}, quiet)
    assert stored.manifest is None
    told: list[str | Transfer] = []
    save(store, [stored.id], archive_of(way, tmp_path), told.append)
    assert [item.action for item in told if isinstance(item, Transfer)] == ["packing"] * len(told)
    assert told
    (loaded,) = load(other, archive_of(way, tmp_path), quiet)
    assert loaded.id == stored.id
    assert [layer.diff_id for layer in loaded.layers] == [layer.diff_id for layer in stored.layers]
    assert os.stat(f"{loaded.layers[0].path}/app/run").st_nlink == 2
    told.clear()
    save(store, [stored.id], Archive("oci-archive", str(tmp_path / "again.tar")), told.append)
    assert told == []


@pytest.mark.parametrize("kind", list(Compression))
def test_layers_are_packed_as_asked_for(store: Store, other: Store, tmp_path: Path, kind: Compression) -> None:
    stored = import_tree(store, io.BytesIO(made.tar(BASE)), {}, quiet)
    save(store, [stored.id], Archive("oci", str(tmp_path / "out")), quiet, kind=kind)
    (loaded,) = load(other, str(tmp_path / "out"), quiet)
    assert loaded.id == stored.id
    layer = other.packed(loaded.layers[0])
    assert layer is not None
    assert layer.media_type.removeprefix(media_types.OCI_LAYER).removeprefix("+") == kind.value


def test_a_layer_that_was_changed_is_not_saved(store: Store, tmp_path: Path) -> None:
    stored = import_tree(store, io.BytesIO(made.tar(BASE)), {}, quiet)
    Path(stored.layers[0].path, "etc/evil").write_bytes(b"x")
    with pytest.raises(OperationError, match=r"is gone, and .* gives another one"):
        save(store, [stored.id], Archive("oci", str(tmp_path / "out")), quiet)
    assert sorted(os.listdir(tmp_path)) == ["images"]
    assert os.listdir(tmp_path / "images/tmp") == []


def test_several_images_share_an_archive_and_their_layers(store: Store, other: Store, tmp_path: Path) -> None:
    first = made.put(store, made.image(BASE), "docker.io/library/one:1", "docker.io/library/two:2")
    second = made.put(store, made.image(BASE, APP), REDIS)
    path = str(tmp_path / "out.tar")
    save(store, ["one:1", "redis:7", "two:2", second.id], Archive("docker-archive", path), quiet)
    with tarfile.open(path) as archive:
        names = [entry.name for entry in archive if entry.isfile()]
        items = json.load(archive.extractfile("manifest.json") or io.BytesIO())
    assert len(names) == len(set(names)) == 3 + 2 + 2 + 2  # Documents, configurations, manifests, layers.
    assert [item["RepoTags"] for item in items] == [["one:1", "two:2"], ["redis:7"]]
    assert [image.id for image in load(other, path, quiet)] == [first.id, second.id]
    assert list(other.names()) == ["docker.io/library/one:1", REDIS, "docker.io/library/two:2"]


def test_an_image_is_added_to_a_layout_and_takes_over_its_name(store: Store, other: Store, tmp_path: Path) -> None:
    first, second = made.put(store, made.image(BASE)), made.put(store, made.image(APP))
    path = str(tmp_path / "out")
    for image, name in ((first, "a"), (first, "b"), (second, "a")):
        save(store, [image.id], Archive("oci", path, name), quiet)
    assert load(other, Archive("oci", path, "a"), quiet)[0].id == second.id
    assert load(other, Archive("oci", path, "b"), quiet)[0].id == first.id
    assert len(json.loads(Path(path, "index.json").read_text())["manifests"]) == 2
    assert not [name for name in made.files_below(path) if "partial" in name or name.endswith(".new")]


def test_the_same_image_gives_the_same_archive(store: Store, tmp_path: Path) -> None:
    made.put(store, made.image(BASE), REDIS)
    digests = set()
    for _ in range(2):
        save(store, ["redis:7"], Archive("docker-archive", str(tmp_path / "out.tar")), quiet)
        digests.add(hashlib.sha256((tmp_path / "out.tar").read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("way", [way for way in WAYS if ":redis" not in way])
def test_an_interrupted_save_leaves_nothing_at_the_destination(store: Store, tmp_path: Path, way: str) -> None:
    class Cancelled(Exception):
        pass

    def check() -> None:
        raise Cancelled

    made.put(store, made.image(BASE, APP), REDIS)
    with pytest.raises(Cancelled):
        save(store, ["redis:7"], archive_of(way, tmp_path), quiet, check=check)
    assert sorted(os.listdir(tmp_path)) == ["images"]
    assert os.listdir(tmp_path / "images/leases") == []


def test_wrong_destinations_and_images_are_told(store: Store, tmp_path: Path) -> None:
    made.put(store, made.image(BASE), REDIS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    cases: list[tuple[list[str], str, str]] = [
        (["redis:7"], f"oci:{tmp_path}/full", "is not empty"),
        (["redis:7"], f"dir:{tmp_path}/full", "is not empty"),
        (["redis:7"], f"oci:{tmp_path}/file", "is not a directory"),
        (["redis:7"], f"oci-archive:{tmp_path}/full", "is a directory"),
        (["redis:7"], f"oci-archive:{tmp_path}/none/out.tar", "No such file or directory"),
        (["nginx:1"], f"oci-archive:{tmp_path}/out.tar", 'image "nginx:1" is not here'),
        (["redis:7", "redis:7"], f"dir:{tmp_path}/out", "has a place for one image, not 2"),
    ]
    for images, text, sentence in cases:
        with pytest.raises(PystackError, match=sentence):
            save(store, images, archive_of(text, tmp_path), quiet)
    assert sorted(os.listdir(tmp_path)) == ["file", "full", "images"]
    assert made.files_below(tmp_path / "full") == ["file"]


def test_what_is_no_regular_file_is_written_to_and_never_replaced(store: Store, other: Store, tmp_path: Path) -> None:
    image = made.put(store, made.image(BASE, APP), REDIS)
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file.tar"
    os.mkfifo(pipe)
    file.write_bytes(b"old")
    link.symlink_to(file)
    came: list[bytes] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_bytes()))
    reader.start()
    save(store, ["redis:7"], Archive("docker-archive", str(pipe)), quiet)
    reader.join()
    save(store, ["redis:7"], Archive("docker-archive", str(link)), quiet)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert came == [file.read_bytes()]
    assert [one.id for one in load(other, str(file), quiet)] == [image.id]
    assert sorted(os.listdir(tmp_path)) == ["file.tar", "images", "link", "other", "pipe"]


def test_an_archive_goes_to_an_open_stream_and_leaves_it_open(store: Store, tmp_path: Path) -> None:
    made.put(store, made.image(BASE, APP), REDIS)
    out = io.BytesIO()
    save(store, ["redis:7"], Archive("docker-archive", "stdout"), quiet, out=out)
    save(store, ["redis:7"], archive_of(f"docker-archive:{tmp_path}/out.tar", tmp_path), quiet)
    assert out.getvalue() == (tmp_path / "out.tar").read_bytes()


def test_a_reader_that_goes_away_is_told_as_that(store: Store) -> None:
    made.put(store, made.image(BASE, APP), REDIS)
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as out, pytest.raises(BrokenPipeError):
        save(store, ["redis:7"], Archive("docker-archive", "stdout"), quiet, out=out)


# Importing.


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_tar_stream_becomes_an_image(store: Store, compress: Callable[[bytes], bytes]) -> None:
    raw = made.tar(BASE | APP)
    image = import_tree(store, io.BytesIO(compress(raw)), {"Env": ["A=1"]}, quiet, comment="from a test", created_s=0.0)
    assert image.config.config == {"Env": ["A=1"]}
    assert made.files_below(image.layers[0].path) == ["app", "app/link", "app/run", "etc", "etc/passwd"]
    assert image.config.history[0].comment == "from a test"
    assert image.config.created == "1970-01-01T00:00:00Z"
    assert image.passwd == BASE["etc/passwd"]
    assert import_tree(store, io.BytesIO(raw), {"Env": ["A=1"]}, quiet, comment="from a test", created_s=0.0).id == image.id


def test_a_directory_becomes_an_image(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "tree", {"etc/passwd": BASE["etc/passwd"] or b"", "app/run": b"x"})
    image = import_tree(store, str(tmp_path / "tree"), {}, quiet)
    assert made.files_below(image.layers[0].path) == ["app", "app/run", "etc", "etc/passwd"]


def test_what_cannot_be_imported_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        import_tree(store, str(tmp_path / "none"), {}, quiet)
    with pytest.raises(OperationError):
        import_tree(store, io.BytesIO(made.tar(APP)[:700]), {}, quiet)
    with pytest.raises(OperationError, match="Cmd"):
        import_tree(store, io.BytesIO(made.tar(APP)), {"Cmd": 1}, quiet)
    assert store.images() == []
    store.collect(in_use=(), unnamed=False, unused=False)
    assert made.kept(tmp_path / "images") == []
