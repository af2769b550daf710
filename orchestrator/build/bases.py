"""What a stage begins with: nothing, another stage, an image of the store, the machine's own system, or a directory.

An image that lies outside of the store (``host``, ``rootfs:DIR``) becomes layers first: what is built on it must not change
when a directory does. The host image needs ``/usr`` bound as well, which no layer has: what is built on it says so by
`HOST_LABEL`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.build.cache import StepCache, key_of
from orchestrator.build.configuration import SCRATCH, Config, inherited
from orchestrator.contracts.images import Image, ImageMount, Progress
from orchestrator.errors import HostError
from orchestrator.images.host import HOST_LABEL
from orchestrator.images.spec.config import History
from orchestrator.images.spec.digest import Digest, digest, digest_of
from orchestrator.images.spec.platform import Platform
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import Layer, StoredImage
from orchestrator.images.unpack.merged import Merged
from orchestrator.images.unpack.packing import write_tree
from orchestrator.kernel.trees import copy_tree
from orchestrator.values import frozen

_SMALL_FILE = 1 << 20


class Bases(Protocol):
    """Who obtains the images that a Dockerfile names: `images.stored`."""

    async def base(self, reference: str, platform: str, progress: Progress) -> StoredImage | Image:
        """`reference`: as FROM or --from has it, or a named context's (``docker-image://REF`` without its scheme,
        ``oci:DIR``, ``rootfs:DIR``, ``service:NAME`` as written). `platform`: ``linux/arm64``; "": the build's. Raises
        OperationError, InputError."""
        ...


@frozen
class Ground:
    """What lies below a stage's next step. `layers`: lowest first. `history`: of all of them. `mounts`, `confined`: of the
    host image (`Image.no_new_privileges`). `revision`: changes when what is mounted does."""

    layers: tuple[Layer, ...] = ()
    config: Config = SCRATCH
    history: tuple[History, ...] = ()
    platform: Platform | None = None
    triggers: tuple[str, ...] = ()
    mounts: tuple[ImageMount, ...] = ()
    confined: bool = False
    revision: str = ""
    author: str = ""

    @property
    def lowers(self) -> tuple[str, ...]:
        """Topmost first. A layer that comes twice is there once: all of the lower one is hidden by the upper, and overlayfs
        refuses it."""
        return tuple(dict.fromkeys(layer.path for layer in reversed(self.layers)))

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def identity(self) -> str:
        """Of the file system alone."""
        return digest_of("\n".join((*self.diff_ids, self.revision)).encode())


def ground_of_stored(image: StoredImage) -> Ground:
    return Ground(
        image.layers,
        inherited(image.config.config),
        image.config.history,
        image.config.platform,
        tuple(image.config.config.get("OnBuild") or ()),
        author=image.config.author,
    )


def ground_of_directories(image: Image, store: Store, cache: StepCache) -> Ground:
    """Of an image outside of the store, its directories imported. Blocking. Raises HostError."""
    layers: list[Layer] = []
    for lower in reversed(image.lowers):
        layers.append(_imported(lower, image, store, cache, tuple(layer.diff_id for layer in layers)))
    config = dict(SCRATCH)
    found = image.config
    if found.environment:
        config["Env"] = [f"{name}={value}" for name, value in found.environment.items()]
    if image.mounts:
        config["Labels"] = {HOST_LABEL: image.identity}
    history = tuple(History(created_by=f"FROM {image.reference}") for _ in layers)
    return Ground(
        tuple(layers),
        config,
        history,
        mounts=image.mounts,
        confined=image.no_new_privileges,
        revision=_revision(image),
    )


def accounts(lowers: tuple[str, ...]) -> tuple[bytes, bytes]:
    """passwd and group as a stage has them by now; b"" for what is missing or no small file. Blocking."""
    with Merged(lowers) as view:
        return _small_file(view, "/etc/passwd"), _small_file(view, "/etc/group")


def _small_file(view: Merged, path: str) -> bytes:
    try:
        with view.open(path) as file:
            data = file.read(_SMALL_FILE + 1)
    except OSError:
        return b""
    return data if len(data) <= _SMALL_FILE else b""


class Nowhere(io.RawIOBase):
    """Takes what only its digest is wanted of."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def diff_id_of(tree: str) -> Digest:
    """Of a finished layer's tree. Blocking. Raises HostError."""
    try:
        return digest(write_tree(tree, Nowhere()).diff_id)  # type: ignore[arg-type]
    except OSError as exc:
        raise HostError(f"cannot read {exc.filename or tree}: {exc.strerror}") from exc


def _imported(directory: str, image: Image, store: Store, cache: StepCache, parents: tuple[Digest, ...]) -> Layer:
    """The directory as a layer of the store, copied unless one of the same content is there. The host image's is named by
    its content; any other has to be read each time."""
    named = directory if image.mounts else diff_id_of(directory)
    key = key_of("import", named, image.identity if image.mounts else "")
    known = cache.layer(key, parents)
    if known is not None:
        return known.layer
    place = store.tmp()
    try:
        tree = os.path.join(place, "fs")
        os.mkdir(tree, 0o755)
        _copy(directory, tree)
        layer = cache.adopt(tree, diff_id_of(tree), parents)
    except OSError as exc:
        raise HostError(f"cannot copy {exc.filename or directory} into the store: {exc.strerror}") from exc
    finally:
        store.discard(place)
    cache.keep_layer(key, layer, "")
    return layer


def _copy(directory: str, tree: str) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source = os.open(directory, flags)
    try:
        target = os.open(tree, flags)
        try:
            copy_tree(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _revision(image: Image) -> str:
    """What tells that the host's own programs are others now: the times of the directories that a package manager
    writes."""
    seen: dict[str, int] = {}
    for mount in image.mounts:
        for name in ("", "bin", "sbin", "lib", "local", "share"):
            path = os.path.join(mount.source, name)
            try:
                seen[path] = os.stat(path).st_mtime_ns
            except OSError:
                continue
    return key_of("host", seen) if seen else ""


def labelled(config: Config, labels: Mapping[str, str]) -> Config:
    return {**config, "Labels": {**(config.get("Labels") or {}), **labels}} if labels else config
