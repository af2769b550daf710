"""The work of ``pystack build``: the images of the stack's services, from their Dockerfiles."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from orchestrator.cli.dryrun import told_instead
from orchestrator.cli.imagework import carry_out, data_root_of, located, run_root_of
from orchestrator.cli.selection import check_images
from orchestrator.cli.wanted_images import caller_variables, with_epoch
from orchestrator.compose.model.choice import select
from orchestrator.contracts.images import ImageRequest, Transfer
from orchestrator.errors import InputError, PystackError
from orchestrator.model.build import BuildSpec, built_before, with_images
from orchestrator.model.names import ServiceName
from orchestrator.values import frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.build.basis import Basis
    from orchestrator.cli.render.transfers import Transfers
    from orchestrator.cli.settings import Settings
    from orchestrator.cli.unchanged import Note, Outcome, Seen
    from orchestrator.images.spec.digest import Digest
    from orchestrator.images.store.store import Store
    from orchestrator.images.store.values import StoredImage
    from orchestrator.model.project import Project


@frozen
class Wanted:
    """The options of the command."""

    services: tuple[str, ...]
    build_args: tuple[str, ...]
    no_cache: bool
    pull: bool
    push: bool
    quiet: bool
    ssh: tuple[str, ...]
    with_dependencies: bool
    check: bool
    printed: bool


def build_services(settings: Settings, wanted: Wanted, note: Note | None) -> int:
    """Build the images of services, those that others take something from first, else all at once. `note`: where to note
    what that followed from."""
    from orchestrator.cli.commands.exec import variables_of
    from orchestrator.compose.load import load

    loaded = load(settings.request(wanted.services))
    warnings = tuple(warning.text() for warning in loaded.warnings)
    settings.warn(warnings)
    project = with_epoch(loaded.project, settings.environ)
    chosen = select(project, wanted.services)
    names = [name for name in chosen if wanted.with_dependencies or not wanted.services or name in wanted.services]
    check_images(project, names)
    given = variables_of(wanted.build_args, settings.environ)
    agents = tuple((name, path) for name, _, path in (text.partition("=") for text in wanted.ssh))
    specs = {
        name: _changed(service.build, given, agents, no_cache=wanted.no_cache, pull=wanted.pull)
        for name in _closure(project, names)
        if (service := project.services[name]).build is not None
    }
    if not specs:
        settings.warn(("no service has a build",))
        return 0
    if wanted.printed:
        print(json.dumps(_bake(project, specs), indent=2))
        return 0
    if wanted.check:
        return _check(project, specs)
    images = {name: project.services[name].image for name in specs}
    if told_instead(settings, *(f"build {images[name]} from {spec.context}" for name, spec in specs.items())):
        return 0
    alone = note is not None and not loaded.reaches and _is_local(settings, specs.values())
    _build_all(settings, project, specs, note if alone else None, warnings, quiet=wanted.quiet)
    if wanted.push:
        from orchestrator.cli.commands.pull import push as push_all

        return push_all(settings, tuple(specs), wanted.quiet, False, False)
    return 0


def _is_local(settings: Settings, specs: Iterable[BuildSpec]) -> bool:
    """Whether what is to be built follows from files here that can be watched, as far as the stack tells."""
    return "COMPOSE_ENV_FILES" not in settings.environ and not any(
        "://" in spec.context
        or not os.path.isabs(spec.context)
        or any(not os.path.isabs(place) for _, place in spec.additional_contexts)
        or spec.cache_from
        or spec.cache_to
        or spec.no_cache
        or spec.no_cache_filter
        or spec.pull
        or spec.ssh
        for spec in specs
    )


def _changed(
    spec: BuildSpec | None, given: Mapping[str, str], ssh: tuple[tuple[str, str], ...], *, no_cache: bool, pull: bool
) -> BuildSpec:
    assert spec is not None
    return replace(
        spec,
        args=tuple({**dict(spec.args), **given}.items()),
        ssh=(*spec.ssh, *ssh),
        no_cache=spec.no_cache or no_cache,
        pull=spec.pull or pull,
    )


def _closure(project: Project, names: list[ServiceName]) -> list[ServiceName]:
    """With those that their builds take something from."""
    ahead, found = list(names), dict.fromkeys(names)
    while ahead:
        spec = project.services[ahead.pop()].build
        for other in map(ServiceName, built_before(spec) if spec is not None else ()):
            if other not in found:
                found[other] = None
                ahead.append(other)
    return list(found)


def _build_all(
    settings: Settings,
    project: Project,
    specs: Mapping[ServiceName, BuildSpec],
    note: Note | None,
    warnings: Sequence[str],
    *,
    quiet: bool,
) -> None:
    from orchestrator.build.basis import Basis
    from orchestrator.build.request import build_image
    from orchestrator.images.machine import MachineImages
    from orchestrator.images.together import each
    from orchestrator.runtime.host_check import require_host

    began_s = time.monotonic()
    seen = _seen(settings, project, specs.values()) if note is not None else None
    data_root, run_root = data_root_of(settings), run_root_of(settings)
    host = require_host()
    images = MachineImages(os.path.join(data_root, "images"))
    environ = {**settings.environ, **caller_variables(settings.environ)}
    said: list[tuple[str, str]] = [("", f"warning: {text}") for text in warnings]
    basis = Basis()

    async def work(transfers: Transfers) -> dict[str, StoredImage]:
        made: dict[str, StoredImage] = {}

        async def one(name: str) -> None:
            service, spec = project.services[ServiceName(name)], specs[ServiceName(name)]
            by_service = {other: project.services[ServiceName(other)].image for other in built_before(spec)}
            build = with_images(spec, by_service)
            request = ImageRequest(service.image, project.working_dir, service.platform, build=build, environ=environ)
            told, image = transfers.of(name), f"Image {service.image}"
            transfers.step(f"{image} Building")

            def progress(news: str | Transfer) -> None:
                if isinstance(news, str):
                    said.append((name, news))
                told(news)

            try:
                made[name] = await build_image(
                    request, progress, images=images, host=host, data_root=data_root, run_root=run_root, basis=basis
                )
            except PystackError as error:
                raise located(error, project, f"{service.place}.build") from error
            transfers.step(f"{image} Built")
        at_once = settings.parallel if settings.parallel > 0 else len(specs)
        await each({name: built_before(spec) for name, spec in specs.items()}, one, at_once=at_once)
        transfers.note(f"{len(specs)} image{'' if len(specs) == 1 else 's'} built in {time.monotonic() - began_s:.2f} s")
        return made

    made = carry_out(settings, work, quiet=quiet)
    if note is not None and seen is not None:
        store = images.stored.store
        names = {project.services[ServiceName(name)].image: image for name, image in made.items()}
        names |= {tag: made[name] for name, spec in specs.items() for tag in spec.tags}
        outcome = _outcome(store, basis, {name: image.id for name, image in names.items()}, made, said)
        if outcome is not None:
            note.keep(seen, outcome)


def _seen(settings: Settings, project: Project, specs: Iterable[BuildSpec]) -> Seen:
    """What the build is about to read."""
    from orchestrator.cli.unchanged import look

    dockerfiles, contexts = [], []
    for spec in specs:
        contexts += [spec.context, *(place for _, place in spec.additional_contexts)]
        if spec.dockerfile_inline is None:  # It may lie elsewhere, with an ignore file beside it.
            path = os.path.normpath(os.path.join(spec.context, spec.dockerfile))
            dockerfiles += [path, f"{path}.dockerignore"]
    return look(settings, project.compose_files, project.working_dir, dockerfiles, contexts)


def _outcome(
    store: Store,
    basis: Basis,
    tagged: Mapping[str, Digest],
    made: Mapping[str, StoredImage],
    said: Sequence[tuple[str, str]],
) -> Outcome | None:
    """None if it may be another one without any file here having changed."""
    from orchestrator.cli.unchanged import Outcome
    from orchestrator.images.host import HOST_LABEL
    from orchestrator.images.reference import Named, parse_named, parse_reference

    on_host = any(HOST_LABEL in (image.config.config.get("Labels") or {}) for image in made.values())
    if basis.elsewhere or on_host:
        return None
    names = [(store.name_file(parse_named(name).full), str(image)) for name, image in tagged.items()]
    for reference, image in basis.images.items():
        named = parse_reference(reference)
        if not isinstance(named, Named) or (means := store.names().get(named.full)) is None or means.image != image:
            return None
        names.append((store.name_file(named.full), str(image)))
    there = {path: None for image in made.values() for path in store.files_of(image)}
    return Outcome(tuple(names), tuple(there), tuple(said), tuple(made))


def _check(project: Project, specs: Mapping[ServiceName, BuildSpec]) -> int:
    """Raises InputError for the first Dockerfile that is wrong; 1 when there are warnings."""
    from orchestrator.build.failure import seen_from
    from orchestrator.build.frontend.parse import parse

    code = 0
    for name, spec in specs.items():
        text = spec.dockerfile_inline
        path = os.path.join(spec.context, spec.dockerfile)
        if text is None:
            try:
                with open(path, encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError) as exc:
                raise InputError(f"cannot read the Dockerfile {path}: {exc}") from exc
        inline = project.where(f"{project.services[name].place}.build.dockerfile_inline")
        label = seen_from(os.getcwd(), path) if spec.dockerfile_inline is None else inline
        for warning in parse(text, label).warnings:
            code = 1
            print(f"{label}:{warning.line}: {warning.message} ({warning.rule})")
    return code


def _bake(project: Project, specs: Mapping[ServiceName, BuildSpec]) -> dict[str, object]:
    """As `docker compose build --print` has it: a bake file (docs.docker.com/build/bake/reference)."""
    targets = {
        name: {
            "context": spec.context,
            "dockerfile": spec.dockerfile,
            **({"dockerfile-inline": spec.dockerfile_inline} if spec.dockerfile_inline is not None else {}),
            **({"args": dict(spec.args)} if spec.args else {}),
            **({"contexts": dict(spec.additional_contexts)} if spec.additional_contexts else {}),
            **({"labels": dict(spec.labels)} if spec.labels else {}),
            **({"target": spec.target} if spec.target else {}),
            **({"no-cache": True} if spec.no_cache else {}),
            **({"pull": True} if spec.pull else {}),
            "tags": [project.services[name].image, *spec.tags],
            "output": ["type=docker"],
        }
        for name, spec in specs.items()
    }
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}
