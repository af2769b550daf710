"""The images that need no registry: `contracts.images.Images` for ``host`` and ``rootfs:DIR``."""

from __future__ import annotations

from typing import assert_never

import trio

from orchestrator.contracts.images import Image, ImageRequest, Known, Missing, Progress
from orchestrator.errors import InputError
from orchestrator.images.host import HostImage
from orchestrator.images.reference import Archive, HostReference, IdReference, Named, RootfsReference, parse_reference
from orchestrator.images.rootfs import resolve_rootfs


class LocalImages:
    """`images_dir` is shared by all projects of a data directory."""

    def __init__(self, images_dir: str, *, host_root: str = "/") -> None:
        self._host = HostImage(images_dir, host_root)
        self._looking = trio.Lock()

    async def inspect(self, request: ImageRequest) -> Known | Missing:
        """See `Images.inspect`."""
        match parse_reference(request.reference):
            case HostReference():
                return await self._look()
            case RootfsReference() as rootfs:
                return Known(await trio.to_thread.run_sync(resolve_rootfs, rootfs, request.base_dir))
            case Named() | Archive() | IdReference():
                raise InputError(
                    f'image "{request.reference}" needs a registry, which is not supported yet',
                    hint="use `image: host` (this machine's own programs) or `image: rootfs:DIR` (an unpacked root file"
                    " system)",
                )
            case other:
                assert_never(other)

    async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
        """See `Images.obtain`."""
        found = await self.inspect(request)
        if isinstance(found, Known):
            return found.image
        progress(f"making the image {request.reference}: {found.reason}")
        async with self._looking:
            return await trio.to_thread.run_sync(self._host.make)

    async def _look(self) -> Known | Missing:
        """Once for all services that ask at the same time."""
        async with self._looking:
            if (image := self._host.remembered()) is None:
                found = await trio.to_thread.run_sync(self._host.look)
                return Missing("host", found) if isinstance(found, str) else Known(found)
            return Known(image)
