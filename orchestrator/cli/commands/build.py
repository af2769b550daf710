"""``pystack build``: the images of the stack's services, from their Dockerfiles."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from orchestrator.cli.imagework import carry_out, data_root_of, located, run_root_of
from orchestrator.cli.selection import check_images
from orchestrator.compose.model.choice import select
from orchestrator.contracts.images import ImageRequest
from orchestrator.errors import InputError, PystackError
from orchestrator.model.build import BuildSpec, built_before, with_images
from orchestrator.model.names import ServiceName
from orchestrator.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.cli.render.transfers import Transfers
    from orchestrator.cli.settings import Settings
    from orchestrator.model.project import Project


def build(
    settings: Settings,
    services: tuple[str, ...],
    build_args: tuple[str, ...],
    no_cache: bool,
    pull: bool,
    push: bool,
    quiet: bool,
    ssh: tuple[str, ...],
    with_dependencies: bool,
    check: bool,
    printed: bool,
) -> int:
    """Build the images of services, those that others take something from first, else all at once."""
    from orchestrator.cli.commands.exec import variables_of

    project = settings.load(services)
    chosen = select(project, services)
    names = [name for name in chosen if with_dependencies or not services or name in services]
    check_images(project, names)
    given = variables_of(build_args, settings.environ)
    agents = tuple((name, path) for name, _, path in (text.partition("=") for text in ssh))
    specs = {
        name: _changed(service.build, given, agents, no_cache=no_cache, pull=pull)
        for name in _closure(project, names)
        if (service := project.services[name]).build is not None
    }
    if not specs:
        settings.warn(("no service has a build",))
        return 0
    if printed:
        print(json.dumps(_bake(project, specs), indent=2))
        return 0
    if check:
        return _check(specs)
    _build_all(settings, project, specs, quiet=quiet)
    if push:
        from orchestrator.cli.commands.pull import push as push_all

        return push_all(settings, tuple(specs), quiet, False, False)
    return 0


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


def _build_all(settings: Settings, project: Project, specs: Mapping[ServiceName, BuildSpec], *, quiet: bool) -> None:
    from orchestrator.build.request import build_image
    from orchestrator.images.machine import MachineImages
    from orchestrator.images.together import each
    from orchestrator.runtime.host_check import require_host

    began_s = time.monotonic()
    data_root, run_root = data_root_of(settings), run_root_of(settings)
    host = require_host()
    images = MachineImages(os.path.join(data_root, "images"))
    images.environ = settings.environ

    async def work(transfers: Transfers) -> None:
        async def one(name: str) -> None:
            service, spec = project.services[ServiceName(name)], specs[ServiceName(name)]
            by_service = {other: project.services[ServiceName(other)].image for other in built_before(spec)}
            build = with_images(spec, by_service)
            request = ImageRequest(service.image, project.working_dir, service.platform, build=build)
            progress = transfers.of(name)
            try:
                await build_image(request, progress, images=images, host=host, data_root=data_root, run_root=run_root)
            except PystackError as error:
                raise located(error, project, f"{service.place}.build") from error

        await each({name: built_before(spec) for name, spec in specs.items()}, one, at_once=len(specs))
        number = len(specs)
        transfers.note(f"{number} image{'' if number == 1 else 's'} built in {time.monotonic() - began_s:.2f} s")

    carry_out(settings, work, quiet=quiet)


def _check(specs: Mapping[ServiceName, BuildSpec]) -> int:
    """Raises InputError for the first Dockerfile that is wrong; 1 when there are warnings."""
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
        label = path if spec.dockerfile_inline is None else f"services.{name}.build.dockerfile_inline"
        for warning in parse(text, label).warnings:
            code = 1
            print(f"{name}: {warning}")
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
