"""The builder: a `BuildSpec` becomes an image of the store.

    BuildSpec --Dockerfile read and parsed--> stages --executed--> layers and a configuration --put, named--> StoredImage

What a killed build leaves is what the store and the next build clean away by themselves: a directory below ``tmp/`` and a
place for containers (`workshop`). Building the same again makes the same image, id and all: its times are remembered by its
content.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from orchestrator.build import instructions as i
from orchestrator.build.bases import Bases, Ground, labelled
from orchestrator.build.basis import Basis
from orchestrator.build.cache import StepCache, key_of
from orchestrator.build.exchange import exchange
from orchestrator.build.failure import refused, seen_from
from orchestrator.build.fetching import is_remote
from orchestrator.build.frontend import parse, platform_arguments, unused, warn
from orchestrator.build.job import Job
from orchestrator.build.mounts import Provider
from orchestrator.build.running import Runner
from orchestrator.build.sources import IGNORE_FILE, Origins, Sources
from orchestrator.build.stages import Arguments, Stages
from orchestrator.build.steps import Stepper, Terms
from orchestrator.contracts.host import Host
from orchestrator.contracts.images import Progress
from orchestrator.errors import InputError, PystackError
from orchestrator.images.reference import parse_named
from orchestrator.images.spec.config import make_config
from orchestrator.images.spec.platform import Platform, host_platform, parse_platform
from orchestrator.images.store.leases import Lease
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.merged import Merged
from orchestrator.model.build import BuildSpec
from orchestrator.values import frozen, replace

if TYPE_CHECKING:
    from orchestrator.build.workshop import BuildContainer, Workshop

_MOST_DOCKERFILE_BYTES = 16 << 20
_OWN_NETWORK = "RUN a network of the build's own, from which this machine's loopback is not seen"
_EPOCH = "SOURCE_DATE_EPOCH"


class Builder:
    """Builds of one data directory. `here`: the directory that places are told from; None: they are absolute."""

    def __init__(self, store: Store, host: Host, data_root: str, run_root: str, *, here: str | None = None) -> None:
        self._store = store
        self._host = host
        self._data_root = data_root
        self._run_root = run_root
        self._here = here

    async def build(
        self,
        spec: BuildSpec,
        tags: Sequence[str],
        bases: Bases,
        progress: Progress,
        *,
        label: str = "",
        basis: Basis | None = None,
    ) -> StoredImage:
        """The image that `spec` means, under these names and its own. `label`: what parts of the progress begin with (a
        service). `basis` is told what is taken from outside of the contexts. A step is told as ``waiting`` with the
        instruction, ``building`` with each line that it writes, and at last ``cached``, ``done`` or ``failed``. Raises
        InputError, OperationError, HostError; nothing is left of it then."""
        names = [parse_named(tag).full for tag in dict.fromkeys((*tags, *spec.tags))]
        try:
            await trio.to_thread.run_sync(self._store.sweep)
            with self._store.lease() as lease:
                return await self._build(spec, names, bases, progress, label, lease, basis or Basis())
        except BaseExceptionGroup as group:
            error = _first(group)
            raise refused(error) if isinstance(error, OSError) else error from group
        except OSError as exc:
            raise refused(exc) from exc

    async def _build(
        self,
        spec: BuildSpec,
        names: Sequence[str],
        bases: Bases,
        progress: Progress,
        label: str,
        lease: Lease,
        basis: Basis,
    ) -> StoredImage:
        _refuse(spec)
        for sentence in _ignored(spec):
            progress(sentence)
        given = dict(spec.args)
        now_ns = time.time_ns()
        terms = Terms(now_ns, _epoch(spec, given.get(_EPOCH)))
        platform = _platform(spec)
        base = "" if is_remote(spec.context) else spec.context
        exchanged = exchange(spec.cache_from, spec.cache_to, base)
        for sentence in exchanged.passed_over:
            progress(sentence)
        cache = StepCache(self._store, lease, exchanged)
        contexts = dict(spec.additional_contexts)
        origins = Origins(
            spec.context, _ignore_files(spec), contexts, bases, str(platform), self._store, cache, progress, basis
        )
        provider = Provider(spec, self._store, self._data_root)
        try:
            dockerfile = await self._read(spec, origins)
            _warn(dockerfile, given, spec, progress)
            arguments = Arguments(given, platform_arguments(str(host_platform()), str(platform), spec.target))
            async with self._workplace() as place:
                bound = trio.Semaphore(max(1, self._host.processors))
                runner = Runner(spec, cache, provider, place.container)

                def stepper(stage: i.Stage, sources: Sources) -> Stepper:
                    fresh = spec.no_cache or stage.name in spec.no_cache_filter or str(stage.number) in spec.no_cache_filter
                    return Stepper(self._store, cache, sources, runner, terms, bound, fresh=fresh)

                stages = Stages(dockerfile, arguments, origins, stepper, progress, label)
                ground = await stages.build(spec.target)
            image = await trio.to_thread.run_sync(self._put, spec, ground, platform, terms, cache, names)
            await trio.to_thread.run_sync(cache.hand_over)
            return image
        finally:
            with trio.CancelScope(shield=True):
                await origins.close()
                await trio.to_thread.run_sync(provider.close)

    @asynccontextmanager
    async def _workplace(self) -> AsyncIterator[_Workplace]:
        async with trio.open_nursery() as nursery:
            place = _Workplace(self._host, self._data_root, self._run_root, nursery)
            try:
                yield place
            finally:
                place.close()

    async def _read(self, spec: BuildSpec, origins: Origins) -> i.Dockerfile:
        """Raises InputError."""
        if spec.dockerfile_inline is not None:
            return parse(spec.dockerfile_inline, _of_build(spec, "dockerfile_inline"))
        directory = await origins.context_directory("")
        fetched = is_remote(spec.context)
        path = spec.dockerfile if fetched else _from_context(spec)
        shown = seen_from(self._here, os.path.join(directory, path))
        text = await trio.to_thread.run_sync(_read_dockerfile, directory, path, shown)
        return parse(text, f"{spec.context}:{path}" if fetched else shown)

    def _put(
        self, spec: BuildSpec, ground: Ground, platform: Platform, terms: Terms, cache: StepCache, names: Sequence[str]
    ) -> StoredImage:
        """Blocking."""
        config = labelled(ground.config, dict(spec.labels))
        platform = ground.platform or platform
        timeless = [[entry.created_by, entry.empty_layer, entry.comment, entry.author] for entry in ground.history]
        key = key_of("image", config, ground.diff_ids, timeless, str(platform), ground.author, terms.latest_s)
        created, history = terms.created, ground.history
        times = None if spec.no_cache else cache.value(key)
        if isinstance(times, list) and len(times) == len(history) + 1 and all(isinstance(text, str) for text in times):
            created = times[0]
            history = tuple(replace(entry, created=text) for entry, text in zip(history, times[1:], strict=True))
        else:
            cache.keep_value(key, [created, *(entry.created for entry in history)])
        raw = make_config(platform, config, ground.diff_ids, history, created=created, author=ground.author)
        image = self._store.put(raw)
        for name in names:
            self._store.name(name, image.id)
        found = self._store.get(image.id)
        return image if found is None else found


class _Workplace:
    """A `Workshop`, once a RUN has to run: what it stands on is not loaded before."""

    def __init__(self, host: Host, data_root: str, run_root: str, nursery: trio.Nursery) -> None:
        self._host = host
        self._data_root = data_root
        self._run_root = run_root
        self._nursery = nursery
        self._workshop: Workshop | None = None

    @asynccontextmanager
    async def container(self, job: Job) -> AsyncIterator[BuildContainer]:
        if self._workshop is None:
            from orchestrator.build.workshop import Workshop

            self._workshop = Workshop(self._host, self._data_root, self._run_root, self._nursery)
        async with self._workshop.container(job) as container:
            yield container

    def close(self) -> None:
        if self._workshop is not None:
            self._workshop.close()


@frozen
class _Refusal:
    """`wanted`: whether `spec` asks for it."""

    field: str
    message: str
    hint: str


def _refuse(spec: BuildSpec) -> None:
    """What is asked for and cannot be had. Raises InputError."""
    refusals = []
    if spec.privileged or "security.insecure" in spec.entitlements:
        field = "privileged" if spec.privileged else "entitlements"
        hint = "leave it out: RUN has the rights of any container"
        refusals.append(_Refusal(field, "a build gets no extended rights", hint))
    if len(spec.platforms) > 1:
        hint = "name one of them, or build once for each"
        refusals.append(_Refusal("platforms", f"an image is built for one platform, not {len(spec.platforms)}", hint))
    for refusal in refusals:
        raise InputError(refusal.message, hint=refusal.hint, place=_of_build(spec, refusal.field))


def _of_build(spec: BuildSpec, attribute: str) -> str:
    """The compose path of an attribute of ``build:``."""
    return f"{spec.place or 'build'}.{attribute}"


def _ignored(spec: BuildSpec) -> list[str]:
    """What is asked for and makes no difference, in sentences."""
    told = []
    for name, text in (("provenance", spec.provenance), ("sbom", spec.sbom)):
        if text and text not in ("false", "0"):
            told.append(f"{_of_build(spec, name)}: no attestation is made")
    if spec.network == "host":
        told.append(f"{_of_build(spec, 'network')}: host gives {_OWN_NETWORK}")
    return told


def _warn(dockerfile: i.Dockerfile, given: Mapping[str, str], spec: BuildSpec, progress: Progress) -> None:
    warn(dockerfile, dockerfile.warnings, progress)
    names = unused(dockerfile, given)
    if names:
        progress(f"build arguments that no ARG declares: {', '.join(names)}")
    for stage in dockerfile.stages:
        for step in stage.instructions:
            if isinstance(step, i.Run) and step.network == "host" and spec.network != "host":
                progress(f"{dockerfile.name}:{step.place.line}: RUN --network=host gives {_OWN_NETWORK}")


def _epoch(spec: BuildSpec, text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 11:
        raise InputError(f'{_EPOCH} is "{text}", and is to be seconds since 1970', place=_of_build(spec, f"args.{_EPOCH}"))
    return int(text)


def _platform(spec: BuildSpec) -> Platform:
    return parse_platform(spec.platforms[0]) if spec.platforms else host_platform()


def _from_context(spec: BuildSpec) -> str:
    """The Dockerfile's path from the context, a directory of this machine: absolute, if it is not in it."""
    path = os.path.normpath(os.path.join(spec.context, spec.dockerfile))
    inside = os.path.relpath(path, spec.context)
    return path if inside.startswith("../") or os.path.isabs(spec.dockerfile) else inside


def _ignore_files(spec: BuildSpec) -> tuple[str, ...]:
    """Beside the Dockerfile, wherever that is; else in the context's root."""
    if spec.dockerfile_inline is not None:
        return (IGNORE_FILE,)
    path = spec.dockerfile if is_remote(spec.context) else _from_context(spec)
    return (f"{path}.dockerignore", IGNORE_FILE)


def _read_dockerfile(context: str, path: str, shown: str) -> str:
    """`path`: in the context (inside of it, whatever links there are), or absolute. Raises InputError."""
    hint = "build.dockerfile names another file, dockerfile_inline is its text"
    try:
        if os.path.isabs(path):
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise InputError(f"the Dockerfile {shown} is no regular file")
                data = file.read(_MOST_DOCKERFILE_BYTES + 1)
        else:
            with Merged((context,)) as view, view.open(path) as file:
                data = file.read(_MOST_DOCKERFILE_BYTES + 1)
    except FileNotFoundError as exc:
        raise InputError(f"there is no Dockerfile {shown}", hint=hint) from exc
    except OSError as exc:
        raise InputError(f"cannot read the Dockerfile {shown}: {exc.strerror}", hint=hint) from exc
    if len(data) > _MOST_DOCKERFILE_BYTES:
        raise InputError(f"the Dockerfile {shown} is larger than {_MOST_DOCKERFILE_BYTES >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise InputError(f"the Dockerfile {shown} is no UTF-8 text: byte {exc.start}") from exc


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell, of stages that failed together; a bug before all."""
    errors: list[BaseException] = []
    ahead: list[BaseException] = [group]
    while ahead:
        error = ahead.pop(0)
        if isinstance(error, BaseExceptionGroup):
            ahead += error.exceptions
        else:
            errors.append(error)
    bugs = [error for error in errors if not isinstance(error, (PystackError, OSError, trio.Cancelled))]
    told = [error for error in errors if isinstance(error, (PystackError, OSError))]
    return (bugs or told or errors)[0]


