"""What to keep and what to remove: mark and sweep, decided as a value; and doing it.

*Roots* are the images that have a name (unless all unused ones are to go), those that somebody uses, what living leases
hold, and what recent entries of the build cache hold. An image keeps its layers and blobs, a layer its compressed form.
Everything else is removed. Names and records go first and their layers after them, so that a collection that is killed
leaves whole images, and at most something for the next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from orchestrator.images.spec.digest import Digest
from orchestrator.images.store.buildcache import RECENT_S, BuildCache
from orchestrator.images.store.buildcache import Found as Cached
from orchestrator.images.store.layers import Installed, Layers
from orchestrator.images.store.leases import leased
from orchestrator.images.store.locks import STORE, Locks, flock_if_free
from orchestrator.images.store.names import Names
from orchestrator.images.store.places import Places, digest_from, hex_of, refused
from orchestrator.images.store.records import ImageRecords, Record
from orchestrator.images.store.values import Collected, Name
from orchestrator.kernel.trees import remove_tree
from orchestrator.values import frozen

RESUMED_S = 86400.0
"""How long what came of a blob is kept for whoever pulls it again. A prune removes it at once."""


@frozen
class Wish:
    """What is to go: see `Store.collect`."""

    in_use: frozenset[Digest]
    unnamed: bool
    unused: bool
    until_s: float | None
    cache: bool
    only: frozenset[Digest] | None = None


@frozen
class Snapshot:
    """What there is. `layers`: None for one of which nothing is known. `blobs`: with their sizes. `unreadable`: damaged
    records: what their images consist of is not known."""

    records: Mapping[Digest, Record]
    unreadable: frozenset[Digest]
    names: Mapping[str, Name]
    layers: Mapping[str, Installed | None]
    blobs: Mapping[Digest, int]
    held: frozenset[Digest]
    cached: tuple[Cached, ...]
    now_s: float


@frozen
class Sweep:
    """What is to be removed."""

    images: tuple[Digest, ...]
    names: tuple[str, ...]
    layers: tuple[str, ...]
    blobs: tuple[Digest, ...]
    cached: tuple[Cached, ...]


def decide(there: Snapshot, wish: Wish) -> Sweep:
    """Pure. If a record that is needed cannot be read, no layer and no blob is removed."""
    needed = there.held | wish.in_use
    named = {name.image for name in there.names.values()}
    images = [
        image for image, record in there.records.items()
        if image not in needed
        and (wish.unused or (wish.unnamed and image not in named))
        and (wish.until_s is None or record.created_s < wish.until_s)
        and (wish.only is None or image in wish.only)
    ]  # fmt: skip
    gone = set(images)
    kept = [record for image, record in there.records.items() if image not in gone]
    known = there.records.keys() | there.unreadable
    names = [name for name, means in there.names.items() if means.image in gone or means.image not in known]
    cached = [found for found in there.cached if wish.cache or found.at_s < there.now_s - RECENT_S]
    if needed & there.unreadable:
        return Sweep(tuple(images), tuple(names), (), (), tuple(cached))
    dropped = {found.entry.key for found in cached}
    roots = set(needed)
    for found in there.cached:
        if found.entry.key not in dropped:
            roots.update(found.entry.holds)
    for text, means in there.names.items():
        if text not in names and means.digest is not None:
            roots.add(means.digest)
    keys = _marked_layers(there, kept, roots)
    blobs = set(roots)
    for record in kept:
        blobs.add(record.id)
        blobs.update(one.digest for one in record.blobs)
    for key in keys:
        about = there.layers.get(key)
        if about is not None and about.blob is not None:
            blobs.add(about.blob.digest)
    return Sweep(
        tuple(images),
        tuple(names),
        tuple(key for key in there.layers if key not in keys),
        tuple(one for one in there.blobs if one not in blobs),
        tuple(cached),
    )


def _marked_layers(there: Snapshot, kept: Iterable[Record], roots: set[Digest]) -> set[str]:
    keys = {hex_of(one) for one in roots}
    for record in kept:
        keys.update(layer.key for layer in record.layers)
    for key, about in there.layers.items():
        if about is not None and about.layer.diff_id in roots:
            keys.add(key)
    return keys


class Collector:
    """Looks, decides and sweeps."""

    def __init__(
        self, places: Places, locks: Locks, names: Names, records: ImageRecords, layers: Layers, cache: BuildCache
    ) -> None:
        self._places = places
        self._locks = locks
        self._names = names
        self._records = records
        self._layers = layers
        self._cache = cache

    def run(self, wish: Wish, *, dry: bool) -> Collected:
        if not os.path.isdir(self._places.root):
            return Collected()
        with self._locks.hold(STORE):
            there = self._look(wish.in_use, dry)
            sweep = decide(there, wish)
            ingested = self._stale_ingests(wish.unnamed or wish.unused, there.now_s)
            size = _bytes(there, sweep) + sum(size for _, size in ingested)
            if not dry:
                with refused(f"delete from {self._places.root}"):
                    self._sweep(sweep)
                    self._clean(path for path, _ in ingested)
        if not dry:
            self._empty_trash()
        return Collected(sweep.images, sweep.names, sweep.layers, sweep.blobs, len(sweep.cached), size)

    def _look(self, in_use: Collection[Digest], dry: bool) -> Snapshot:
        held = leased(self._places, clean=not dry)
        records, unreadable = {}, set()
        for image in self._records.ids():
            record = self._records.read(image)
            if record is not None:
                records[image] = record
            else:
                unreadable.add(image)
        if not dry:
            for image in unreadable - held - set(in_use):
                self._records.set_aside(image)
                unreadable.discard(image)
        layers = {key: self._layers.about(key) for key in self._places.list("layers")}
        names, blobs, cached = self._names.all(), dict(self._blobs()), self._cache.all()
        return Snapshot(records, frozenset(unreadable), names, layers, blobs, held, cached, time.time())

    def _blobs(self) -> Iterator[tuple[Digest, int]]:
        for algorithm in self._places.list("blobs"):
            for name in self._places.list(f"blobs/{algorithm}"):
                of = digest_from(algorithm, name)
                if of is not None:
                    with refused(f"read {self._places.blob(of)}"):
                        yield of, os.stat(self._places.blob(of)).st_size

    def _stale_ingests(self, all_of_them: bool, now_s: float) -> list[tuple[str, int]]:
        """Paths and sizes of what nobody fetches now."""
        stale = []
        for name in self._places.list("ingest"):
            path = os.path.join(self._places.directory("ingest"), name)
            with self._locks.held_if_free(f"blob-{name}") as free:
                found = _stat(path)
                if free and found is not None and (all_of_them or found.st_mtime < now_s - RESUMED_S):
                    stale.append((path, found.st_size))
        return stale

    def _sweep(self, sweep: Sweep) -> None:
        for name in sweep.names:
            self._names.remove(name)
        for found in sweep.cached:
            os.unlink(found.path)
        for image in sweep.images:
            self._records.remove(image)
        for key in sweep.layers:
            self._places.trash(self._places.layer(key))
        for of in sweep.blobs:
            self._places.trash(self._places.blob(of))

    def _clean(self, ingested: Iterable[str]) -> None:
        """What killed processes left. Whoever fetches a blob opens its file under the blob's lock, and it was free."""
        for path in ingested:
            with self._locks.held_if_free(f"blob-{os.path.basename(path)}") as free:
                if free:
                    self._places.trash(path)
        for name in self._places.list("tmp"):
            path = os.path.join(self._places.directory("tmp"), name)
            with suppress(FileNotFoundError):
                fd = flock_if_free(path)
                if fd is not None:
                    self._places.trash(path)
                    os.close(fd)
        for path in self._cache.unreadable():
            os.unlink(path)
        for directory in ("records", "names", "cache"):  # What `replace_file` writes beside; nobody does so now.
            for name in self._places.list(directory):
                if name.startswith("."):
                    os.unlink(os.path.join(self._places.directory(directory), name))
        # The lock of what somebody may resume stays: on a full disk none can be made.
        resumable = {f"blob-{name}" for name in self._places.list("ingest")}
        for name in self._places.list("locks"):
            if name != STORE and name not in resumable:
                self._locks.drop_if_free(name)

    def _empty_trash(self) -> None:
        for name in self._places.list("trash"):
            path = os.path.join(self._places.directory("trash"), name)
            with refused(f"delete {path}"):
                remove_tree(path)


def _bytes(there: Snapshot, sweep: Sweep) -> int:
    about = (there.layers[key] for key in sweep.layers)
    return (
        sum(one.layer.bytes for one in about if one is not None)
        + sum(there.blobs[of] for of in sweep.blobs)
        + sum(found.bytes for found in sweep.cached)
    )


def _stat(path: str) -> os.stat_result | None:
    with refused(f"read {path}"), suppress(FileNotFoundError):
        return os.stat(path)
    return None
