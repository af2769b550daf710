"""What instructions take from, by the names that they use: the context, named contexts, stages, images, addresses."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import BinaryIO

import trio

from orchestrator.build.bases import Bases, Ground, ground_of_directories, ground_of_stored
from orchestrator.build.basis import Basis
from orchestrator.build.cache import StepCache
from orchestrator.build.configuration import Scope
from orchestrator.build.copying import Taken
from orchestrator.build.fetching import fetched, git_source, is_remote
from orchestrator.build.frontend import Origin, Source
from orchestrator.build.ignore import Ignore, parse_ignore
from orchestrator.build.instructions import Add
from orchestrator.build.trees import NOTHING, Tree
from orchestrator.contracts.images import Progress
from orchestrator.errors import InputError, OperationError
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.merged import Merged

_IMAGE_SCHEMES = {"docker-image://": "", "oci-layout://": "oci:"}
"""A named context that is an image: how Dockerfiles begin it, and how `Bases` is asked for it."""
_SERVICE = "service:"
IGNORE_FILE = ".dockerignore"
_MOST_IGNORE_BYTES = 4 << 20


class Origins:
    """All of a build's. `contexts`: named ones: a directory, an address, or an image. `ignore_files`: of the context, the
    first that is there counts: in it, or absolute."""

    def __init__(
        self,
        context: str,
        ignore_files: Sequence[str],
        contexts: Mapping[str, str],
        bases: Bases,
        platform: str,
        store: Store,
        cache: StepCache,
        progress: Progress,
        basis: Basis,
    ) -> None:
        self.basis = basis
        self._context = context
        self.ignore_files = ignore_files
        self.contexts = contexts
        self._bases = bases
        self._platform = platform
        self.store = store
        self._cache = cache
        self._progress = progress
        self._grounds: dict[tuple[str, str], Ground] = {}
        self._directories: dict[str, str] = {}
        self._locks: dict[tuple[str, str], trio.Lock] = {}
        self._lock = trio.Lock()
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Delete what was fetched."""
        await self._stack.aclose()

    async def image(self, reference: str, platform: str = "") -> Ground:
        """Raises OperationError, InputError."""
        key = reference, platform or self._platform
        async with self._locks.setdefault(key, trio.Lock()):
            if key not in self._grounds:
                found = await self._bases.base(reference, key[1], self._progress)
                if isinstance(found, StoredImage):
                    await trio.to_thread.run_sync(self._cache.hold, found.id)
                    self._grounds[key] = ground_of_stored(found)
                    if self.basis.images.setdefault(reference, found.id) != found.id:
                        self.basis.elsewhere = True  # By that name two platforms' were taken.
                else:
                    self.basis.elsewhere = True
                    self._grounds[key] = await trio.to_thread.run_sync(
                        ground_of_directories, found, self.store, self._cache
                    )
            return self._grounds[key]

    async def context_ground(self, name: str, platform: str = "") -> Ground:
        """A named context as a base."""
        place = self.contexts[name]
        reference = image_of(place)
        if reference is None and is_remote(place):
            raise InputError(f'the context "{name}" is no image, so no stage can begin with it')
        return await self.image(reference or f"rootfs:{place}", platform)

    async def context_directory(self, name: str) -> str:
        """Of the build context (""), or a named one that is no image; fetched once, if it is somewhere else."""
        place = self.contexts[name] if name else self._context
        label = f'the context "{name}"' if name else "the build context"
        async with self._lock:
            if is_remote(place):
                if name not in self._directories:
                    self._directories[name] = await self._fetch(place)
                place = self._directories[name]
        if not await trio.to_thread.run_sync(os.path.isdir, place):
            raise OperationError(f"{label} is no directory: {place}")
        return place

    async def ignores(self) -> Callable[[str], bool]:
        """Whether the build context leaves a path out. Raises InputError."""
        directory = await self.context_directory("")

        def read() -> Ignore:
            with Merged((directory,)) as context:
                return read_ignore(context, self.ignore_files)

        return (await trio.to_thread.run_sync(read)).ignores

    async def _fetch(self, address: str) -> str:
        self.basis.elsewhere = True
        place = await self._stack.enter_async_context(fetched(self.store))
        source = git_source(address)
        return await (place.git(source) if source is not None else place.archive(address))


class Sources:
    """What the instructions of one stage mean by their names. `stage`: waits until another one is built. `meaning`: of a
    name after ``--from=``."""

    def __init__(
        self, origins: Origins, meaning: Callable[[str], Source], stage: Callable[[int], Awaitable[Ground]]
    ) -> None:
        self._origins = origins
        self._meaning = meaning
        self._stage = stage

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[Taking]:
        """What one step takes from; closed, and what was fetched deleted, at the end of the block. Each step has trees of
        its own: they are not for two threads at once."""
        async with AsyncExitStack() as stack:
            yield Taking(self._origins, self._meaning, self._stage, stack)


class Taking:
    """Made by `Sources.taking`."""

    def __init__(
        self,
        origins: Origins,
        meaning: Callable[[str], Source],
        stage: Callable[[int], Awaitable[Ground]],
        stack: AsyncExitStack,
    ) -> None:
        self._origins = origins
        self._meaning = meaning
        self._stage = stage
        self._stack = stack
        self._trees: list[Tree] = []

    def passed_over(self) -> list[str]:
        """What was found in any of the trees and cannot be copied, in sentences."""
        return list(dict.fromkeys(sentence for tree in self._trees for sentence in tree.passed_over))

    async def tree(self, name: str) -> Tree:
        """The build context (""), or what comes after ``--from=``. Raises OperationError, InputError."""
        tree = await self._tree(name)
        self._trees.append(tree)
        return tree

    async def _tree(self, name: str) -> Tree:
        source = self._meaning(name) if name else Source(Origin.CONTEXT)
        origins = self._origins
        match source.origin:
            case Origin.CONTEXT:
                return await self._context(source.name)
            case Origin.STAGE:
                return self._of_ground(f'stage "{name}"', await self._stage(source.number))
            case Origin.IMAGE:
                return self._of_ground(f'image "{name}"', await origins.image(source.name))
            case _:
                raise InputError("scratch has nothing that could be taken")

    async def _context(self, name: str) -> Tree:
        label = f'the context "{name}"' if name else "the build context"
        reference = image_of(self._origins.contexts[name]) if name else None
        if reference is not None:
            return self._of_ground(label, await self._origins.image(reference))
        directory = await self._origins.context_directory(name)
        merged = self._stack.enter_context(Merged((directory,)))
        ignore = await trio.to_thread.run_sync(read_ignore, merged, (IGNORE_FILE,) if name else self._origins.ignore_files)
        return Tree(label, merged, (directory,), True, ignore=ignore)

    def _of_ground(self, label: str, ground: Ground) -> Tree:
        merged = self._stack.enter_context(Merged(ground.lowers))
        return Tree(label, merged, ground.lowers, False, ground.identity)

    async def remote(self, instruction: Add, scope: Scope, address: str) -> Taken:
        """A file, or a Git repository's content. Raises OperationError, InputError."""
        self._origins.basis.elsewhere = True
        place = await self._stack.enter_async_context(fetched(self._origins.store))
        checksum = scope.expand(instruction.checksum)
        source = git_source(address)
        if source is None:
            text = await place.url(address, checksum)
            if not text.name and scope.path(instruction.destination).endswith("/"):
                raise InputError(f"{address} has no file name", hint="give the whole destination: ADD URL /dir/NAME")
            return Taken(text=text, unpack=instruction.unpack is True)
        directory = await place.git(source, checksum, keep_git_dir=instruction.keep_git_dir)
        merged = self._stack.enter_context(Merged((directory,)))
        tree = Tree(address, merged, (directory,), True)
        return Taken(tree, tree.matches("/")[0])


def read_ignore(context: Merged, names: Sequence[str]) -> Ignore:
    """The first of the files `names` that is there: in the context, or absolute. Blocking. Raises InputError."""
    for name in names:
        try:
            with _opened(name) if os.path.isabs(name) else context.open(name) as file:
                data = file.read(_MOST_IGNORE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise InputError(f"cannot read {name}: {exc.strerror}", hint="it says what is not part of the context") from exc
        if len(data) > _MOST_IGNORE_BYTES:
            raise InputError(f"{name} is larger than {_MOST_IGNORE_BYTES >> 20} MiB")
        return parse_ignore(data.decode("utf-8", "surrogateescape"), name)
    return NOTHING


def _opened(path: str) -> BinaryIO:
    with Merged((os.path.dirname(path),)) as directory:
        return directory.open(os.path.basename(path))


def image_of(context: str) -> str | None:
    """How `Bases` is asked for a named context that is an image; None for a directory or an address."""
    for scheme, instead in _IMAGE_SCHEMES.items():
        if context.startswith(scheme):
            return instead + context.removeprefix(scheme)
    return context if context.startswith(_SERVICE) else None
