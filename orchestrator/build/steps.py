"""One instruction after the other: what each makes of what a stage has reached.

A change of the configuration is worked out (`configuration`). What makes a layer (RUN, COPY, ADD, a missing WORKDIR) is
looked up by its key first, and only done if nobody did it before; what it makes is finished below the store's ``tmp/`` and
moved into place, so nothing half-made is ever seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from orchestrator.build import configuration
from orchestrator.build import instructions as i
from orchestrator.build.bases import Ground, accounts, diff_id_of
from orchestrator.build.cache import StepCache, key_of
from orchestrator.build.configuration import Scope
from orchestrator.build.copying import Copier, Placing, Taken, Text
from orchestrator.build.fetching import is_remote
from orchestrator.build.frontend import expand_document
from orchestrator.build.ignore import excluding
from orchestrator.build.modes import parse_mode, parse_owner
from orchestrator.build.running import Runner
from orchestrator.build.sources import Sources, Taking
from orchestrator.build.trees import Tree
from orchestrator.errors import InputError
from orchestrator.images.spec.config import History
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import Layer
from orchestrator.values import frozen, replace

T = TypeVar("T")
_COMMENT = "pystack.dockerfile.v0"
_MOST_PASSED_OVER = 10


@frozen
class Reached:
    """What a stage has come to."""

    ground: Ground
    scope: Scope


@frozen
class Terms:
    """What is the same for all steps of a build. `latest_s`: SOURCE_DATE_EPOCH. `now_ns`: when the build began."""

    now_ns: int
    latest_s: int | None

    @property
    def created(self) -> str:
        seconds = self.now_ns // 10**9 if self.latest_s is None else self.latest_s
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@frozen
class Telling:
    """How a step tells what becomes of it. `output`: a line that it wrote. `sentence`: a warning, without its place."""

    done: Callable[[str], None]
    output: Callable[[bytes], None]
    sentence: Callable[[str], None]


@frozen
class _Selected:
    """What a COPY or ADD takes: the hash of its content, whether it is more than one thing, and whether files are among
    them; `taken` None: nobody has looked yet, because the rest was known."""

    content: str
    many: bool
    needs_directory: bool
    taken: list[Taken] | None = None


class Stepper:
    """The steps of one stage. `fresh`: nothing is taken from the cache. `bound`: how many steps work at once."""

    def __init__(
        self,
        store: Store,
        cache: StepCache,
        sources: Sources,
        runner: Runner,
        terms: Terms,
        bound: trio.Semaphore,
        *,
        fresh: bool,
    ) -> None:
        self._store = store
        self._cache = cache
        self._sources = sources
        self._runner = runner
        self._terms = terms
        self._bound = bound
        self._fresh = fresh

    async def step(self, instruction: i.Instruction, reached: Reached, telling: Telling) -> Reached:
        """Raises PystackError, without a place."""
        if configuration.changes_configuration_alone(instruction):
            scope, created_by = configuration.configure(instruction, reached.scope)
            telling.done("done")
            return self._changed(replace(reached, scope=scope), created_by)
        match instruction:
            case i.Workdir():
                return await self._workdir(instruction, reached, telling)
            case i.Copy() | i.Add():
                return await self._copy(instruction, reached, telling)
            case i.Run():
                return await self._run(instruction, reached, telling)
            case _:
                raise AssertionError(f"nobody knows how to do {type(instruction).__name__}")

    def _changed(self, reached: Reached, created_by: str) -> Reached:
        entry = History(self._terms.created, created_by, reached.scope.author, _COMMENT, empty_layer=True)
        ground = replace(reached.ground, config=reached.scope.config, history=(*reached.ground.history, entry))
        return replace(reached, ground=ground)

    def _grown(self, reached: Reached, layer: Layer, created: str, created_by: str) -> Reached:
        entry = History(created, created_by, reached.scope.author, _COMMENT)
        ground = reached.ground
        ground = replace(
            ground, layers=(*ground.layers, layer), config=reached.scope.config, history=(*ground.history, entry)
        )
        return replace(reached, ground=ground)

    async def _layer(
        self, key: str, reached: Reached, created_by: str, telling: Telling, make: Callable[[str], Awaitable[None]]
    ) -> Reached:
        """The layer of `key`; if nobody made it before, the tree that `make` makes at the path that it is given."""
        async with self._cache.making(key):
            return await self._found_or_made(key, reached, created_by, telling, make)

    async def _found_or_made(
        self, key: str, reached: Reached, created_by: str, telling: Telling, make: Callable[[str], Awaitable[None]]
    ) -> Reached:
        parents = reached.ground.diff_ids
        known = None if self._fresh else await in_thread(self._cache.layer, key, parents)
        if known is not None:
            telling.done("cached")
            return self._grown(reached, known.layer, known.created or self._terms.created, created_by)
        async with self._bound:
            telling.done("building")
            place = await in_thread(self._store.tmp)
            try:
                tree = os.path.join(place, "fs")
                await make(tree)
                diff_id = await in_thread(diff_id_of, tree)
                layer = await in_thread(self._cache.adopt, tree, diff_id, parents)
            finally:
                with trio.CancelScope(shield=True):
                    await in_thread(self._store.discard, place)
        await in_thread(self._cache.keep_layer, key, layer, self._terms.created)
        telling.done("done")
        return self._grown(reached, layer, self._terms.created, created_by)

    # WORKDIR

    async def _workdir(self, instruction: i.Workdir, reached: Reached, telling: Telling) -> Reached:
        path = reached.scope.path(instruction.path).rstrip("/") or "/"
        scope = replace(reached.scope, config={**reached.scope.config, "WorkingDir": path})
        after = replace(reached, scope=scope)
        if await in_thread(is_directory, reached.ground.lowers, path):
            telling.done("done")
            return self._changed(after, f"WORKDIR {path}")
        owner = None
        if user := scope.config.get("User"):
            owner = parse_owner(user, *await in_thread(accounts, reached.ground.lowers), written="WORKDIR is USER's: ")
        key = key_of("workdir", reached.ground.identity, path, owner, self._terms.latest_s)
        placing = Placing(path, owner, now_ns=self._terms.now_ns, latest_s=self._terms.latest_s)

        async def make(tree: str) -> None:
            await in_thread(_make_directory, tree, reached.ground.lowers, placing)

        return await self._layer(key, after, f"WORKDIR {path}", telling, make)

    # COPY and ADD

    async def _copy(self, instruction: i.Copy | i.Add, reached: Reached, telling: Telling) -> Reached:
        scope, ground = reached.scope, reached.ground
        owner = None
        if chown := scope.expand(instruction.chown):
            owner = parse_owner(chown, *await in_thread(accounts, ground.lowers))
        chmod = scope.expand(instruction.chmod)
        destination = scope.path(instruction.destination)
        placing = Placing(
            destination, owner, parse_mode(chmod) if chmod else None, self._terms.now_ns, self._terms.latest_s
        )
        link = instruction.link
        async with self._sources.taking() as taking:
            tree = await taking.tree(instruction.from_ if isinstance(instruction, i.Copy) else "")
            selected = await self._selected(instruction, scope, taking, tree)
            _tell(taking.passed_over(), telling)
            if selected.needs_directory and not destination.endswith("/"):
                await self._require_directory(instruction, destination, ground)
            below = "" if link else ground.identity
            key = key_of(
                "copy", below, selected.content, destination, owner, chmod, link, selected.many, self._terms.latest_s
            )
            lowers = () if link else ground.lowers

            async def make(made: str) -> None:
                taken = selected.taken
                if taken is None:
                    taken = await self._taken(instruction, scope, taking, tree)
                await in_thread(_copy_all, made, lowers, placing, taken, selected.many)

            return await self._layer(key, reached, _described(instruction, scope), telling, make)

    async def _require_directory(self, instruction: i.Copy | i.Add, destination: str, ground: Ground) -> None:
        if not await in_thread(is_directory, ground.lowers, destination):
            hint = f"end it with a slash: {instruction.destination}/"
            raise InputError(f"{_verb(instruction)} has several sources, and {destination} is no directory", hint=hint)

    async def _selected(self, instruction: i.Copy | i.Add, scope: Scope, taking: Taking, tree: Tree) -> _Selected:
        """Of a tree that cannot change it is remembered, so that nobody has to walk through it."""
        memo = ""
        if isinstance(instruction, i.Copy) and tree.identity and not instruction.documents:
            sources = [scope.expand(word) for word in instruction.sources]
            excludes = [scope.expand(pattern) for pattern in instruction.excludes]
            memo = key_of("selected", tree.identity, sources, excludes, instruction.parents)
            match await in_thread(self._cache.value, memo):
                case [str(content), bool(many), bool(needs_directory)]:
                    return _Selected(content, many, needs_directory)
        taken = await self._taken(instruction, scope, taking, tree)
        many = len(taken) > 1
        needs_directory = many and not all(_is_tree(each) for each in taken)
        content = await in_thread(self._cache.content, taken)
        if memo:
            await in_thread(self._cache.keep_value, memo, [content, many, needs_directory])
        return _Selected(content, many, needs_directory, taken)

    async def _taken(self, instruction: i.Copy | i.Add, scope: Scope, taking: Taking, tree: Tree) -> list[Taken]:
        excluded = excluding(scope.expand(pattern) for pattern in instruction.excludes)
        parents = isinstance(instruction, i.Copy) and instruction.parents
        taken: list[Taken] = []
        for word in instruction.sources:
            source = scope.expand(word)
            if isinstance(instruction, i.Add) and is_remote(source):
                taken.append(await taking.remote(instruction, scope, source))
                continue
            unpack = isinstance(instruction, i.Add) and instruction.unpack is not False
            find = tree.with_parents if parents else tree.matches
            taken += [Taken(tree, match, unpack=unpack) for match in await in_thread(find, source, excluded)]
        for document in instruction.documents:
            text = expand_document(document, scope.variables)
            taken.append(Taken(text=Text(document.name, text.encode("utf-8", "surrogateescape"))))
        return taken

    # RUN

    async def _run(self, instruction: i.Run, reached: Reached, telling: Telling) -> Reached:
        async with self._sources.taking() as taking:
            prepared = await self._runner.prepare(
                instruction, reached.ground, reached.scope, taking, self._terms.latest_s
            )
            key = await in_thread(self._runner.key, prepared)
            _tell(taking.passed_over(), telling)

            async def make(tree: str) -> None:
                await self._runner.run(prepared, tree, telling.output)

            return await self._layer(key, reached, prepared.created_by, telling, make)


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Blocking `work`, off the event loop. It is waited for, also by who is cancelled."""
    return await trio.to_thread.run_sync(partial(work, *arguments))


def is_directory(lowers: Sequence[str], path: str) -> bool:
    from orchestrator.images.unpack.merged import Merged

    with Merged(lowers) as merged:
        view = Tree("", merged, tuple(lowers), local=False)
        return view.is_directory(path)


def _make_directory(tree: str, lowers: Sequence[str], placing: Placing) -> None:
    os.mkdir(tree, 0o755)
    with Copier(tree, lowers, placing) as copier:
        copier.make_directory(placing.destination)
        copier.finish()


def _copy_all(tree: str, lowers: Sequence[str], placing: Placing, taken: Sequence[Taken], many: bool) -> None:
    os.mkdir(tree, 0o755)
    with Copier(tree, lowers, placing) as copier:
        for each in taken:
            copier.copy(each, many=many)
        copier.finish()


def _tell(sentences: Sequence[str], telling: Telling) -> None:
    for sentence in sentences[:_MOST_PASSED_OVER]:
        telling.sentence(sentence)
    if len(sentences) > _MOST_PASSED_OVER:
        telling.sentence(f"and {len(sentences) - _MOST_PASSED_OVER} more")


def _is_tree(taken: Taken) -> bool:
    return taken.match is not None and taken.match.is_directory


def _verb(instruction: i.Instruction) -> str:
    return type(instruction).__name__.upper()


def _described(instruction: i.Copy | i.Add, scope: Scope) -> str:
    flags = [f"--from={instruction.from_}"] if isinstance(instruction, i.Copy) and instruction.from_ else []
    given = (("chown", instruction.chown), ("chmod", instruction.chmod))
    flags += [f"--{name}={scope.expand(word)}" for name, word in given if word]
    sources = [scope.expand(word) for word in instruction.sources]
    sources += [f"<<{document.name}" for document in instruction.documents]
    return " ".join([_verb(instruction), *flags, *sources, scope.expand(instruction.destination)])
