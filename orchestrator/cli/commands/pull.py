"""``pystack pull`` and ``push``: the images of the stack's services."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from orchestrator.cli.dryrun import told_instead
from orchestrator.cli.imagework import carry_out, located, stored_of
from orchestrator.cli.selection import check_images
from orchestrator.compose.model.choice import select
from orchestrator.errors import OperationError
from orchestrator.images.reference import Named, parse_reference
from orchestrator.images.together import each

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cli.render.transfers import Transfers
    from orchestrator.cli.settings import Settings
    from orchestrator.model.project import Project
    from orchestrator.model.service import Service

_AT_ONCE = 4
"""Images; each has a bound of its own for its layers."""
_CUT_SHORT = {
    "pulled": "pull was cut short: what has come is kept, and the next one goes on from there",
    "pushed": "push was cut short: what the registry has it keeps",
}

Work = Callable[["Service", "Transfers"], Awaitable[bool]]
"""Whether there was something to do."""


def pull(
    settings: Settings,
    services: tuple[str, ...],
    quiet: bool,
    include_deps: bool,
    ignore_buildable: bool,
    ignore_failures: bool,
    policy: str,
) -> int:
    """Get the images of services. One that is only built here is none of them."""
    project, wanted = _wanted(settings, services, include_deps)
    chosen = [service for service in wanted if _has_registry(service, project, ignore_buildable=ignore_buildable)]
    stored = stored_of(settings)

    async def one(service: Service, transfers: Transfers) -> bool:
        named = parse_reference(service.image)
        assert isinstance(named, Named)
        if policy == "missing" and stored.store.find(named.full) is not None:
            return False
        transfers.step(f"Image {named.familiar} Pulling")
        try:
            await stored.pull(named, service.platform, settings.environ, transfers.of(named.familiar))
        except OperationError as error:
            if service.build is None:
                raise located(error, project, f"{service.place}.image") from error
            transfers.note(f"{error.message}: `pystack build {service.name}` makes it")
            return False
        transfers.step(f"Image {named.familiar} Pulled")
        return True

    return _all(settings, chosen, one, "pulled", quiet=quiet, ignore_failures=ignore_failures)


def push(settings: Settings, services: tuple[str, ...], quiet: bool, include_deps: bool, ignore_failures: bool) -> int:
    """Put the images of services that are built here into their registries."""
    from orchestrator.images.registry.credentials import Credentials
    from orchestrator.images.registry.push import push as push_image
    from orchestrator.images.registry.settings import load_settings

    project, wanted = _wanted(settings, services, include_deps)
    store = stored_of(settings).store
    registries, credentials = load_settings(settings.environ), Credentials(settings.environ)

    async def one(service: Service, transfers: Transfers) -> bool:
        assert service.build is not None
        for text in dict.fromkeys((service.image, *service.build.tags)):
            named = parse_reference(text)
            assert isinstance(named, Named)
            image = store.find(named.full)
            if image is None:
                raise OperationError(
                    f'image "{named.familiar}" is not here', hint=f"`pystack build {service.name}` makes it"
                )
            progress = transfers.of(named.familiar)
            try:
                await push_image(store, image, named, progress, settings=registries, credentials=credentials)
            except OperationError as error:
                raise located(error, project, f"{service.place}.image") from error
        return True

    made = [service for service in wanted if service.build is not None]
    chosen = [service for service in made if not _is_unnamed(service, project)]
    settings.warn(tuple(f"{service.name} is not pushed: it has no `image`" for service in made if service not in chosen))
    return _all(settings, chosen, one, "pushed", quiet=quiet, ignore_failures=ignore_failures)


def _wanted(settings: Settings, services: tuple[str, ...], include_deps: bool) -> tuple[Project, list[Service]]:
    """Raises ComposeError, and InputError at an image that is malformed."""
    project = settings.load(services)
    chosen = select(project, services)
    names = [name for name in chosen if include_deps or not services or name in services]
    check_images(project, names)
    return project, [project.services[name] for name in names]


def _has_registry(service: Service, project: Project, *, ignore_buildable: bool) -> bool:
    if service.build is not None and (ignore_buildable or _is_unnamed(service, project)):
        return False
    return isinstance(parse_reference(service.image), Named)


def _is_unnamed(service: Service, project: Project) -> bool:
    """Whether nobody gave its image a name: then it is in no registry."""
    return service.image == f"{project.name}-{service.name}"



def _all(
    settings: Settings, services: Iterable[Service], one: Work, done: str, *, quiet: bool, ignore_failures: bool
) -> int:
    """`one` for each image, several at a time; the first error ends the others unless failures are ignored."""
    by_image: dict[str, Service] = {}
    for service in services:
        by_image.setdefault(service.image, service)
    what = {"pulled": "pull", "pushed": "push"}[done]
    if told_instead(settings, *(f"{what} {image}" for image in by_image)):
        return 0
    began_s = time.monotonic()
    at_once = min(_AT_ONCE, settings.parallel) if settings.parallel > 0 else _AT_ONCE

    async def work(transfers: Transfers) -> None:
        number = 0

        async def of_image(image: str) -> None:
            nonlocal number
            moved = await one(by_image[image], transfers)
            number += moved

        errors = await each(dict.fromkeys(by_image, ()), of_image, at_once=at_once, go_on=ignore_failures)
        for error in errors:
            transfers.note(f"warning: {error}")
        transfers.note(f"{number} image{'' if number == 1 else 's'} {done} in {time.monotonic() - began_s:.2f} s")

    carry_out(settings, work, quiet=quiet, cut_short=_CUT_SHORT[done])
    return 0
