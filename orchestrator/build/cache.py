"""What a step made before, found again by what it depends on.

A key is the hash of everything that a layer's content follows from: the layers below, the instruction after expansion, and
the content of what it takes. A change of the configuration alone needs no entry: it is worked out each time.

To know the content of what is copied it has to be read; so the hash of it is remembered too, under something cheaper: for a
stage or an image its layers, for files of this machine their names, sizes, inodes and times (`fingerprint`).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import trio

from orchestrator.build.copying import Taken, Text
from orchestrator.build.exchange import Exchange
from orchestrator.build.trees import Found, Tree
from orchestrator.errors import OperationError
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.spec.media_types import OCI_LAYER_GZIP
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import Layer
from orchestrator.values import frozen

_VERSION = 1
"""Of what keys are made of."""
_CHUNK = 1 << 20
_MAKING: weakref.WeakKeyDictionary[Store, weakref.WeakValueDictionary[str, trio.Lock]] = weakref.WeakKeyDictionary()
_SETTLED_NS = 2 * 10**9
"""A file that was changed less than so long ago may be changed once more without its times telling."""


@frozen
class Known:
    """A layer that an earlier build made, and when (RFC 3339)."""

    layer: Layer
    created: str


def key_of(kind: str, *parts: Any) -> str:
    """`parts`: JSON-ready."""
    text = json.dumps([_VERSION, kind, *parts], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class StepCache:
    """`Store`'s build cache, in the words of a build. What is found or kept is held by `lease`. Blocking."""

    def __init__(self, store: Store, lease: Lease, exchanged: Exchange) -> None:
        self._store = store
        self._lease = lease
        self._exchange = exchanged
        self._used: dict[str, tuple[Layer, str]] = {}

    def making(self, key: str) -> trio.Lock:
        """Held by who looks for a step and makes it: stages that begin alike do it once, those of other builds of this
        process too (two services that are built of one file)."""
        return _MAKING.setdefault(self._store, weakref.WeakValueDictionary()).setdefault(key, trio.Lock())

    def layer(self, key: str, parents: Sequence[Digest]) -> Known | None:
        """None unless the layer is still there, or comes from where another build has put it."""
        found = self.value(key)
        if not isinstance(found, dict):
            return self._brought(key, parents)
        try:
            diff_id, created = digest(str(found["layer"])), str(found["created"])
        except (KeyError, ValueError):
            return None
        self.hold(diff_id)  # First, so that it cannot go in between.
        layer = self._store.layer(diff_id, parents)
        if layer is None:
            return self._brought(key, parents)
        self._used[key] = layer, created
        return Known(layer, created)

    def _brought(self, key: str, parents: Sequence[Digest]) -> Known | None:
        step = self._exchange.find(key)
        if step is None:
            return None
        self.hold(step.diff_id)
        try:
            layer = self._store.unpack(self._blob(step.archive), step.diff_id, parents)
        except (OSError, OperationError):
            return None  # Damaged, or not what it says: as if it were not there.
        self.keep_layer(key, layer, step.created)
        return Known(layer, step.created)

    def _blob(self, archive: str) -> Descriptor:
        with open(archive, "rb") as file, self._store.spool() as spool:
            while chunk := file.read(_CHUNK):
                spool.write(chunk)
            self.hold(spool.digest)
            return Descriptor(OCI_LAYER_GZIP, spool.commit(), spool.size)

    def hold(self, *digests: Digest) -> None:
        """Until the build is over."""
        self._lease.hold(*digests)

    def hand_over(self) -> None:
        """``cache_to``: all steps that this build made or knew. Raises HostError."""
        self._exchange.write(self._used)

    def adopt(self, tree: str, diff_id: Digest, parents: Sequence[Digest]) -> Layer:
        self.hold(diff_id)
        return self._store.adopt(tree, diff_id, parents)

    def keep_layer(self, key: str, layer: Layer, created: str) -> None:
        self._used[key] = layer, created
        self.keep_value(key, {"layer": layer.diff_id, "created": created}, [layer.diff_id])

    def value(self, key: str) -> Any:
        data = self._store.cached(key)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def keep_value(self, key: str, value: object, holds: Sequence[Digest] = ()) -> None:
        self._store.cache(key, json.dumps(value, separators=(",", ":")).encode(), holds)

    def content(self, taken: Sequence[Taken]) -> str:
        """The hash of all that is taken: names, kinds, modes, owners where they count, and content; not times."""
        cheap, newest_ns = fingerprint(taken)
        memo = key_of("content", cheap)
        found = self.value(memo)
        if isinstance(found, str):
            return found
        content = _content(taken)
        if newest_ns < time.time_ns() - _SETTLED_NS:
            self.keep_value(memo, content)
        return content


def fingerprint(taken: Sequence[Taken]) -> tuple[str, int]:
    """What changes when the content may have, without reading it; and the newest change of a file of this machine."""
    hashed = hashlib.sha256()
    newest_ns = 0
    for each in taken:
        for line in _heads(each):
            hashed.update(line)
        if each.text is not None:
            hashed.update(_text_digest(each.text))
        elif each.tree is not None and each.match is not None and each.tree.identity:
            hashed.update(each.tree.identity.encode())
        elif each.match is not None:
            for found in each.match.found:
                own = found.stat
                times = (own.st_dev, own.st_ino, own.st_size, own.st_mtime_ns, own.st_ctime_ns)
                hashed.update(repr(times).encode())
                newest_ns = max(newest_ns, own.st_mtime_ns, own.st_ctime_ns)
    return hashed.hexdigest(), newest_ns


def _content(taken: Sequence[Taken]) -> str:
    hashed = hashlib.sha256()
    for each in taken:
        for line in _heads(each):
            hashed.update(line)
        if each.text is not None:
            hashed.update(_text_digest(each.text))
        elif each.tree is not None and each.match is not None:
            for found in each.match.found:
                for piece in _pieces(each.tree, found):
                    hashed.update(hashlib.sha256(piece).digest())
    return hashed.hexdigest()


def _heads(taken: Taken) -> Iterable[bytes]:
    """Names, kinds, modes and owners: what a stat(2) tells and an image keeps."""
    if taken.text is not None:
        yield repr(("text", taken.text.name, taken.text.mode, taken.unpack)).encode()
    if taken.match is None or taken.tree is None:
        return
    yield repr(("match", os.fsencode(taken.match.name), taken.unpack, taken.tree.local)).encode()
    for found in taken.match.found:
        own = found.stat
        owner = (0, 0) if taken.tree.local else (own.st_uid, own.st_gid)
        size = own.st_size if stat.S_ISREG(own.st_mode) else 0
        yield repr((os.fsencode(found.name), own.st_mode, owner, size, own.st_rdev)).encode()


def _pieces(tree: Tree, found: Found) -> Iterable[bytes]:
    yield repr(sorted(tree.xattrs(found).items())).encode()
    if stat.S_ISLNK(found.stat.st_mode):
        yield tree.readlink(found)
    elif stat.S_ISREG(found.stat.st_mode):
        with tree.open(found) as file:
            yield _digest(file)


def _text_digest(text: Text) -> bytes:
    with text.open() as file:
        return _digest(file)


def _digest(file: BinaryIO) -> bytes:
    hashed = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        hashed.update(chunk)
    return hashed.digest()
