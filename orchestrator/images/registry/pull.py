"""``pull``: a name of a registry's becomes an image of the store.

Resolve (mirrors, then the registry) -> the platform's manifest -> configuration -> layers, several at a time, each
unpacked after those below it while others still come -> the record -> the name, last. What is there is not fetched; what
was cut goes XX
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import TypeVar

import trio

from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import OperationError
from orchestrator.images.reference import Named
from orchestrator.images.registry.client import Client
from orchestrator.images.registry.credentials import Credentials
from orchestrator.images.registry.download import fetch
from orchestrator.images.registry.faults import Fault, Kind, error_of
from orchestrator.images.registry.settings import Settings
from orchestrator.images.registry.sources import Sources, sources_of
from orchestrator.images.registry.tasks import in_threads, together
from orchestrator.images.registry.wire import Wire
from orchestrator.images.spec.config import ConfigFile, parse_config
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, short
from orchestrator.images.spec.manifest import Manifest, choose
from orchestrator.images.spec.platform import Platform, host_platform, runs
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.limits import Limits

T = TypeVar("T")

DEFAULT_LIMITS = Limits()
MOST_NESTED = 3
"""Indexes in indexes."""
_TOLD_EVERY_S = 0.05
"""Of unpacking: telling takes a turn of two threads."""
BINFMT = "/proc/sys/fs/binfmt_misc"
_QEMU = {"arm64": "aarch64", "amd64": "x86_64", "386": "i386", "mips64le": "mips64el", "loong64": "loongarch64"}
"""How QEMU's handlers call the architectures, where it differs (binfmt_misc.rst; qemu-binfmt-conf.sh)."""


async def pull(
    store: Store,
    named: Named,
    platform: Platform | None,
    progress: Progress,
    *,
    settings: Settings,
    credentials: Credentials,
    limits: Limits = DEFAULT_LIMITS,
) -> StoredImage:
    """`platform`: None for this machine's. Any number of processes may pull the same image; each layer comes once. Raises
    OperationError, InputError (credentials or certificates that cannot be read) and HostError."""
    doing = f"cannot pull {named.familiar}"
    async with Wire(settings) as wire:
        try:
            sources = await sources_of(wire, settings, named, credentials, progress)
            async with in_threads(await trio.to_thread.run_sync(store.lease)) as lease:
                return await _Pull(store, named, platform, progress, sources, lease, limits).run()
        except Fault as exc:
            raise error_of(exc, doing) from exc


class _Pull:
    """One pull. Everything that blocks happens in a thread; a cancelled one ends between two chunks."""

    def __init__(
        self,
        store: Store,
        named: Named,
        platform: Platform | None,
        progress: Progress,
        sources: Sources,
        lease: Lease,
        limits: Limits,
    ) -> None:
        self.store = store
        self.named = named
        self.asked = platform
        self.platform = platform or host_platform()
        self.progress = progress
        self.sources = sources
        self.lease = lease
        self.limits = limits
        self.slots = trio.CapacityLimiter(sources.wire.settings.bounds.downloads)

    async def run(self) -> StoredImage:
        reference = self.named.digest or self.named.tag
        if (known := await self._known(reference)) is not None:
            return known
        digest, manifest = await self._manifest(reference)
        layers = [layer.digest for layer in manifest.layers]
        await trio.to_thread.run_sync(self.lease.hold, manifest.descriptor.digest, manifest.config.digest, *layers)
        image = await trio.to_thread.run_sync(self.store.get, manifest.config.digest)
        if image is None:
            config = await self._config(manifest)
            await self._layers(manifest, config)
            put = functools.partial(self.store.put, config.raw, manifest)
            image = await trio.to_thread.run_sync(put)
        else:
            self._check_platform(image.config)
            for layer in manifest.layers:
                self.progress(Transfer(short(layer.digest), "shared", layer.size, layer.size))
        return await self._named(image, digest)

    async def _known(self, reference: str) -> StoredImage | None:
        """The image, if the registry says that the name still means what it means here: that costs no download, which
        registries count."""
        there = (await trio.to_thread.run_sync(self.store.names)).get(self.named.full)
        if there is None or there.digest is None:
            return None
        await trio.to_thread.run_sync(self.lease.hold, there.image)
        image = await trio.to_thread.run_sync(self.store.get, there.image)
        if image is None or image.config.platform not in runs(self.platform):
            return None
        if self.named.digest is None and await self.sources.head(reference) != there.digest:
            return None
        for layer in image.layers:
            self.progress(Transfer(short(layer.diff_id), "shared", layer.bytes, layer.bytes))
        return image

    async def _named(self, image: StoredImage, digest: Digest) -> StoredImage:
        await trio.to_thread.run_sync(functools.partial(self.store.name, self.named.full, image.id, digest=digest))
        found = await trio.to_thread.run_sync(self.store.get, image.id)
        if found is None:
            raise OperationError(f"image {self.named.familiar} was removed while it was pulled", hint="pull it again")
        return found

    # Manifest and configuration

    async def _manifest(self, reference: str) -> tuple[Digest, Manifest]:
        """The platform's, through indexes; with the digest of what the reference means."""
        digest, found = await self.sources.manifest(reference)
        for _ in range(MOST_NESTED):
            if isinstance(found, Manifest):
                return digest, found
            entry = self._understood(functools.partial(choose, found, self.platform))
            _, found = await self.sources.manifest(entry.digest, entry.size)
        raise self.sources.answered.fault(Kind.BAD_CONTENT, f"more than {MOST_NESTED} indexes in one another")

    async def _config(self, manifest: Manifest) -> ConfigFile:
        wanted = manifest.config
        if await trio.to_thread.run_sync(self.store.blob, wanted.digest) is not None:
            raw = await trio.to_thread.run_sync(self.store.read_blob, wanted.digest, wanted.size)
        else:
            raw = await self.sources.ask(lambda client: client.small_blob(wanted))
        config = self._understood(lambda: parse_config(raw))
        if len(config.diff_ids) != len(manifest.layers):
            told = f"its configuration has {len(config.diff_ids)} layers and its manifest {len(manifest.layers)}"
            raise self.sources.answered.fault(Kind.BAD_CONTENT, told)
        self._check_platform(config)
        return config

    def _check_platform(self, config: ConfigFile) -> None:
        """Tell, or refuse, what this machine does not run by itself."""
        found = config.platform
        if found not in runs(self.platform):
            raise OperationError(
                f"cannot pull {self.named.familiar}: it is an image for {found}, not for {self.platform}",
                hint=f"ask for it with `platform: {found}`: {_binfmt(found)}",
            )
        if found not in runs(host_platform()):
            told = f"{self.named.familiar} is an image for {found} and this machine is {host_platform()}"
            self.progress(f"{told}: {_binfmt(found)}")

    def _understood(self, read: Callable[[], T]) -> T:
        """What a document that came says. Its errors know nothing of where it came from."""
        try:
            return read()
        except OperationError as exc:
            told = f"cannot pull {self.named.familiar}: registry {self.sources.answered.endpoint.name}: {exc.message}"
            raise OperationError(told, hint=exc.hint) from exc

    # Layers

    async def _layers(self, manifest: Manifest, config: ConfigFile) -> None:
        """Bring and unpack those that are missing. A blob that occurs twice comes once."""
        diff_ids = config.diff_ids
        await trio.to_thread.run_sync(self.lease.hold, *diff_ids)
        arrived: dict[Digest, trio.Event] = {}
        wanted: list[Descriptor] = []
        for number, blob in enumerate(manifest.layers):
            there = await trio.to_thread.run_sync(self.store.layer, diff_ids[number], diff_ids[:number])
            if there is not None:
                self.progress(Transfer(short(blob.digest), "shared", blob.size, blob.size))
            elif blob.digest not in arrived:
                arrived[blob.digest] = trio.Event()
                wanted.append(blob)
                self.progress(Transfer(short(blob.digest), "waiting", 0, blob.size))

        async def unpack() -> None:
            for number, blob in enumerate(manifest.layers):
                if blob.digest in arrived:
                    await arrived[blob.digest].wait()
                    await self._unpack(blob, diff_ids[number], diff_ids[:number])

        async def bring(blob: Descriptor) -> None:
            async with self.slots:
                await self._bring(blob)
            arrived[blob.digest].set()

        await together([unpack, *(functools.partial(bring, blob) for blob in wanted)])

    async def _bring(self, blob: Descriptor) -> None:
        """Into the store, from who has it."""
        part = short(blob.digest)

        def on_bytes(done: int) -> None:
            self.progress(Transfer(part, "pulling", done, blob.size))

        await self.sources.ask(lambda client: self._from(client, blob, on_bytes))

    async def _from(self, client: Client, blob: Descriptor, on_bytes: Callable[[int], None]) -> None:
        """From one source. What an earlier process left may be what is wrong: then everything comes once more."""
        while True:
            locked = self.store.ingest(blob.digest, blob.size, on_wait=trio.from_thread.check_cancelled)
            async with in_threads(locked) as ingest:
                resumed = ingest.offset > 0
                try:
                    if not ingest.present:
                        await fetch(client, blob, ingest, on_bytes)
                        await trio.to_thread.run_sync(ingest.commit)
                    on_bytes(blob.size)
                    return
                except OperationError as exc:
                    if not resumed:
                        raise client.fault(Kind.WRONG_DIGEST, exc.message) from exc

    async def _unpack(self, blob: Descriptor, diff_id: Digest, parents: tuple[Digest, ...]) -> None:
        part = short(blob.digest)

        done, told_s = 0, 0.0

        def on_bytes(more: int) -> None:
            nonlocal done, told_s
            done += more
            trio.from_thread.check_cancelled()
            now_s = time.monotonic()
            if now_s - told_s >= _TOLD_EVERY_S:
                told_s = now_s
                trio.from_thread.run_sync(self.progress, Transfer(part, "unpacking", done, blob.size))

        self.progress(Transfer(part, "unpacking", 0, blob.size))
        work = functools.partial(self.store.unpack, blob, diff_id, parents, limits=self.limits, on_bytes=on_bytes)
        try:
            await trio.to_thread.run_sync(work)
        except OperationError as exc:
            told = f"cannot pull {self.named.familiar}: layer {part}: {exc.message}"
            raise OperationError(told, hint=exc.hint) from exc
        self.progress(Transfer(part, "done", blob.size, blob.size))


def _binfmt(platform: Platform) -> str:
    """Whether programs for `platform` run here, and what it needs."""
    if platform in runs(host_platform()):
        return "this machine runs its programs"
    name = f"qemu-{_QEMU.get(platform.architecture, platform.architecture)}"
    if os.path.exists(os.path.join(BINFMT, name)):
        return f"its programs run here through binfmt_misc and {name}, slowly"
    return f"its programs run here only once binfmt_misc has a handler {name} (Debian's qemu-user-binfmt brings it)"
