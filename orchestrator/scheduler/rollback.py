"""Taking a rolling update back: what was replaced gets what it was made from (docs/rolling-updates.md, "Rollback")."""

from __future__ import annotations

from orchestrator.contracts.control import Selection, Up
from orchestrator.contracts.images import Image, ImageRequest, Known
from orchestrator.errors import OperationError
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.updating import UpdateRules
from orchestrator.plan.hashing import identities_in
from orchestrator.plan.images import image_request
from orchestrator.plan.plan import Plan, Roll
from orchestrator.plan.reconcile import plan_up
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.planning import look
from orchestrator.values import replace


async def plan_rollback(state: EngineState, roll: Roll, image: Image | None, before: Project) -> Plan:
    """By the rollback rules of the stack that failed. `image`: the one that `roll.former` was made from, None: it is looked
    for. `before`: the stack as it was, for networks and volumes that are in no file any more. Raises what `plan_up` does,
    and OperationError when the image is gone."""
    name, failed = roll.service, state.project.services[roll.service]
    former = replace(roll.former, update=failed.update, rollback=failed.rollback)
    project = _with(replace(
        state.project,
        networks={**before.networks, **state.project.networks},
        volumes={**before.volumes, **state.project.volumes},
    ), former)  # fmt: skip
    rolled = _with(project, replace(former, update=failed.rollback or UpdateRules()))
    state.images[image_request(project, former)] = image or await _look_for(state, project, roll)
    observed = await look(state, rolled)
    request = Up(rolled, Selection((name,), dependencies=False), scale={name: len(observed.replicas(name))})
    plan = plan_up(request, observed, images={name: roll.former_image})
    return replace(plan, project=project)


def _with(project: Project, service: Service) -> Project:
    return replace(project, services={**project.services, service.name: service})


async def _look_for(state: EngineState, project: Project, roll: Roll) -> Image:
    """The image by its identity: its name may mean another one."""
    identity = identities_in(roll.former_image)[0]
    found = await state.adapters.images.inspect(ImageRequest(identity, project.working_dir))
    if not isinstance(found, Known):
        raise OperationError(f'the image that {roll.service} was made from is gone: {roll.former.image} ({identity})')
    return found.image
