"""Layers, records and names."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from orchestrator.errors import BusyError, InputError, OperationError
from orchestrator.images.spec.digest import Digest, digest_of
from orchestrator.images.store.layers import chain_id
from orchestrator.images.store.places import escaped, hex_of
from orchestrator.images.store.store import Store
from orchestrator.kernel.sealed import seal
from tests.unit.images import made

BASE = {"etc/": None, "etc/passwd": b"root:x:0:0::/:/bin/sh\n", "etc/group": b"root:x:0:\n"}
TOP = {"etc/": None, "etc/passwd": b"app:x:5:5::/:/bin/sh\n", "etc/.wh.group": b"", "app/": None, "app/run": b"#!x"}
REDIS = "docker.io/library/redis:7"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(str(root))


def test_an_image_that_is_put_is_found_with_all_that_is_known_of_it(store: Store, root: Path) -> None:
    image = made.image(BASE, TOP, config={"Cmd": ["run"]})
    stored = made.put(store, image, REDIS)
    again = Store(str(root)).find("redis:7")
    assert again == stored
    assert stored.id == image.id
    assert stored.config.config == {"Cmd": ["run"]}
    assert [layer.diff_id for layer in stored.layers] == list(image.diff_ids)
    assert stored.manifest == image.manifest.descriptor
    assert stored.names == (REDIS,)
    assert stored.created_s == 1714979289.0
    sizes = [len(b"root:x:0:0::/:/bin/sh\nroot:x:0:\n"), len(b"app:x:5:5::/:/bin/sh\n#!x")]
    assert [layer.bytes for layer in stored.layers] == sizes
    assert stored.bytes == sum(layer.bytes for layer in stored.layers)
    assert stored.passwd == b"app:x:5:5::/:/bin/sh\n"
    assert stored.group == b""
    assert Path(stored.layers[1].path, "app/run").read_bytes() == b"#!x"
    assert store.findings() == ()


def test_a_layer_that_names_its_parents_is_shared_by_images_on_different_bases(store: Store) -> None:
    first = made.put(store, made.image(BASE, TOP))
    second = made.put(store, made.image({"x": b""}, TOP))
    assert first.layers[1].path == second.layers[1].path
    assert first.layers[1].key == hex_of(first.layers[1].diff_id)


def test_a_layer_that_does_not_name_its_parents_is_another_on_each_base(store: Store) -> None:
    lonely = {"etc/app.conf": b"x"}
    first = made.put(store, made.image(BASE, lonely))
    second = made.put(store, made.image({"etc/": None}, lonely))
    assert first.layers[1].path != second.layers[1].path
    for image in (first, second):
        assert image.layers[1].key == hex_of(chain_id(image.layers[1].diff_id, [image.layers[0].diff_id]))


def test_the_chain_id_is_that_of_the_specification() -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    assert chain_id(one, ()) == one
    assert chain_id(two, [one]) == digest_of(f"{one} {two}".encode())


def test_a_blob_that_unpacks_to_another_layer_is_refused_and_nothing_stays(store: Store, root: Path) -> None:
    image = made.image(BASE)
    (descriptor,) = image.manifest.layers
    with store.ingest(descriptor.digest, None) as ingest:
        ingest.write(image.blobs[0])
        ingest.commit()
    with pytest.raises(OperationError, match="is something else: what was unpacked has the digest"):
        store.unpack(descriptor, digest_of(b"another"), ())
    assert not (root / "layers").exists()
    assert os.listdir(root / "tmp") == []


def test_a_blob_that_rotted_is_removed_when_it_does_not_unpack(store: Store) -> None:
    image = made.image(BASE)
    (descriptor,) = image.manifest.layers
    path = store.blob(store.add_blob(image.blobs[0]))
    assert path is not None
    os.chmod(path, 0o600)
    Path(path).write_bytes(image.blobs[0][:-30])
    with pytest.raises(OperationError, match="was damaged and is removed"):
        store.unpack(descriptor, image.diff_ids[0], ())
    assert store.blob(descriptor.digest) is None
    assert made.put(store, image).id == image.id


def test_an_unpacking_that_is_cancelled_leaves_nothing(store: Store, root: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(_bytes: int) -> None:
        raise Cancelled

    image = made.image(BASE)
    store.add_blob(image.blobs[0])
    with pytest.raises(Cancelled):
        store.unpack(image.manifest.layers[0], image.diff_ids[0], (), on_bytes=cancel)
    assert os.listdir(root / "tmp") == []
    assert store.layer(image.diff_ids[0], ()) is None


def test_two_that_want_the_same_layer_unpack_it_once(store: Store, root: Path) -> None:
    image = made.image(BASE)
    store.add_blob(image.blobs[0])
    go, waiting, layers = threading.Event(), threading.Event(), []

    def slow(_bytes: int) -> None:
        if not go.is_set():
            go.set()
            assert waiting.wait(30)

    def unpack(on_bytes: object) -> None:
        own = Store(str(root))
        layers.append(own.unpack(image.manifest.layers[0], image.diff_ids[0], (), on_bytes=on_bytes))  # type: ignore[arg-type]

    first = threading.Thread(target=unpack, args=(slow,))
    first.start()
    assert go.wait(30)
    second = threading.Thread(target=unpack, args=(lambda size: waiting.set() if size == 0 else None,))
    second.start()
    for thread in (first, second):
        thread.join(30)
    assert len(layers) == 2
    assert layers[0] == layers[1]
    assert len(os.listdir(root / "layers")) == 1


def test_a_tree_that_was_made_elsewhere_is_moved_in(store: Store, root: Path) -> None:
    directory = store.tmp()
    tree = Path(directory, "upper")
    (tree / "app").mkdir(parents=True)
    (tree / "app/run").write_bytes(b"12345")
    os.link(tree / "app/run", tree / "app/also")
    layer = store.adopt(str(tree), digest_of(b"tree"), ())
    store.discard(directory)
    assert (layer.bytes, layer.entries) == (5, 3)
    assert Path(layer.path, "app/run").read_bytes() == b"12345"
    assert store.layer(digest_of(b"tree"), ()) == layer
    again = store.tmp()
    assert store.adopt(again, digest_of(b"tree"), ()) == layer
    assert os.listdir(root / "tmp") == []


def test_a_tree_deeper_than_a_path_can_say_is_moved_in(store: Store) -> None:
    directory, name = store.tmp(), "d" * 250
    above = os.open(directory, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=above)
        below = os.open(name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    assert store.adopt(directory, digest_of(b"deep"), ()).entries == 20
    store.collect(in_use=(), unnamed=False, unused=False)
    assert store.layer(digest_of(b"deep"), ()) is None


def test_an_image_without_its_layers_is_not_put(store: Store, root: Path) -> None:
    image = made.image(BASE)
    with pytest.raises(OperationError, match="is not there"):
        store.put(image.config, image.manifest)
    assert not (root / "records").exists()


def test_a_manifest_of_another_image_is_refused(store: Store) -> None:
    one, other = made.image(BASE), made.image(TOP)
    made.put(store, one)
    with pytest.raises(OperationError, match="the manifest is about the configuration"):
        store.put(one.config, other.manifest)


def test_a_name_moves_to_the_image_that_gets_it(store: Store) -> None:
    first, second = made.put(store, made.image(BASE), REDIS), made.put(store, made.image(TOP), REDIS)
    assert [image.names for image in (store.get(first.id), store.get(second.id)) if image] == [(), (REDIS,)]
    assert store.names()[REDIS].image == second.id
    assert store.unname(REDIS)
    assert not store.unname(REDIS)
    assert store.find("redis:7") is None


def test_a_name_needs_an_image(store: Store) -> None:
    with pytest.raises(OperationError, match="there is no image 0123456789ab"):
        store.name(REDIS, Digest("sha256:" + "0123456789abcdef" * 4))


def test_an_image_is_found_by_name_digest_id_and_beginning(store: Store) -> None:
    image = made.image(BASE)
    stored = made.put(store, image, REDIS)
    manifest = image.manifest.descriptor.digest
    for text in (
        "redis:7",
        "docker.io/library/redis:7",
        f"redis@{manifest}",
        f"docker.io/library/redis:8@{manifest}",
        stored.id,
        stored.id[7:],
        stored.id[7:19],
        stored.id[:12],
        stored.id[7:8],
    ):
        assert store.find(text) == stored, text
    for text in ("redis", "redis:8", f"nginx@{manifest}", f"redis@{stored.id}", "sha256:" + "0" * 64, "f" * 64):
        assert store.find(text) is None, text


def test_a_beginning_that_several_ids_have_is_one_clear_error(store: Store) -> None:
    ids: dict[str, list[str]] = {}
    for number in range(17):  # By the pigeon-hole principle two of them begin with the same digit.
        image = made.put(store, made.image({"x": b""}, config={"Labels": {"n": str(number)}}))
        ids.setdefault(image.id[7], []).append(image.id)
    digit, several = next((key, some) for key, some in ids.items() if len(some) > 1)
    with pytest.raises(InputError, match=f"{len(several)} images have ids that begin with {digit}") as caught:
        store.find(f"sha256:{digit}")
    assert several[0][7:19] in (caught.value.hint or "") or len(several) > 5


def test_what_cannot_be_a_name_is_an_input_error(store: Store) -> None:
    with pytest.raises(InputError):
        store.find("Redis:7")


def test_names_of_any_text_are_files_of_their_own() -> None:
    names = ["a/b", "a%2Fb", "a.b", ".a", "%2Ea", "a" * 300, "a" * 301, "x.damaged-1", "ä", "..", "A", "a"]
    files = {escaped(name) for name in names}
    assert len(files) == len(names)
    for file in files:
        assert len(file) <= 200
        assert "/" not in file
        assert not file.startswith(".")
        assert ".damaged-" not in file


def test_a_long_name_is_kept_whole(store: Store) -> None:
    name = f"localhost:5000/{'a' * 120}/{'b' * 120}:{'c' * 128}"
    made.put(store, made.image(BASE), name)
    assert list(store.names()) == [name]
    assert store.find(name) is not None


def test_the_newest_manifest_of_an_image_is_its_manifest(store: Store) -> None:
    image = made.image(BASE)
    made.put(store, image)
    assert (stored := store.put(image.config)).manifest is None
    assert store.get(image.id) == stored


def test_forgetting_an_image_takes_its_names_and_what_only_it_had_goes_with_the_next_collection(
    store: Store, root: Path
) -> None:
    kept = made.put(store, made.image(BASE), "docker.io/library/kept:1")
    gone = made.put(store, made.image(BASE, TOP), REDIS, "docker.io/library/also:1")
    assert store.forget(gone.id)
    assert not store.forget(gone.id)
    assert list(store.names()) == ["docker.io/library/kept:1"]
    collected = store.collect(in_use=(), unnamed=False, unused=False)
    assert collected.layers == (gone.layers[1].key,)
    assert os.listdir(root / "layers") == [kept.layers[0].key]
    assert os.listdir(root / "trash") == []
    assert store.get(kept.id) == kept


def test_an_image_that_is_leased_is_not_forgotten(store: Store) -> None:
    image = made.put(store, made.image(BASE), REDIS)
    with Store(store._places.root).lease() as lease:
        lease.hold(image.id)
        with pytest.raises(BusyError):
            store.forget(image.id)
    assert store.forget(image.id)


# Damage.


def test_a_damaged_record_is_told_and_the_image_is_not_there_until_it_is_pulled_again(store: Store, root: Path) -> None:
    image = made.image(BASE)
    made.put(store, image, REDIS)
    record = root / "records" / f"{image.id[7:]}.json"
    record.write_bytes(record.read_bytes().replace(b"created_s", b"CREATED_S"))
    assert store.find("redis:7") is None
    assert store.images() == []
    assert [(finding.file, finding.what) for finding in store.findings()] == [(str(record), "is damaged")]
    made.put(store, image, REDIS)
    assert store.find("redis:7") is not None
    assert (root / "records" / f"{record.name}.damaged-1").exists()


@pytest.mark.parametrize("lost", ["fs", "synced"])
def test_an_image_whose_layer_is_gone_is_told_and_mended_by_a_pull(store: Store, root: Path, lost: str) -> None:
    image = made.image(BASE)
    stored = made.put(store, image, REDIS)
    directory = root / "layers" / stored.layers[0].key
    if lost == "fs":
        shutil.rmtree(directory / lost)
    else:
        shutil.rmtree(directory)
    assert store.find("redis:7") is None
    (finding,) = store.findings()
    assert finding.file == str(directory)
    assert "pull it again" in finding.done
    assert made.put(store, image, REDIS) == stored
    assert store.findings() == ()


def test_a_layer_that_was_not_synced_counts_until_the_next_boot_only(store: Store, root: Path) -> None:
    image = made.image(BASE)
    store.add_blob(image.blobs[0])
    layer = store.unpack(image.manifest.layers[0], image.diff_ids[0], ())
    assert store.layer(layer.diff_id, ()) == layer
    later = Store(str(root))
    later._layers._boot = "another"
    assert later.layer(layer.diff_id, ()) is None
    assert later.unpack(image.manifest.layers[0], image.diff_ids[0], ()) == layer
    later.put(image.config)
    assert store.layer(layer.diff_id, ()) == layer
    even_later = Store(str(root))
    even_later._layers._boot = "a third one"
    assert even_later.get(image.id) is not None


def test_a_damaged_name_is_told_and_means_nothing(store: Store, root: Path) -> None:
    image = made.image(BASE)
    made.put(store, image, REDIS)
    (file,) = (root / "names").iterdir()
    file.write_bytes(b"{}")
    assert store.find("redis:7") is None
    assert [finding.file for finding in store.findings()] == [str(file)]
    made.put(store, image, REDIS)
    assert store.find("redis:7") is not None
    assert len(list((root / "names").iterdir())) == 2
    assert list(store.names()) == [REDIS]


def test_what_a_newer_pystack_wrote_is_left_alone(store: Store, root: Path) -> None:
    image = made.image(BASE)
    made.put(store, image, REDIS)
    record = root / "records" / f"{image.id[7:]}.json"
    record.write_bytes(seal({"version": 99}))
    for ask in (lambda: store.get(image.id), lambda: store.collect(in_use=(), unnamed=True, unused=True)):
        with pytest.raises(OperationError, match="was written by a newer pystack"):
            ask()
    assert (root / "layers").exists()


# Build cache.


def test_a_cached_value_is_given_back_by_its_key_alone(store: Store) -> None:
    assert store.cached("step 1") is None
    store.cache("step 1", b"\0\xffvalue", [digest_of(b"layer")])
    assert store.cached("step 1") == b"\0\xffvalue"
    assert store.cached("step 2") is None
    store.cache("step 1", b"new", [])
    assert store.cached("step 1") == b"new"
