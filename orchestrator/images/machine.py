"""The images of a machine: `contracts.images.Images` for every kind of reference.

The host's and directories (``host``, ``rootfs:DIR``) need no store. What is about the store, registries and archives is
imported when the first reference asks for it: most stacks' supervisors start without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import trio

from orchestrator.contracts.images import BuildImage, Image, ImageRequest, Known, Missing, Progress
from orchestrator.errors import InputError, OperationError
from orchestrator.images.host import HOST_LABEL, HostImage
from orchestrator.images.reference import HostReference, RootfsReference, parse_reference
from orchestrator.images.rootfs import resolve_rootfs
from orchestrator.model.build import PullPolicy
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.images.store.values import StoredImage
    from orchestrator.images.stored import StoredImages


class MachineImages:
    """`images_dir` is shared by all projects of a data directory. `build`: makes an image from its ``build:``; None where
    nothing is built."""

    def __init__(self, images_dir: str, *, host_root: str = "/", build: BuildImage | None = None) -> None:
        self._images_dir = images_dir
        self._host = HostImage(images_dir, host_root)
        self._looking = trio.Lock()
        self._build = build
        self._stored: StoredImages | None = None

    async def inspect(self, request: ImageRequest) -> Known | Missing:
        """See `Images.inspect`."""
        match parse_reference(request.reference):
            case HostReference():
                if request.platform:
                    _check_platform(request.platform)
                return await self._look()
            case RootfsReference() as rootfs:
                return Known(await trio.to_thread.run_sync(resolve_rootfs, rootfs, request.base_dir))
            case other:
                found = await self.stored.inspect(request, other)
                return await self._seen_on_host(request, found) if isinstance(found, Known) else found

    async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
        """See `Images.obtain`."""
        reference = parse_reference(request.reference)
        if not isinstance(reference, (HostReference, RootfsReference)):
            return await self._on_host(request, await self.stored.obtain(request, reference, progress), progress)
        found = await self.inspect(request)
        if isinstance(found, Known):
            return found.image
        progress(f"making the image {request.reference}: {found.reason}")
        async with self._looking:
            return await trio.to_thread.run_sync(self._host.make)

    async def base(
        self, reference: str, platform: str, environ: Mapping[str, str], progress: Progress, *, newer: bool = False
    ) -> StoredImage | Image:
        """What a build starts from, or copies from (`build.bases.Bases`). `environ`: as of a request. `newer`: pulled
        again, though it is here."""
        asked = parse_reference(reference)
        policy = PullPolicy("always" if newer else "missing")
        request = ImageRequest(reference, os.getcwd(), platform, policy, environ=environ)
        if isinstance(asked, (HostReference, RootfsReference)):
            return await self.obtain(request, progress)
        return await self.stored.had(request, asked, progress)

    @property
    def stored(self) -> StoredImages:
        """What lies in the store, and the ways into it."""
        if self._stored is None:
            from orchestrator.images.store.store import Store
            from orchestrator.images.stored import StoredImages

            self._stored = StoredImages(Store(self._images_dir), self._build)
        return self._stored

    async def _seen_on_host(self, request: ImageRequest, found: Known) -> Known | Missing:
        """What was built on ``host`` has that image's mounts, and its restriction; as long as that image is the same."""
        built_on = found.image.config.labels.get(HOST_LABEL)
        if built_on is None:
            return found
        host = await self._look()
        if isinstance(host, Missing):
            return Missing(request.reference, host.reason)
        if host.image.identity != built_on:
            return Missing(request.reference, _check_again(request))
        return Known(_mounted(found.image, host.image), found.due)

    async def _on_host(self, request: ImageRequest, image: Image, progress: Progress) -> Image:
        """As `_seen_on_host`, and built again if that is needed."""
        built_on = image.config.labels.get(HOST_LABEL)
        if built_on is None:
            return image
        host = await self.obtain(ImageRequest("host", "/"), progress)
        if host.identity != built_on:
            progress(f"{request.reference}: {_check_again(request)}")
            again = replace(request, pull_policy=PullPolicy("build"))
            image = await self.stored.obtain(again, parse_reference(request.reference), progress)  # type: ignore[arg-type]
        return _mounted(image, host)

    async def _look(self) -> Known | Missing:
        """Once for all services that ask at the same time."""
        async with self._looking:
            if (image := self._host.remembered()) is None:
                found = await trio.to_thread.run_sync(self._host.look)
                return Missing("host", found) if isinstance(found, str) else Known(found)
            return Known(image)


def _check_platform(text: str) -> None:
    """Raises InputError for another one than this machine's: what is not asked for by a name cannot be had for it."""
    from orchestrator.images.spec.platform import host_platform, parse_platform, runs

    host = host_platform()
    if host not in runs(parse_platform(text)):
        raise InputError(
            f'image "host" is this machine\'s own programs, for {host}, and none for {text}',
            hint="leave platform out, or name an image that there is for it",
        )


def _mounted(image: Image, host: Image) -> Image:
    return replace(image, mounts=host.mounts, no_new_privileges=host.no_new_privileges)


def _check_again(request: ImageRequest) -> str:
    """Why it has to be built again. Raises OperationError when nobody knows how."""
    if request.build is None:
        raise OperationError(
            f'image "{request.reference}" was built on this machine\'s own programs, and they are others now',
            hint="build it again",
        )
    return "this machine's own programs have changed since it was built"
