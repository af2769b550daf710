"""Images of the store: looked for by name, id or archive; had by a pull, a build or a load.

    the policy says    and there is a build                    and there is none
    missing            built, unless it is here                pulled, unless it is here
    always, refresh    pulled; built if that fails             pulled (refresh: if the last time is long enough ago)
    build              built                                   as missing
    never              only if it is here                      only if it is here

An archive is known by where it lies and by its file's stat: one that was written anew is loaded anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping

import trio

from orchestrator.contracts.images import BuildImage, Image, ImageRequest, Known, Missing, Progress
from orchestrator.errors import OperationError
from orchestrator.images.reference import Archive, IdReference, Named
from orchestrator.images.spec.config import container_config
from orchestrator.images.spec.digest import short
from orchestrator.images.spec.platform import parse_platform, runs
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.together import in_thread

Asked = Named | Archive | IdReference


def image_of(reference: str, stored: StoredImage) -> Image:
    """What a container needs of it. Raises OperationError for a configuration that makes no sense. A layer that comes twice
    (those that change nothing are all the same) counts where it is on top: overlayfs refuses the same directory again."""
    return Image(
        reference=reference,
        identity=stored.id,
        lowers=tuple(dict.fromkeys(layer.path for layer in reversed(stored.layers))),
        config=container_config(stored.config),
        passwd=stored.passwd,
        group=stored.group,
    )


class StoredImages:
    """Of one store; any number of requests at once."""

    def __init__(self, store: Store, build: BuildImage | None = None) -> None:
        self.store = store
        self._build = build
        self._making: dict[str, trio.Lock] = {}

    async def inspect(self, request: ImageRequest, reference: Asked) -> Known | Missing:
        """See `Images.inspect`."""
        return await trio.to_thread.run_sync(self._look, request, reference)

    async def obtain(self, request: ImageRequest, reference: Asked, progress: Progress) -> Image:
        """See `Images.obtain`."""
        stored = await self.had(request, reference, progress)
        return await trio.to_thread.run_sync(image_of, request.reference, stored)

    async def had(self, request: ImageRequest, reference: Asked, progress: Progress) -> StoredImage:
        """As `obtain`, as the store has it."""
        async with self._making.setdefault(request.reference, trio.Lock()):
            found = await self.inspect(request, reference)
            if isinstance(found, Missing) or found.due:
                return await self._way(request, reference)(progress)
            return await trio.to_thread.run_sync(self._found, reference, request)

    async def pull(self, named: Named, platform: str, environ: Mapping[str, str], progress: Progress) -> StoredImage:
        """From its registry, whether it is here or not. `environ`: where its settings and credentials are looked for (HOME,
        DOCKER_CONFIG, PYSTACK_CONFIG_DIR, ...). Raises as `registry.pull`."""
        from orchestrator.images.registry.credentials import Credentials
        from orchestrator.images.registry.pull import pull
        from orchestrator.images.registry.settings import load_settings

        wanted = parse_platform(platform) if platform else None
        settings, credentials = load_settings(environ), Credentials(environ)
        return await pull(self.store, named, wanted, progress, settings=settings, credentials=credentials)

    async def load(self, archive: Archive, base_dir: str, progress: Progress) -> StoredImage:
        """The image in the archive, under the name that `inspect` knows it by."""
        from orchestrator.images.transports.loading import load

        path = os.path.join(base_dir, archive.path)
        at = _note(archive, path)
        found = Archive(archive.transport, path, archive.name)
        try:
            images = await in_thread(lambda told, check: load(self.store, found, told, check=check), progress)
        except OperationError as error:
            raise OperationError(f"{archive.full}: {error.message}", hint=error.hint) from error
        if len(images) != 1:
            raise OperationError(
                f"{archive.full} has {len(images)} images", hint=f"say which: {archive.transport}:{archive.path}:NAME"
            )
        await trio.to_thread.run_sync(self.store.name, at, images[0].id)
        return images[0]

    def _way(self, request: ImageRequest, reference: Asked) -> Callable[[Progress], Awaitable[StoredImage]]:
        async def loaded(progress: Progress) -> StoredImage:
            assert isinstance(reference, Archive)
            stored = await self.load(reference, request.base_dir, progress)
            if not _fits(stored, request.platform):
                raise _unfit(request, stored)
            return stored

        async def pulled(progress: Progress) -> StoredImage:
            assert isinstance(reference, Named)
            try:
                return await self.pull(reference, request.platform, request.environ, progress)
            except OperationError as error:
                if request.build is None or self._build is None:
                    raise
                progress(f"{error.message}: it is built instead")
                return await built(progress)

        async def built(progress: Progress) -> StoredImage:
            assert request.build is not None
            assert self._build is not None
            await self._build(request, progress)
            return await trio.to_thread.run_sync(self._found, reference, request)

        if isinstance(reference, Archive):
            return loaded
        if request.build is not None and self._build is not None and request.pull_policy.when in ("missing", "build"):
            return built
        return pulled

    def _found(self, reference: Asked, request: ImageRequest) -> StoredImage:
        stored = self._find(reference, request)
        if stored is None:
            raise OperationError(f'image "{request.reference}" was made and is not here any more')
        return stored

    def _find(self, reference: Asked, request: ImageRequest) -> StoredImage | None:
        match reference:
            case IdReference():
                return self.store.get(reference.digest)
            case Archive():
                name = self.store.names().get(_note(reference, os.path.join(request.base_dir, reference.path)))
                return self.store.get(name.image) if name is not None else None
            case _:
                return self.store.find(reference.full)

    def _look(self, request: ImageRequest, reference: Asked) -> Known | Missing:
        stored = self._find(reference, request)
        if stored is not None and not _fits(stored, request.platform):
            if not isinstance(reference, Named):
                raise _unfit(request, stored)
            stored = None
        if stored is None:
            return Missing(request.reference, self._why_missing(request, reference))
        return Known(image_of(request.reference, stored), self._due(request, reference))

    def _why_missing(self, request: ImageRequest, reference: Asked) -> str:
        """Raises OperationError when nothing can be done about it."""
        if isinstance(reference, IdReference):
            raise OperationError(
                f'image "{short(reference.digest)}" is not here', hint="`pystack image ls` lists those that are"
            )
        if isinstance(reference, Archive):
            return "it has not been loaded"
        if request.pull_policy.when == "never":
            hint = f"`pystack image pull {reference.familiar}` gets it, whatever the pull policy says"
            raise OperationError(f'image "{reference.familiar}" is not here, and is never to be pulled', hint=hint)
        return "it has not been built" if request.build is not None and self._build is not None else "it is not here yet"

    def _due(self, request: ImageRequest, reference: Asked) -> str:
        policy = request.pull_policy
        if not isinstance(reference, Named):
            return ""
        if policy.when == "build" and request.build is not None and self._build is not None:
            return "it is built each time"
        if policy.when == "always":
            return "it is pulled each time"
        if policy.when == "refresh" and policy.refresh_s is not None:
            name = self.store.names().get(reference.full)
            if name is None or time.time() - name.at_s >= policy.refresh_s:
                return "it was pulled long enough ago"
        return ""


def _fits(stored: StoredImage, platform: str) -> bool:
    """Whether it is for `platform`, or for one whose programs run there; "": nobody asked."""
    found = stored.config.platform
    return not platform or any(
        (found.os, found.architecture) == (one.os, one.architecture) and found.variant in ("", one.variant)
        for one in runs(parse_platform(platform))
    )


def _unfit(request: ImageRequest, stored: StoredImage) -> OperationError:
    message = f'image "{request.reference}" is for {stored.config.platform}, and not for {request.platform}'
    return OperationError(message, hint="leave platform out, or name an image that there is for it")


def _note(archive: Archive, path: str) -> str:
    """The name in the store of what was loaded from the archive as it is now. Raises OperationError if there is none."""
    stands_for = os.path.join(path, "index.json" if archive.transport == "oci" else "manifest.json")
    try:
        found = os.stat(stands_for if os.path.isdir(path) else path)
    except OSError as exc:
        raise OperationError(f'image "{archive.full}": cannot read {path}: {exc.strerror}') from exc
    return f"{archive.transport}:{path}:{archive.name}#{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
