"""``push``: an image of the store goes to a registry.

Layers first, several at a time: what is there already is not sent, what another repository of that registry has is mounted
from there. Then the configuration, and the manifest last.
"""

from __future__ import annotations

import functools

import trio

from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import InputError, OperationError
from orchestrator.images.reference import Named, parse_named
from orchestrator.images.registry.client import Client
from orchestrator.images.registry.credentials import Credentials
from orchestrator.images.registry.faults import Fault, error_of
from orchestrator.images.registry.settings import Settings
from orchestrator.images.registry.tasks import in_threads, together
from orchestrator.images.registry.upload import upload
from orchestrator.images.registry.wire import Wire
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, short
from orchestrator.images.spec.manifest import Manifest
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.transports.packing import packed_manifest


async def push(
    store: Store,
    image: StoredImage,
    named: Named,
    progress: Progress,
    *,
    settings: Settings,
    credentials: Credentials,
) -> Digest:
    """Under the tag of `named`; the digest of the manifest, which the store's name is told if it is the image's.
    Mirrors are not asked. Raises OperationError, InputError and HostError."""
    if not named.tag or named.digest is not None:
        raise InputError(f"cannot push {named.familiar}: it has a digest", hint="push it by a tag: NAME:TAG")
    try:
        async with Wire(settings) as wire, in_threads(await trio.to_thread.run_sync(store.lease)) as lease:
            manifest = await _packed(store, lease, image, progress)
            mounts = await trio.to_thread.run_sync(_repositories, store, named, manifest)
            endpoint = settings.endpoint(named.registry)
            credential = await trio.to_thread.run_sync(credentials.find, endpoint.name, named.repository)
            also = tuple(sorted(set(mounts.values())))
            client = Client(wire, endpoint, named.repository, credential, actions="pull,push", also=also)
            await _send(client, store, manifest, mounts, named.tag, progress)
    except Fault as exc:
        raise error_of(exc, f"cannot push {named.familiar}") from exc
    digest = manifest.descriptor.digest
    if named.full in image.names:
        await trio.to_thread.run_sync(functools.partial(store.name, named.full, image.id, digest=digest))
    return digest


async def _packed(store: Store, lease: Lease, image: StoredImage, progress: Progress) -> Manifest:
    """In a thread: layers that were made here are compressed now."""

    def told(part: str | Transfer) -> None:
        trio.from_thread.run_sync(progress, part)

    work = functools.partial(packed_manifest, store, lease, image, told, check=trio.from_thread.check_cancelled)
    return await trio.to_thread.run_sync(work)


async def _send(
    client: Client, store: Store, manifest: Manifest, mounts: dict[Digest, str], tag: str, progress: Progress
) -> None:
    slots = trio.CapacityLimiter(client.bounds.uploads)

    async def send(blob: Descriptor) -> None:
        async with slots:
            await _blob(client, store, blob, mounts.get(blob.digest, ""), progress)

    await client.ping()
    layers = {blob.digest: blob for blob in manifest.layers}
    await together([functools.partial(send, blob) for blob in layers.values()])
    await send(manifest.config)
    await client.put_manifest(tag, manifest.raw, manifest.descriptor.media_type)


async def _blob(client: Client, store: Store, blob: Descriptor, mount_from: str, progress: Progress) -> None:
    part = short(blob.digest)
    progress(Transfer(part, "waiting", 0, blob.size))
    if await client.has_blob(blob.digest):
        progress(Transfer(part, "shared", blob.size, blob.size))
        return
    path = await trio.to_thread.run_sync(store.blob, blob.digest)
    if path is None:
        raise OperationError(f"blob {blob.digest} was removed while it was pushed", hint="push it again")

    def on_bytes(done: int) -> None:
        progress(Transfer(part, "pushing", done, blob.size))

    sent = await upload(client, blob, path, on_bytes, mount_from=mount_from)
    progress(Transfer(part, "done" if sent else "shared", blob.size, blob.size))


def _repositories(store: Store, named: Named, manifest: Manifest) -> dict[Digest, str]:
    """Blob -> another repository of the same registry that has it, as far as names of the store tell."""
    found: dict[Digest, str] = {}
    wanted = {blob.digest for blob in manifest.layers}
    for image in store.images():
        for name in image.names:
            other = parse_named(name)
            if other.registry == named.registry and other.repository != named.repository:
                blobs = [store.packed(layer) for layer in image.layers]
                found |= {blob.digest: other.repository for blob in blobs if blob is not None and blob.digest in wanted}
    return found
