"""Collection: what is named, leased or in use survives, everything else goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest_of
from orchestrator.images.store import collection
from orchestrator.images.store.buildcache import RECENT_S, Entry, Found
from orchestrator.images.store.collection import Snapshot, Wish, decide
from orchestrator.images.store.layers import Installed
from orchestrator.images.store.places import hex_of
from orchestrator.images.store.records import Record
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import Collected, Layer, Name, StoredImage
from tests.unit.images import made

BASE = {"etc/": None, "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
NOW_S = 2_000_000_000.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(str(root))


def collect(store: Store, *, unnamed: bool = False, unused: bool = False, in_use: Iterable[Digest] = ()) -> Collected:
    return store.collect(in_use=tuple(in_use), unnamed=unnamed, unused=unused)


# The decision, for whatever may be there.

ORDINALS = st.integers(0, 5)


def named(kind: str, number: int) -> Digest:
    return digest_of(f"{kind} {number}".encode())


def layer_of(number: int) -> Layer:
    return Layer(hex_of(named("layer", number)), "", named("diff", number), 10, 1)


def blob_of(number: int) -> Descriptor:
    return Descriptor("application/x", named("blob", number), 5)


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[Snapshot, Wish]:
    """Six images, layers, blobs and cache entries at most, which refer to each other at random."""
    some = st.lists(ORDINALS, max_size=3, unique=True)
    everything = st.sampled_from([named(kind, n) for kind in ("image", "diff", "layer", "blob") for n in range(6)])
    held = st.frozensets(everything, max_size=2)
    records = {
        named("image", n): Record(
            named("image", n),
            b"{}",
            tuple(layer_of(one) for one in draw(some)),
            draw(st.sampled_from([NOW_S - 100, NOW_S + 100])),
            blobs=tuple(blob_of(one) for one in draw(some)),
        )
        for n in draw(some)
    }
    unreadable = draw(st.frozensets(ORDINALS.map(lambda n: named("image", n)), max_size=1)) - records.keys()
    names = {f"n{n}": Name(named("image", draw(ORDINALS)), draw(st.none() | everything), 0.0) for n in draw(some)}
    layers = {
        layer_of(n).key: draw(st.none() | st.just(Installed(layer_of(n), "", draw(st.none() | ORDINALS.map(blob_of)))))
        for n in draw(st.lists(ORDINALS, unique=True))
    }
    blobs = {named(kind, n): 5 for kind in ("blob", "image") for n in draw(st.lists(ORDINALS, unique=True))}
    cached = tuple(
        Found(f"/c{n}", Entry(f"c{n}", b"", tuple(draw(held))), draw(st.sampled_from([0.0, NOW_S])), 1) for n in draw(some)
    )
    there = Snapshot(records, unreadable, names, layers, blobs, draw(held), cached, NOW_S)
    flags = st.booleans()
    return there, Wish(draw(held), draw(flags), draw(flags), draw(st.none() | st.just(NOW_S)), draw(flags))


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_what_is_needed_stays_and_everything_else_goes(drawn: tuple[Snapshot, Wish]) -> None:
    there, wish = drawn
    sweep = decide(there, wish)
    needed = there.held | wish.in_use
    gone = set(sweep.images)
    means = {name.image for name in there.names.values()}
    for image, record in there.records.items():
        old_enough = wish.until_s is None or record.created_s < wish.until_s
        wanted = wish.unused or (wish.unnamed and image not in means)
        assert (image in gone) == (image not in needed and old_enough and wanted)
    kept = [record for image, record in there.records.items() if image not in gone]
    recent = [one for one in there.cached if not wish.cache and one.at_s >= NOW_S - RECENT_S]
    assert set(sweep.cached) == set(there.cached) - set(recent)
    holds = needed | {held for one in recent for held in one.entry.holds}
    if needed & there.unreadable:
        assert (sweep.layers, sweep.blobs) == ((), ())
        return
    layers = {layer.key for record in kept for layer in record.layers} | {hex_of(one) for one in holds}
    live_names = {name for name in there.names if name not in sweep.names}
    assert {there.names[name].image for name in live_names} <= {record.id for record in kept} | there.unreadable
    assert not {there.names[name].image for name in sweep.names} & {record.id for record in kept}
    seen = {there.names[name].digest for name in live_names}
    for key, about in there.layers.items():
        by_key = key in layers or key in {hex_of(one) for one in seen if one is not None}
        by_diff_id = about is not None and about.layer.diff_id in holds | seen
        assert (key in sweep.layers) == (not by_key and not by_diff_id), key
    packed = {
        about.blob.digest
        for key, about in there.layers.items()
        if about is not None and about.blob is not None and key not in sweep.layers
    }
    wanted_blobs = holds | seen | packed | {record.id for record in kept}
    wanted_blobs |= {one.digest for record in kept for one in record.blobs}
    for blob in there.blobs:
        assert (blob in sweep.blobs) == (blob not in wanted_blobs)


# On the disk.


def three(store: Store) -> tuple[StoredImage, StoredImage, StoredImage]:
    """One with a name, one without, and one that is named and used."""
    return (
        made.put(store, made.image(BASE, {"named": b"1"}), "docker.io/library/named:1"),
        made.put(store, made.image(BASE, {"unnamed": b"2"})),
        made.put(store, made.image(BASE, {"used": b"3"}), "docker.io/library/used:1"),
    )


def there(store: Store) -> set[Digest]:
    return {image.id for image in store.images()}


def test_nothing_is_removed_that_nobody_asked_for(store: Store, root: Path) -> None:
    images = three(store)
    before = made.kept(root)
    assert collect(store) == Collected()
    assert made.kept(root) == before
    assert there(store) == {image.id for image in images}


def test_images_without_a_name_go_with_all_that_only_they_had(store: Store, root: Path) -> None:
    named_image, unnamed, used = three(store)
    collected = collect(store, unnamed=True)
    assert collected.images == (unnamed.id,)
    assert collected.layers == (unnamed.layers[1].key,)
    assert collected.names == ()
    assert collected.bytes > 0
    assert there(store) == {named_image.id, used.id}
    assert not os.path.exists(unnamed.layers[1].path)
    assert os.path.exists(used.layers[0].path)
    assert len(os.listdir(root / "blobs/sha256")) == 2 + 2 + 3  # Configurations, manifests, layers.


def test_unused_images_go_with_their_names_and_used_ones_stay(store: Store, root: Path) -> None:
    named_image, unnamed, used = three(store)
    collected = collect(store, unused=True, in_use=[used.id])
    assert set(collected.images) == {named_image.id, unnamed.id}
    assert collected.names == ("docker.io/library/named:1",)
    assert there(store) == {used.id}
    collected = collect(store, unused=True)
    assert made.kept(root) == []
    assert os.listdir(root / "trash") == []
    assert os.listdir(root / "locks") == ["store"]


def test_a_dry_run_tells_the_same_and_changes_nothing(store: Store, root: Path) -> None:
    three(store)
    before = made.files_below(root)
    dry = store.collect(in_use=(), unnamed=True, unused=True, dry=True)
    assert made.files_below(root) == before
    assert collect(store, unnamed=True, unused=True) == dry
    assert made.kept(root) == []


def test_only_images_from_before_an_instant_go(store: Store) -> None:
    old = made.put(store, made.image(BASE, created="2020-01-01T00:00:00Z"))
    new = made.put(store, made.image(BASE, created="2022-01-01T00:00:00Z"))
    store.collect(in_use=(), unnamed=True, unused=True, until_s=1_600_000_000.0)
    assert there(store) == {new.id}
    assert store.get(old.id) is None


def test_what_a_lease_holds_survives_until_it_ends(store: Store, root: Path) -> None:
    image = made.image(BASE)
    with store.lease() as lease:
        lease.hold(image.manifest.layers[0].digest, image.diff_ids[0])
        store.add_blob(image.blobs[0])
        layer = store.unpack(image.manifest.layers[0], image.diff_ids[0], ())
        collect(Store(str(root)), unused=True)
        assert store.blob(image.manifest.layers[0].digest) is not None
        assert store.layer(image.diff_ids[0], ()) == layer
    collect(store)
    assert made.kept(root) == []
    assert os.listdir(root / "leases") == []


def test_the_lease_of_a_process_that_was_killed_holds_nothing(store: Store, root: Path) -> None:
    stored = made.put(store, made.image(BASE))
    pid = os.fork()
    if pid == 0:
        lease = Store(str(root)).lease().__enter__()
        lease.hold(stored.id)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(os.listdir(root / "leases")) == 1
    collect(store, unnamed=True)
    assert os.listdir(root / "leases") == []
    assert made.kept(root) == []


def test_what_a_killed_process_was_making_goes_and_what_a_living_one_makes_stays(store: Store, root: Path) -> None:
    living = store.tmp()
    pid = os.fork()
    if pid == 0:
        Path(Store(str(root)).tmp(), "file").write_bytes(b"x")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(os.listdir(root / "tmp")) == 2
    collect(store)
    assert os.listdir(root / "tmp") == [os.path.basename(living)]
    store.discard(living)
    assert os.listdir(root / "tmp") == []


def test_a_sweep_takes_what_a_killed_process_was_making_and_that_alone(store: Store, root: Path) -> None:
    living = store.tmp()
    pid = os.fork()
    if pid == 0:
        Path(Store(str(root)).tmp(), "file").write_bytes(b"x")
        os._exit(0)
    os.waitpid(pid, 0)
    before = there(store)
    store.sweep()
    assert os.listdir(root / "tmp") == [os.path.basename(living)]
    assert os.listdir(root / "trash") == []
    assert there(store) == before


def test_what_came_of_a_blob_is_kept_for_a_day_or_until_a_prune(store: Store, root: Path) -> None:
    of = digest_of(b"content")
    with store.ingest(of, 7) as ingest:
        ingest.write(b"con")
        assert collect(Store(str(root)), unused=True).bytes == 0  # Somebody fetches it.
    assert collect(store).bytes == 0
    day_ago = time.time() - collection.RESUMED_S - 1
    os.utime(root / "ingest" / of.replace(":", "-"), (day_ago, day_ago))
    assert collect(store).bytes == 3
    with store.ingest(of, 7) as ingest:
        assert ingest.offset == 0
        ingest.write(b"con")
    assert collect(store, unnamed=True).bytes == 3
    assert os.listdir(root / "ingest") == []


def test_recent_entries_of_the_build_cache_keep_what_they_hold(store: Store, root: Path) -> None:
    image = made.image(BASE)
    store.add_blob(image.blobs[0])
    layer = store.unpack(image.manifest.layers[0], image.diff_ids[0], ())
    store.cache("step", b"value", [image.diff_ids[0]])
    collect(store, unused=True)
    assert store.layer(layer.diff_id, ()) == layer
    assert store.packed(layer) == image.manifest.layers[0]
    long_ago = time.time() - RECENT_S - 1
    (entry,) = (root / "cache").iterdir()
    os.utime(entry, (long_ago, long_ago))
    assert store.cached("step") == b"value"  # Which makes it recent.
    collect(store)
    assert store.layer(layer.diff_id, ()) == layer
    assert store.collect(in_use=(), unnamed=False, unused=False, cache=True).cache == 1
    assert store.cached("step") is None
    assert store.layer(layer.diff_id, ()) is None


def test_a_damaged_entry_of_the_build_cache_is_no_entry_and_goes(store: Store, root: Path) -> None:
    store.cache("step", b"value", [])
    (entry,) = (root / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:-9])
    assert store.cached("step") is None
    collect(store)
    assert list((root / "cache").iterdir()) == []


def test_nothing_is_swept_while_a_record_in_use_cannot_be_read(store: Store, root: Path) -> None:
    stored = made.put(store, made.image(BASE), "docker.io/library/used:1")
    record = root / "records" / f"{stored.id[7:]}.json"
    record.write_bytes(b"{}")
    collected = collect(store, unused=True, in_use=[stored.id])
    assert (collected.layers, collected.blobs) == ((), ())
    assert os.path.exists(stored.layers[0].path)
    assert record.exists()
    collect(store)
    assert not record.exists()
    assert not os.path.exists(stored.layers[0].path)


def test_a_name_of_an_image_that_is_gone_goes(store: Store, root: Path) -> None:
    stored = made.put(store, made.image(BASE), "docker.io/library/lost:1")
    os.unlink(root / "records" / f"{stored.id[7:]}.json")
    assert collect(store).names == ("docker.io/library/lost:1",)
    assert dict(store.names()) == {}


def test_what_was_left_of_files_being_written_and_of_trees_being_deleted_goes(store: Store, root: Path) -> None:
    made.put(store, made.image(BASE), "docker.io/library/kept:1")
    before = made.kept(root)
    for directory in ("records", "names", "cache"):
        (root / directory).mkdir(exist_ok=True)
        (root / directory / ".x.new").write_bytes(b"half")
    (root / "trash/left/behind").mkdir(parents=True)
    collect(store)
    assert made.kept(root) == before
    assert os.listdir(root / "trash") == []
