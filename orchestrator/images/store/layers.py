"""``layers/``: unpacked layers.

``KEY/layer.json`` says what it is, ``KEY/synced`` that it is on the disk: without that, it counts until the next boot only,
since a power cut may have left files without their content. So that an image costs one syncfs(2) and not one for each
layer, the mark is set when the image is put.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest, short
from orchestrator.images.store.locks import STORE, Locks
from orchestrator.images.store.places import Places, hex_of, refused, sealed
from orchestrator.images.store.values import Layer
from orchestrator.images.store.workshop import Workshop
from orchestrator.images.unpack.layers import apply_layer
from orchestrator.images.unpack.limits import Limits
from orchestrator.kernel.atomic import replace_file
from orchestrator.kernel.syscalls import syncfs
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.values import frozen, replace

_ABOUT, _SYNCED, _TREE = "layer.json", "synced", "fs"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class Installed:
    """``layer.json``. `boot`: during which it was made. `blob`: the tar archive that it came in, compressed or not. One
    made from the tree has another diffID, unless the tree was made here."""

    layer: Layer
    boot: str
    blob: Descriptor | None = None


class Layers:
    def __init__(self, places: Places, locks: Locks, workshop: Workshop) -> None:
        self._places = places
        self._locks = locks
        self._workshop = workshop
        self._boot = ""

    def find(self, diff_id: Digest, parents: Sequence[Digest]) -> Layer | None:
        for key in _keys(diff_id, parents):
            found = self.about(key)
            if found is not None and found.layer.diff_id == diff_id and self.usable(found):
                return found.layer
        return None

    def about(self, key: str) -> Installed | None:
        """What is known of a layer's directory; None if nothing is."""
        path = self._places.layer(key)
        data = self._places.read(os.path.join(path, _ABOUT))
        if data is None:
            return None
        try:
            found = from_json(Installed, data)
            digest(found.layer.diff_id)
        except ValueError:
            self._places.tell(os.path.join(path, _ABOUT), "is damaged", "the layer counts as not there")
            return None
        return replace(found, layer=replace(found.layer, key=key, path=os.path.join(path, _TREE)))

    def usable(self, found: Installed) -> bool:
        """Whether its tree is there, and as it was made."""
        return os.path.isdir(found.layer.path) and (self.synced(found.layer.key) or found.boot == self.boot())

    def synced(self, key: str) -> bool:
        return os.path.exists(os.path.join(self._places.layer(key), _SYNCED))

    def mark(self, layer: Layer) -> str:
        """The file that says that it is whole."""
        return os.path.join(self._places.layer(layer.key), _SYNCED)

    def is_there(self, layer: Layer) -> bool:
        """Of a layer that a record names: it was synced before the record was written."""
        return self.synced(layer.key) and os.path.isdir(layer.path)

    def boot(self) -> str:
        if not self._boot:
            with refused("read the boot's id"), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                self._boot = file.read().strip()
        return self._boot

    def lowers(self, diff_ids: Sequence[Digest]) -> tuple[Layer, ...]:
        """The layers with these diffIDs one above the other, lowest first. Raises OperationError if one is missing."""
        found = []
        for number, diff_id in enumerate(diff_ids):
            layer = self.find(diff_id, diff_ids[:number])
            if layer is None:
                raise OperationError(f"layer {short(diff_id)} is not there", hint="pull the image again")
            found.append(layer)
        return tuple(found)

    def unpack(
        self,
        opened: Callable[[], AbstractContextManager[BinaryIO]],
        blob: Descriptor,
        diff_id: Digest,
        parents: Sequence[Digest],
        limits: Limits,
        on_bytes: Callable[[int], None] | None,
    ) -> Layer:
        """`opened` gives what is in `blob`."""
        waited = (lambda: on_bytes(0)) if on_bytes is not None else None
        with self._locks.hold(_lock_of(diff_id), on_wait=waited):
            if (found := self.find(diff_id, parents)) is not None:
                return found
            lowers = [layer.path for layer in reversed(self.lowers(parents))]
            directory = self._workshop.make()
            try:
                tree = os.path.join(directory, _TREE)
                with refused(f"unpack layer {short(diff_id)}"), opened() as stream:
                    os.mkdir(tree, 0o755)
                    applied = apply_layer(stream, tree, lowers, limits=limits, on_bytes=on_bytes)
                if applied.diff_id != diff_id:
                    what = f"what was unpacked has the digest {applied.diff_id}"
                    raise OperationError(f"layer {diff_id} is something else: {what}")
                key = hex_of(diff_id if applied.complete else chain_id(diff_id, parents))
                return self._install(directory, Layer(key, "", diff_id, applied.bytes, applied.entries), blob)
            finally:
                self._workshop.discard(directory)

    def adopt(self, tree: str, diff_id: Digest, parents: Sequence[Digest]) -> Layer:
        with self._locks.hold(_lock_of(diff_id)):
            if (found := self.find(diff_id, parents)) is not None:
                with refused(f"delete {tree}"):
                    remove_tree(tree)
                return found
            directory = self._workshop.make()
            try:
                with refused(f"keep {tree}"):
                    os.rename(tree, os.path.join(directory, _TREE))
                    size, entries = _measure(os.path.join(directory, _TREE))
                return self._install(directory, Layer(hex_of(diff_id), "", diff_id, size, entries), None)
            finally:
                self._workshop.discard(directory)

    def note_packed(self, layer: Layer, blob: Descriptor) -> None:
        with self._locks.hold(_lock_of(layer.diff_id)), self._locks.hold(STORE, shared=True):
            found = self.about(layer.key)
            if found is not None and found.blob != blob:
                path = os.path.join(self._places.layer(layer.key), _ABOUT)
                with refused(f"write {path}"):
                    replace_file(path, _written(replace(found, blob=blob)))

    def sync(self, layers: Iterable[Layer]) -> None:
        """Everything that was unpacked is on the disk, and so are the marks that say it."""
        new = [self._places.layer(layer.key) for layer in layers if not self.synced(layer.key)]
        if not new:
            return
        with refused(f"write to {self._places.root}"):
            fd = os.open(self._places.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
                for path in new:
                    os.close(os.open(os.path.join(path, _SYNCED), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o400))
                syncfs(fd)
            finally:
                os.close(fd)

    def _install(self, directory: str, layer: Layer, blob: Descriptor | None) -> Layer:
        target = self._places.layer(layer.key)
        with refused(f"write {target}"):
            about = _written(Installed(layer, self.boot(), blob))
            replace_file(os.path.join(directory, _ABOUT), about, durable=False)
            with self._locks.hold(STORE, shared=True):
                self._places.ensure("layers")
                self._places.trash(target)  # One that is not usable: `find` looked under this lock.
                os.rename(directory, target)
        return replace(layer, path=os.path.join(target, _TREE))


def chain_id(diff_id: Digest, parents: Sequence[Digest]) -> Digest:
    """What a layer and all below it are called by (image-spec, config.md, "Layer ChainID")."""
    chain = ""
    for one in (*parents, diff_id):
        chain = f"sha256:{hashlib.sha256(f'{chain} {one}'.encode()).hexdigest()}" if chain else one
    return Digest(chain)


def _keys(diff_id: Digest, parents: Sequence[Digest]) -> tuple[str, ...]:
    return (hex_of(diff_id), hex_of(chain_id(diff_id, parents))) if parents else (hex_of(diff_id),)


def _lock_of(diff_id: Digest) -> str:
    return "layer-" + diff_id.replace(":", "-")


def _written(found: Installed) -> bytes:
    return sealed(to_json(replace(found, layer=replace(found.layer, path=""))))


def _measure(tree: str) -> tuple[int, int]:
    """Bytes of the files below `tree` (each once), and how many entries it has; of any depth. Raises OSError."""
    size = entries = 0
    seen: set[int] = set()
    current = os.open(tree, _DIRECTORY)
    ahead: list[list[str]] = []
    try:
        while True:
            below = []
            with os.scandir(current) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    elif entry.is_file(follow_symlinks=False) and entry.inode() not in seen:
                        seen.add(entry.inode())
                        size += entry.stat(follow_symlinks=False).st_size
            ahead.append(below)
            while not ahead[-1]:
                ahead.pop()
                if not ahead:
                    return size, entries
                current = _moved(current, "..")
            current = _moved(current, ahead[-1].pop())
    finally:
        os.close(current)


def _moved(directory: int, name: str) -> int:
    new = os.open(name, _DIRECTORY, dir_fd=directory)
    os.close(directory)
    return new
