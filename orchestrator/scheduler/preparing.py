"""``pre_start``: containers that run to their end, one after the other, before a new container of a service starts
(docs/engine.md, "Hooks").

They are made when it is their turn, with the mounts of the container that is to start, and are removed when they have
ended. Nobody waits for one but the start that it is for: a supervisor that finds one removes it, and does it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from orchestrator.contracts.events import Detail, EventKind
from orchestrator.contracts.images import Image, Known
from orchestrator.contracts.state import ContainerRecord, Definition
from orchestrator.errors import InputError, OperationError, PystackError
from orchestrator.model.names import ContainerId, Instance, Role, ServiceName, init_id
from orchestrator.model.project import Project
from orchestrator.model.service import InitStep, Service
from orchestrator.model.volume import VolumesFrom
from orchestrator.plan.hashing import steps_hash
from orchestrator.plan.images import image_request, image_requests
from orchestrator.plan.plan import Kind, Plan
from orchestrator.policy.exits import describe_exit
from orchestrator.scheduler import sandbox, supervise
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.events import EventSink
from orchestrator.scheduler.hooks import Output
from orchestrator.values import replace


async def image_of(state: EngineState, project: Project, service: Service, environ: Mapping[str, str]) -> Image:
    """What `service` is made from; it and what else it needs is looked at, and got, if nobody has done so: a plan that
    resumes a start may come without. Raises what `Images.obtain` does."""
    for request in image_requests(project, service):
        if request not in state.images:
            asked, adapter = replace(request, environ=environ), state.adapters.images
            found = await adapter.inspect(asked)
            state.images[request] = found.image if isinstance(found, Known) else await adapter.obtain(asked, _nobody)
    return state.images[image_request(project, service)]


class Preparing:
    """What runs before the starts of one plan: what is for all containers of a definition runs once in it."""

    def __init__(self, state: EngineState, plan: Plan, environ: Mapping[str, str]) -> None:
        self._state = state
        self._plan = plan
        self._environ = environ
        self._made = {operation.container for operation in plan.of(Kind.CREATE)}
        self._turns: dict[tuple[ServiceName, int], trio.Lock] = {}
        self._done: set[tuple[ServiceName, int]] = set()
        self._failed: dict[tuple[ServiceName, int], PystackError] = {}

    async def before(self, container: Container) -> None:
        """All that is due before `container` starts. Raises the first error, at its place in the stack."""
        service = container.definition
        if container.instance.role is not Role.REPLICA or container.record.prepared == steps_hash(service):
            return
        kept = self._is_kept(container)
        for number, step in enumerate(service.pre_start):
            if step.per_replica:
                await self._do(container, number, step)
            elif not kept:
                await self._do_once(container, number, step)
        container.amend(prepared=steps_hash(service))
        container.save()

    def _is_kept(self, container: Container) -> bool:
        """Whether it was done for another container of the service that stays as it is."""
        prepared = steps_hash(container.definition)
        others = (item for item in self._state.replicas(container.service) if item.id not in self._made)
        return any(item.record.prepared == prepared for item in others)

    async def _do_once(self, container: Container, number: int, step: InitStep) -> None:
        key = container.service, number
        async with self._turns.setdefault(key, trio.Lock()):
            if key in self._done:
                return
            if key in self._failed:
                raise self._failed[key]
            try:
                await self._do(container, number, step)
            except PystackError as error:
                self._failed[key] = error
                raise
            self._done.add(key)

    async def _do(self, container: Container, number: int, step: InitStep) -> None:
        name = f"pre_start[{number}]"
        about = f"{name} of {container.label}"
        container.note(EventKind.HOOK_STARTED, f"{about} begins", hook=name)
        output = Output(container, name)
        status: int | None = None
        init = await self._fresh(container, number, step)
        try:
            definition = _with_mounts_of(container, step)
            image = await image_of(self._state, self._plan.project, definition, self._environ)
            await sandbox.make(self._state, init, self._plan.project, definition, image)
            await self._live(init, output)
            if init.error is not None:
                message, hint = f"{about}: {init.error.message}", init.error.hint
                status = init.error.exit_code
            elif init.exit is None or not init.exit.ok:
                how = describe_exit(init.exit) if init.exit is not None else "did not run"
                message, hint = output.after(f"{about} {how}"), None
                status = init.exit.status if init.exit is not None else None
            else:
                return
        except PystackError as error:
            message, hint = f"{about}: {error.message}", error.hint
        finally:
            await self._take_away(init)
        container.note(EventKind.HOOK_FAILED, message, hook=name, exit_status=status)
        raise OperationError(message, hint=hint, place=step.place)

    async def _fresh(self, container: Container, number: int, step: InitStep) -> Container:
        """The container of a step, not made yet. One of an operation that did not end goes first."""
        state = self._state
        name = init_id(self._plan.project.name, container.instance, number)
        if (old := state.containers.get(name)) is not None:
            if old.instance.role is not Role.INIT:
                hint = "give that one another `container_name`"
                raise InputError(f'the container name "{name}" is already in use', hint=hint, place=step.place)
            await self._take_away(old)
        instance = Instance(container.service, Role.INIT, number + 1)
        record = ContainerRecord(name, instance, Definition(step.definition), boot_id=state.boot_id, own_name_only=True)
        made = state.add(record)
        made.events = _Quiet(state.events)
        return made

    async def _live(self, init: Container, output: Output) -> None:
        """From its start to its end, and to the end of what it has written."""
        supervise.launch(self._state, init)
        idle = init.idle
        assert idle is not None

        async def follow() -> None:
            await self._state.adapters.output(init.id, output.take, idle)
            output.finish()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await idle.wait()

    async def _take_away(self, init: Container) -> None:
        # Shielded, so that a cancelled operation leaves nothing that runs; it ends by its deadlines at the latest.
        with trio.move_on_after(supervise.KILL_DEADLINE_S + sandbox.UNDO_DEADLINE_S, shield=True):
            if init.idle is not None:
                await supervise.stop(self._state, init, 0.0)
            await supervise.remove_for_good(self._state, init)


class _Quiet(EventSink):
    """What happens to a container that does a step is told as the service's; of itself it tells warnings alone."""

    def __init__(self, events: EventSink) -> None:
        super().__init__(_nobody, events.wall_clock)
        self._events = events

    def note(
        self,
        kind: EventKind,
        text: str,
        service: ServiceName | None = None,
        container: ContainerId | None = None,
        **detail: Detail,
    ) -> None:
        if kind is EventKind.WARNING:
            self._events.note(kind, text, service, container, **detail)


def _nobody(_news: object) -> None:
    """Whom nothing is told to."""


def _with_mounts_of(container: Container, step: InitStep) -> Service:
    """Those of the container that is to start, but where the step has its own."""
    lent = VolumesFrom(container.id, is_container=True)
    return replace(step.definition, volumes_from=(*step.definition.volumes_from, lent))

