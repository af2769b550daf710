"""Images of an operation: what services ask for, and getting it, with what is told meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping

import trio

from orchestrator.contracts.control import Run, Scale, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image, ImageRequest, Known, Transfer
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.build import PullPolicy, built_before, secret_values, with_images, with_secret_values
from orchestrator.model.granted import granted_values, with_granted_values
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.plan.images import image_key, image_request, image_requests
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import located
from orchestrator.values import replace

TOLD_EACH_S = 0.2
"""How often what one part of a transfer has moved is told."""

_LASTING = frozenset({"missing", "never"})
"""Policies by which nothing that is here is ever due."""


def without_secrets(state: EngineState, request: Up | Scale | Run) -> Up | Scale | Run:
    """`request` as its stack may be recorded: what builds and containers have as secrets from variables is kept in memory
    alone, until this process ends. (A container's bundle has its own.)"""

    def stripped(service: Service) -> Service:
        if service.pre_start:
            steps = (replace(step, definition=stripped(step.definition)) for step in service.pre_start)
            service = replace(service, pre_start=tuple(steps))
        if service.files:
            state.secrets.update(granted_values(service.files))
            service = replace(service, files=with_granted_values(service.files, {}))
        if service.build is None or not service.build.secrets:
            return service
        state.secrets.update(secret_values(service.build))
        return replace(service, build=with_secret_values(service.build, {}))

    services = {name: stripped(service) for name, service in request.project.services.items()}
    project = replace(request.project, services=services)
    if isinstance(request, Run):
        return replace(request, project=project, definition=stripped(request.definition))
    return replace(request, project=project)


class Refreshing:
    """The operations that get images anew, and have no plan yet and no claims: when the whole project goes, so do they."""

    def __init__(self) -> None:
        self._under_way: dict[trio.CancelScope, trio.Event] = {}

    async def during(self, work: Awaitable[None]) -> None:
        """Raises what `work` does, and OperationError once it was ended."""
        scope, over = trio.CancelScope(), trio.Event()
        self._under_way[scope] = over
        try:
            with scope:
                await work
        finally:
            del self._under_way[scope]
            over.set()
        if scope.cancelled_caught:
            raise OperationError('getting images: taken over by "down"')

    async def end_all(self) -> None:
        """Returns when they have ended."""
        under_way = dict(self._under_way)
        for scope in under_way:
            scope.cancel()
        for over in under_way.values():
            await over.wait()


def _new_to(state: EngineState, project: Project, service: Service) -> set[ImageRequest]:
    """The images that a container of `service` would be replaced for, if it has one that is made."""
    made = [container for container in state.replicas(service.name) if container.is_made]
    had = [{item.reference for item in image_requests(project, container.definition)} for container in made]
    return {request for request in image_requests(project, service) if any(request.reference not in each for each in had)}


async def refresh_images(
    state: EngineState,
    project: Project,
    services: Iterable[ServiceName],
    environ: Mapping[str, str],
    *,
    replaces: bool,
) -> None:
    """Get anew what the pull policies of `services` want anew, all at once, before a plan is made of what is there; and
    what is missing of a service that has something to lose: nothing is given up for an image that does not come. Any
    other image that is missing is an operation of the plan. `environ`: as of a request. `replaces`: whether the plan will
    replace what has changed. Raises the first error."""
    wanted = [project.services[name] for name in services]
    asked = {request: service for service in wanted for request in image_requests(project, service)}
    awaited = {request for service in wanted if replaces for request in _new_to(state, project, service)}
    asked = {
        request: service
        for request, service in asked.items()
        if request in awaited or request.pull_policy.when not in _LASTING
    }
    if not asked:  # Without an await: its place in the queue (`claims`) is by when it was asked.
        return
    done = {request.reference: trio.Event() for request in asked}
    errors: list[PystackError] = []

    async def refresh(request: ImageRequest, service: Service) -> None:
        for before in _before(project, request):
            if before.reference in done:
                await done[before.reference].wait()
        try:
            found = await state.adapters.images.inspect(request)
            if found.due if isinstance(found, Known) else request in awaited:
                await obtain_image(state, project, request, environ)
        except PystackError as error:
            errors.append(located(error, project, service, image_key(project, service, request)))
            nursery.cancel_scope.cancel()
        done[request.reference].set()

    async with trio.open_nursery() as nursery:
        for request, service in asked.items():
            nursery.start_soon(refresh, request, service)
    if errors:
        raise errors[0]


async def obtain_image(
    state: EngineState, project: Project, request: ImageRequest, environ: Mapping[str, str]
) -> Image:
    """With the images of the stack that its build takes something from before it, unless they are here. `environ`: as of a
    request. Raises what `Images.obtain` does."""
    asked, images = replace(request, environ=environ), state.adapters.images
    if request.build is not None and (before := _before(project, request)):
        for other in before:
            if not isinstance(await images.inspect(other), Known):
                # Whoever makes it meanwhile for its own service makes it for us: it is not due once more.
                await obtain_image(state, project, replace(other, pull_policy=PullPolicy("missing")), environ)
        names = dict(zip(built_before(request.build), (other.reference for other in before), strict=True))
        asked = replace(asked, build=with_images(request.build, names))
    if asked.build is not None and asked.build.secrets:
        asked = replace(asked, build=with_secret_values(asked.build, state.secrets))
    name, note = request.reference, state.events.note
    builds = request.build is not None
    note(EventKind.IMAGE_OBTAINING, f"getting image {name}", image=name, builds=builds)
    try:
        image = await images.obtain(asked, _Teller(state, name))
    except PystackError:
        note(EventKind.IMAGE_FAILED, f"did not get image {name}", image=name)
        raise
    state.images[request] = image
    note(EventKind.IMAGE_OBTAINED, f"got image {name}", image=name, builds=builds)
    return image


def _before(project: Project, request: ImageRequest) -> tuple[ImageRequest, ...]:
    """The images of the stack that the build of this one takes something from, in the order of `built_before`."""
    names = built_before(request.build) if request.build is not None else ()
    return tuple(image_request(project, project.services[ServiceName(name)]) for name in names)


class _Teller:
    """Progress as events: each part when what is done with it changes, else now and then."""

    def __init__(self, state: EngineState, reference: str) -> None:
        self._state = state
        self._reference = reference
        self._told: dict[str, tuple[str, float]] = {}

    def __call__(self, news: str | Transfer) -> None:
        note, now_s = self._state.events.note, trio.current_time()
        if isinstance(news, str):
            note(EventKind.IMAGE_OBTAINING, news, image=self._reference)
            return
        action, at_s = self._told.get(news.part, ("", 0.0))
        if not news.text and action == news.action and now_s - at_s < TOLD_EACH_S:
            return
        self._told[news.part] = news.action, now_s
        note(
            EventKind.IMAGE_PROGRESS, news.text, image=self._reference, part=news.part, action=news.action,
            done_bytes=news.done_bytes, total_bytes=news.total_bytes,
        )  # fmt: skip
