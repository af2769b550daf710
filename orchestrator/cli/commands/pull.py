"""``pystack pull`` and ``push``: the images of the stack's services."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from orchestrator.cli.imagework import carry_out, stored_of
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

Work = Callable[["Service", "Transfers"], Awaitable[None]]


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

    async def one(service: Service, transfers: Transfers) -> None:
        named = parse_reference(service.image)
        assert isinstance(named, Named)
        if policy == "missing" and stored.store.find(named.full) is not None:
            return
        try:
            await stored.pull(named, service.platform, transfers.of(named.familiar))
        except OperationError as error:
            if service.build is None:
                raise
            transfers.note(f"{error.message}: `pystack build {service.name}` makes it")

    return _all(settings, chosen, one, "pulled", quiet=quiet, ignore_failures=ignore_failures)


def push(settings: Settings, services: tuple[str, ...], quiet: bool, include_deps: bool, ignore_failures: bool) -> int:
    """Put the images of services that are built here into their registries."""
    from orchestrator.images.registry.credentials import Credentials
    from orchestrator.images.registry.push import push as push_image
    from orchestrator.images.registry.settings import load_settings

    _, wanted = _wanted(settings, services, include_deps)
    store = stored_of(settings).store
    registries, credentials = load_settings(settings.environ), Credentials(settings.environ)

    async def one(service: Service, transfers: Transfers) -> None:
        assert service.build is not None
        for text in dict.fromkeys((service.image, *service.build.tags)):
            named = parse_reference(text)
            assert isinstance(named, Named)
            image = store.find(named.full)
            if image is None:
                raise OperationError(
                    f'image "{named.familiar}" is not here', hint=f"`pystack build {service.name}` makes it"
                )
            await push_image(
                store, image, named, transfers.of(named.familiar), settings=registries, credentials=credentials
            )

    chosen = [service for service in wanted if service.build is not None]
    return _all(settings, chosen, one, "pushed", quiet=quiet, ignore_failures=ignore_failures)


def _wanted(settings: Settings, services: tuple[str, ...], include_deps: bool) -> tuple[Project, list[Service]]:
    """Raises ComposeError, and InputError at an image that is malformed."""
    project = settings.load(services)
    chosen = select(project, services)
    names = [name for name in chosen if include_deps or not services or name in services]
    check_images(project, names)
    return project, [project.services[name] for name in names]


def _has_registry(service: Service, project: Project, *, ignore_buildable: bool) -> bool:
    if service.build is not None and (ignore_buildable or service.image == f"{project.name}-{service.name}"):
        return False
    return isinstance(parse_reference(service.image), Named)


def _all(
    settings: Settings, services: Iterable[Service], one: Work, done: str, *, quiet: bool, ignore_failures: bool
) -> int:
    """`one` for each image, several at a time; the first error ends the others unless failures are ignored."""
    by_image = {service.image: service for service in services}
    began_s = time.monotonic()

    async def work(transfers: Transfers) -> None:
        async def of_image(image: str) -> None:
            await one(by_image[image], transfers)

        errors = await each(dict.fromkeys(by_image, ()), of_image, at_once=_AT_ONCE, go_on=ignore_failures)
        for error in errors:
            transfers.note(f"warning: {error}")
        number = len(by_image) - len(errors)
        transfers.note(f"{number} image{'' if number == 1 else 's'} {done} in {time.monotonic() - began_s:.2f} s")

    carry_out(settings, work, quiet=quiet)
    return 0
