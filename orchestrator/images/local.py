"""The images that need no registry: `contracts.images.Images` for ``host`` and ``rootfs:DIR``."""

from __future__ import annotations

from typing import assert_never

import trio

from orchestrator.contracts.images import Image
from orchestrator.images.host import HostImage
from orchestrator.images.reference import HostReference, RootfsReference, parse_reference
from orchestrator.images.rootfs import resolve_rootfs


class LocalImages:
    """`images_dir` is shared by all projects of a data directory; relative directories start at `working_dir`,
    which is the project's and may be set when another stack is brought up."""

    def __init__(self, images_dir: str, working_dir: str, *, host_root: str = "/") -> None:
        self.working_dir = working_dir
        self._host = HostImage(images_dir, host_root)
        self._making = trio.Lock()

    async def resolve(self, reference: str) -> Image:
        """See `Images.resolve`."""
        match parse_reference(reference):
            case HostReference():
                return await self._resolve_host()
            case RootfsReference() as rootfs:
                return await trio.to_thread.run_sync(resolve_rootfs, rootfs, self.working_dir)
            case other:
                assert_never(other)

    async def _resolve_host(self) -> Image:
        """Once for all services that ask at the same time."""
        async with self._making:
            if (image := self._host.cached()) is not None:
                return image
            return await trio.to_thread.run_sync(self._host.make)
