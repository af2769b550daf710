"""What instructions take from, by the names that they use: the context, named contexts, stages, images, addresses."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import trio

from orchestrator.build.bases import Bases, Ground, ground_of_directories, ground_of_stored
from orchestrator.build.cache import StepCache
from orchestrator.build.configuration import Scope
from orchestrator.build.copying import Taken
from orchestrator.build.fetching import Fetched, fetched, git_source, is_remote
from orchestrator.build.frontend import Origin, Source
from orchestrator.build.ignore import Ignore
from orchestrator.build.instructions import Add, Copy
from orchestrator.build.trees import NOTHING, Tree
from orchestrator.contracts.images import Progress
from orchestrator.errors import InputError, OperationError
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.merged import Merged

_IMAGE_SCHEMES = {"docker-image://": "", "oci-layout://": "oci:"}
"""A named context that is an image: how Dockerfiles begin it, and how `Bases` is asked for it."""
_SERVICE = "service:"


class Origins:
    """All of a build's. `contexts`: named ones: a directory, an address, or an image. `read_ignore`: the ignore file of a
    directory."""

    def __init__(
        self,
        context: str,
        ignore: Ignore,
        contexts: Mapping[str, str],
        bases: Bases,
        platform: str,
        store: Store,
        cache: StepCache,
        environment: Mapping[str, str],
        read_ignore: Callable[[str], Ignore],
        progress: Progress,
    ) -> None:
        self._context = context
        self._ignore = ignore
        self.contexts = contexts
        self._bases = bases
        self._platform = platform
        self._store = store
        self._cache = cache
        self._environment = environment
        self._read_ignore = read_ignore
        self._progress = progress
        self._grounds: dict[tuple[str, str], Ground] = {}
        self._trees: dict[str, Tree] = {}
        self._lock = trio.Lock()
        self._files = ExitStack()
        self._fetched = AsyncExitStack()

    async def close(self) -> None:
        """Let go of what was opened, and delete what was fetched."""
        self._files.close()
        await self._fetched.aclose()

    async def image(self, reference: str, platform: str = "") -> Ground:
        """Raises OperationError, InputError."""
        key = reference, platform or self._platform
        async with self._lock:
            if key not in self._grounds:
                found = await self._bases.base(reference, key[1], self._progress)
                if isinstance(found, StoredImage):
                    self._grounds[key] = ground_of_stored(found)
                else:
                    self._grounds[key] = await trio.to_thread.run_sync(
                        ground_of_directories, found, self._store, self._cache
                    )
            return self._grounds[key]

    async def context_ground(self, name: str, platform: str = "") -> Ground:
        """A named context as a base."""
        place = self.contexts[name]
        reference = image_of(place)
        if reference is None and is_remote(place):
            raise InputError(f'the context "{name}" is no image, so no stage can begin with it')
        return await self.image(reference or f"rootfs:{place}", platform)

    async def context_tree(self, name: str) -> Tree:
        """The build context (""), or a named one."""
        place = self.contexts[name] if name else self._context
        reference = image_of(place) if name else None
        if reference is not None:
            return self.ground_tree(f'the context "{name}"', await self.image(reference))
        async with self._lock:
            if name not in self._trees:
                label = f'the context "{name}"' if name else "the build context"
                directory = place
                if is_remote(place):
                    directory = await self._remote_context(place)
                if not os.path.isdir(directory):
                    raise OperationError(f"{label} is no directory: {directory}")
                ignore = self._ignore if not name else await trio.to_thread.run_sync(self._read_ignore, directory)
                self._trees[name] = self._opened(label, (directory,), local=True, ignore=ignore)
            return self._trees[name]

    async def _remote_context(self, address: str) -> str:
        store = await self._fetched.enter_async_context(fetched(self._store, self._environment))
        source = git_source(address)
        return await (store.git(source) if source is not None else store.archive(address))

    def ground_tree(self, label: str, ground: Ground) -> Tree:
        if ground.identity not in self._trees:
            self._trees[ground.identity] = self._opened(label, ground.lowers, identity=ground.identity)
        return self._trees[ground.identity]

    def _opened(
        self, label: str, lowers: tuple[str, ...], *, local: bool = False, identity: str = "", ignore: Ignore = NOTHING
    ) -> Tree:
        merged = self._files.enter_context(Merged(lowers))
        return Tree(label, merged, lowers, local, identity, ignore)

    def fetching(self) -> AsyncIterator[Fetched]:
        raise NotImplementedError

    @property
    def environment(self) -> Mapping[str, str]:
        return self._environment

    @property
    def store(self) -> Store:
        return self._store


class Sources:
    """What the instructions of one stage mean by their names. `stage`: waits until another one is built. `meaning`: of a name
    after ``--from=``."""

    def __init__(
        self, origins: Origins, meaning: Callable[[str], Source], stage: Callable[[int], Awaitable[Ground]]
    ) -> None:
        self._origins = origins
        self._meaning = meaning
        self._stage = stage

    async def tree(self, name: str) -> Tree:
        """Raises OperationError, InputError."""
        if not name:
            return await self._origins.context_tree("")
        source = self._meaning(name)
        match source.origin:
            case Origin.CONTEXT:
                return await self._origins.context_tree(source.name)
            case Origin.STAGE:
                return self._origins.ground_tree(f'stage "{name}"', await self._stage(source.number))
            case Origin.IMAGE:
                return self._origins.ground_tree(f'image "{name}"', await self._origins.image(source.name))
            case _:
                raise InputError("scratch has nothing that could be taken")

    @asynccontextmanager
    async def fetched(self, instruction: Add | Copy) -> AsyncIterator[Fetched | None]:
        """For what an instruction has to fetch, while the block runs; nothing is made for one that fetches nothing."""
        if not isinstance(instruction, Add):
            yield None
            return
        async with fetched(self._origins.store, self._origins.environment) as place:
            yield place

    async def remote(self, instruction: Add, scope: Scope, address: str, place: Fetched) -> Taken:
        """A file, a Git repository's content. Raises OperationError, InputError."""
        checksum = scope.expand(instruction.checksum)
        source = git_source(address)
        if source is None:
            text = await place.url(address, checksum)
            if not text.name and scope.path(instruction.destination).endswith("/"):
                raise InputError(f"{address} has no file name", hint="give the whole destination: ADD URL /dir/NAME")
            return Taken(text=text, unpack=instruction.unpack is True)
        directory = await place.git(source, checksum, keep_git_dir=instruction.keep_git_dir)
        tree = place.opened(Tree(address, place.merged(directory), (directory,), local=True))
        return Taken(tree, tree.matches("/")[0])


def image_of(place: str) -> str | None:
    """How `Bases` is asked for a named context that is an image; None for a directory or an address."""
    for scheme, instead in _IMAGE_SCHEMES.items():
        if place.startswith(scheme):
            return instead + place.removeprefix(scheme)
    return place if place.startswith(_SERVICE) else None
