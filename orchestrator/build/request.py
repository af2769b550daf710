"""An `ImageRequest` with a build becomes an image of the store: what `images` calls when an image is to be built."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.build.basis import Basis
from orchestrator.build.builder import Builder
from orchestrator.contracts.host import Host
from orchestrator.contracts.images import Image, ImageRequest, Progress
from orchestrator.images.machine import MachineImages
from orchestrator.images.store.values import StoredImage
from orchestrator.values import frozen


@frozen
class ImageBases:
    """`build.bases.Bases` over the images of this machine. `environ`: as of a request. `newer`: pulled again, though they
    are here."""

    images: MachineImages
    environ: Mapping[str, str]
    newer: bool = False

    async def base(self, reference: str, platform: str, progress: Progress) -> StoredImage | Image:
        return await self.images.base(reference, platform, self.environ, progress, newer=self.newer)


async def build_image(
    request: ImageRequest,
    progress: Progress,
    *,
    images: MachineImages,
    host: Host,
    data_root: str,
    run_root: str,
    basis: Basis | None = None,
) -> StoredImage:
    """`basis` is told what is taken from outside of the contexts. Raises InputError, OperationError, HostError; nothing is
    left of it then."""
    assert request.build is not None
    builder = Builder(images.stored.store, host, data_root, run_root, here=request.environ.get("PWD"))
    bases = ImageBases(images, request.environ, request.build.pull)
    return await builder.build(request.build, (request.reference,), bases, progress, basis=basis)
