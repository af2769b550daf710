"""From a request to a Plan: looking at what there is (the I/O), then the pure decision of `plan`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import assert_never

from orchestrator.contracts.control import (
    Connect,
    Disconnect,
    Down,
    Kill,
    Operation,
    Pause,
    Remove,
    Restart,
    Run,
    Scale,
    Start,
    Stop,
    Unpause,
    Up,
)
from orchestrator.contracts.images import ImageRequest, Known
from orchestrator.errors import PystackError
from orchestrator.model.names import ContainerId, ServiceName, volume_owner
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.volume import MountKind
from orchestrator.plan.connecting import plan_connect, plan_disconnect
from orchestrator.plan.hashing import identity_with
from orchestrator.plan.images import image_key, image_requests, own_images
from orchestrator.plan.observed import ObservedProject, observe
from orchestrator.plan.plan import Plan
from orchestrator.plan.reconcile import (
    Images,
    chosen_for_run,
    chosen_for_scale,
    chosen_for_up,
    plan_resume,
    plan_run,
    plan_scale,
    plan_start,
    plan_up,
)
from orchestrator.plan.seal import Seal, seal_of
from orchestrator.plan.teardown import plan_down, plan_kill, plan_pause, plan_remove, plan_restart, plan_stop
from orchestrator.policy.requests import Ask
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import located
from orchestrator.values import replace


async def look(state: EngineState, project: Project) -> ObservedProject:
    """What exists now. Raises HostError when the runtime cannot be asked."""
    sandboxes = await state.adapters.runtime.containers()
    volumes = {
        key: identity
        for key, volume in project.volumes.items()
        if (identity := state.adapters.volumes.identity(volume)) is not None
    }
    containers = state.containers.values()
    return observe(
        state.project if state.project.services else None,
        [item.record for item in containers],
        sandboxes,
        networks=state.networks.values(),
        volumes=volumes,
        boot_id=state.boot_id,
        restarting={item.id for item in containers if item.live},
        starting={item.id for item in containers if item.pending},
        stopping={item.id for item in containers if item.ask is Ask.STOP or item.phase is Phase.STOPPING},
    )


def _with_anonymous(state: EngineState) -> frozenset[ContainerId]:
    """The containers that have anonymous volumes."""
    project = state.adapters.site.project
    owners = {item.id: volume_owner(project, item.instance, item.id) for item in state.containers.values()}
    found = state.adapters.volumes.with_anonymous(set(owners.values()))
    return frozenset(container for container, owner in owners.items() if owner in found)


async def make_plan(state: EngineState, request: Operation, slug: str) -> Plan:
    """What `request` would do now; changes nothing. `slug`: hex digits for the name of a one-off container.

    Raises InputError (a cycle, an unknown service, an image reference), OperationError (an image that does not exist,
    a service without a container), HostError.
    """
    match request:
        case Up():
            images = await identities(state, *images_of(request))
            observed = await look(state, request.project)
            if request.renew_volumes:
                observed = replace(observed, anonymous=_with_anonymous(state))
            return plan_up(request, observed, images=images)
        case Scale():
            images = await identities(state, *images_of(request))
            return plan_scale(request, await look(state, request.project), images=images)
        case Run():
            images = await identities(state, *images_of(request))
            return plan_run(request, await look(state, request.project), images=images, slug=slug)
        case Start():
            return plan_start(request, await look(state, state.project), state.project)
        case Restart():
            return plan_restart(request, await look(state, state.project), state.project)
        case Stop():
            return plan_stop(request, await look(state, state.project), state.project)
        case Kill():
            return plan_kill(request, await look(state, state.project), state.project)
        case Pause() | Unpause():
            return plan_pause(request, await look(state, state.project), state.project)
        case Connect():
            return plan_connect(request, await look(state, state.project), state.project)
        case Disconnect():
            return plan_disconnect(request, await look(state, state.project), state.project)
        case Remove():
            return plan_remove(request, await look(state, state.project), state.project)
        case Down():
            project = request.project or state.project
            return plan_down(request, await look(state, project), project)
        case _:
            assert_never(request)


async def sealed_plan(state: EngineState, request: Operation, slug: str) -> tuple[Plan, Seal]:
    """A plan with what it rests on. The plan is made last: what moves while the rest is looked at shows in it."""
    project, images = state.project, {}
    if isinstance(request, Up | Scale | Run):
        project, services = images_of(request)
        images = dict(await identities(state, project, services))
    elif isinstance(request, Down) and request.project is not None:
        project = request.project
    observed = await look(state, project)
    plan = await make_plan(state, request, slug)
    return plan, seal_of(plan, observed, images)


def check_volumes(state: EngineState, project: Project, services: Iterable[ServiceName]) -> None:
    """Nothing is given up for a volume that its successor could not have. Raises OperationError."""
    for service in (project.services[name] for name in services):
        if not any(container.is_made for container in state.replicas(service.name)):
            continue  # It has nothing to lose: that is found when it is made.
        for mount in service.volumes:
            volume = next((item for key, item in project.volumes.items() if key == mount.source), None)
            if mount.kind is MountKind.VOLUME and volume is not None:
                try:
                    state.adapters.volumes.check(volume)
                except PystackError as error:
                    raise located(error, project, service, "volumes") from error


async def plan_to_resume(state: EngineState, containers: Collection[ContainerId]) -> Plan:
    """Make and start `containers`, which are wanted and not there."""
    observed = await look(state, state.project)
    return plan_resume(observed, state.project, [name for name in containers if name in observed.containers])


def images_of(request: Up | Scale | Run) -> tuple[Project, Iterable[ServiceName]]:
    """The stack as `request` has it, and the services whose images it needs."""
    match request:
        case Up():
            return request.project, chosen_for_up(request)
        case Scale():
            return request.project, chosen_for_scale(request)
        case Run():
            services = {**request.project.services, request.definition.name: request.definition}
            return replace(request.project, services=services), chosen_for_run(request)


async def identities(state: EngineState, project: Project, services: Iterable[ServiceName]) -> Images:
    """What the images of each of `services` are now; each reference is looked at once. None: one has still to be obtained.
    What is known of other services' images need not be looked at: nothing is made from them."""
    found: dict[ServiceName, str | None] = {}
    looked: dict[ImageRequest, str | None] = {}
    for name in services:
        service = project.services[name]
        identities: list[str | None] = []
        for request in image_requests(project, service):
            if request not in looked:
                try:
                    answer = await state.adapters.images.inspect(request)
                except PystackError as error:
                    raise located(error, project, service, image_key(project, service, request)) from error
                looked[request] = answer.image.identity if isinstance(answer, Known) else None
                if isinstance(answer, Known):
                    state.images[request] = answer.image
            identities.append(looked[request])
        known = [identity for identity in identities if identity is not None]
        own = known[: own_images(service)]
        found[name] = identity_with(own[0], own[1:]) if len(known) == len(identities) else None
    return found
