"""The doing of one operation of a plan, by kind. Each is idempotent, and says itself what it found to be done already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import assert_never

import trio

from orchestrator.contracts.events import Detail, EventKind
from orchestrator.contracts.state import Wanted
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.plan.images import image_key, image_requests
from orchestrator.plan.plan import Kind, Operation, Plan
from orchestrator.policy.conditions import Facts, Met, NotYet, Verdict
from orchestrator.policy.lifecycle import Trigger
from orchestrator.policy.requests import Ask, Step
from orchestrator.policy.restart import is_stop
from orchestrator.scheduler import pausing, sandbox, supervise
from orchestrator.scheduler.container import Container, Watch
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import located, pointed
from orchestrator.scheduler.images import obtain_image
from orchestrator.scheduler.outcome import Tally
from orchestrator.scheduler.preparing import Preparing, image_of
from orchestrator.scheduler.rolling import Rolling
from orchestrator.scheduler.turns import Turns
from orchestrator.scheduler.waits import DependencyWait
from orchestrator.units import signal_name

_MADE_AT_ONCE, _PREPARED_AT_ONCE = 32, 1
"""Containers of one plan (docs/decisions/0024)."""
_STARTED = (Phase.RUNNING, Phase.PAUSED)


class Settled(Exception):
    """Ends a START whose container was found to be blocked or failed and has said so itself."""

    def __init__(self, error: PystackError) -> None:
        super().__init__(error.message)
        self.error = error


class Steps:
    """The steps of one plan. `networks_made`: those that this plan has made. `environ`: as of a request for images."""

    def __init__(
        self, state: EngineState, plan: Plan, tally: Tally, environ: Mapping[str, str], rolling: Rolling
    ) -> None:
        self._state = state
        self._plan = plan
        self._tally = tally
        self._environ = environ
        self._rolling = rolling
        self._preparing = Preparing(state, plan, environ)
        self._awaited = {wait.service for operation in plan.operations for wait in operation.waits}
        self._places = {operation.id: place for place, operation in enumerate(plan.operations)}
        self._makings, self._preparations = Turns(_MADE_AT_ONCE), Turns(_PREPARED_AT_ONCE)
        self._removed = {operation.container for operation in plan.of(Kind.REMOVE)}
        self._one_by_one = False
        self.networks_made: list[NetworkName] = []

    async def do(self, operation: Operation) -> None:
        """Raises the adapters' PystackErrors, and Settled."""
        match operation.kind:
            case Kind.OBTAIN_IMAGE:
                await self._obtain(operation)
            case Kind.CREATE_NETWORK:
                await self._create_network(operation)
            case Kind.CREATE_VOLUME:
                assert operation.volume is not None
                volume = self._plan.project.volumes[operation.volume]
                await sandbox.ensure_volume(self._state, volume)
                self._note(EventKind.VOLUME_CREATED, f"created volume {operation.volume}", volume=volume.full_name)
            case Kind.CREATE:
                await self._create(self._renamed(operation), operation)
            case Kind.UPDATE:
                assert operation.definition is not None
                await sandbox.update(
                    self._state, self._container(operation), self._plan.project, operation.definition
                )
            case Kind.DISCONNECT | Kind.RECONNECT:
                await self._reconnect(self._container(operation), operation)
            case Kind.START:
                await self._start(self._container(operation), operation)
            case Kind.ANNOUNCE:
                await self._rolling.announce(operation)
            case Kind.WATCH:
                await self._rolling.watch(operation)
            case Kind.SIGNAL:
                await self._signal(operation)
            case Kind.PAUSE | Kind.UNPAUSE:
                if (container := self._known(operation)) is not None:
                    await (pausing.pause if operation.kind is Kind.PAUSE else pausing.unpause)(self._state, container)
            case Kind.STOP:
                if (container := self._known(operation)) is not None:
                    await self._stop(container, operation)
            case Kind.REMOVE:
                await self._remove(operation)
            case Kind.REMOVE_NETWORK:
                assert operation.network is not None
                anew = any(item.network == operation.network for item in self._plan.of(Kind.CREATE_NETWORK))
                await self._state.remove_networks([operation.network], anew=anew)
            case Kind.REMOVE_VOLUME:
                assert operation.volume is not None
                volume = self._plan.project.volumes[operation.volume]
                if await sandbox.of_volume(volume, self._state.adapters.volumes.remove, volume):
                    text = f"removed volume {operation.volume}"
                    self._note(EventKind.VOLUME_REMOVED, text, volume=volume.full_name)
            case _:
                assert_never(operation.kind)

    async def _obtain(self, operation: Operation) -> None:
        """For a service of the plan, or of the stack: a one-off's is in no stack. What goes wrong is pointed at where the
        service names the image."""
        project = self._plan.project
        made = [item.definition for item in self._plan.operations if item.definition is not None]
        services = (*made, *project.services.values())
        asked = ((service, request) for service in services for request in image_requests(project, service))
        service, wanted = next(pair for pair in asked if pair[1].reference == operation.image)
        try:
            await obtain_image(self._state, project, wanted, self._environ)
        except PystackError as error:
            raise located(error, project, service, image_key(project, service, wanted)) from error

    async def _create_network(self, operation: Operation) -> None:
        """All networks of the plan that nothing has to go before, at once, by the task of the first; a changed one alone.
        When one of them cannot be made, each by itself: the others can."""
        assert operation.network is not None
        first = [item.network for item in self._plan.of(Kind.CREATE_NETWORK) if item.network and not item.after]
        keys = [operation.network] if operation.after or self._one_by_one else first
        try:
            await self._ensure_networks(keys)
        except PystackError:
            if len(keys) == 1:
                raise
            self._one_by_one = True
            await self._ensure_networks([operation.network])
        if operation.after:  # The record has it as it was before, and whoever is on it must be found there as it is now.
            self._state.adapters.records.commit(self._state.record())

    async def _ensure_networks(self, keys: Sequence[NetworkName]) -> None:
        project = self._plan.project
        try:
            self.networks_made += await self._state.ensure_networks(keys, project)
        except PystackError as error:
            raise pointed(error, project) from error

    def _renamed(self, operation: Operation) -> Container:
        """The container of a CREATE: what had its place until now by another name is gone, and is called so from now on."""
        assert operation.container is not None
        if operation.renames is not None and (former := self._state.containers.get(operation.renames)) is not None:
            self._state.rename(former, operation.container)
        return self._container(operation)

    async def _create(self, container: Container, operation: Operation) -> None:
        if container.live or container.sandbox.fresh:
            return
        assert operation.definition is not None
        image = await image_of(self._state, self._plan.project, operation.definition, self._environ)
        if operation.manual is not None:
            container.amend(manual=operation.manual)
        async with self._makings.turn(self._places[operation.id]):
            if operation.anonymous:
                sandbox.remove_anonymous(self._state, container)
            await sandbox.make(self._state, container, self._plan.project, operation.definition, image)

    async def _reconnect(self, container: Container, operation: Operation) -> None:
        state, project, before = self._state, self._plan.project, container.record.manual
        manual = before if operation.manual is None else operation.manual
        if made := await state.ensure_networks([item.key for item in manual.networks], manual.known(project)):
            self.networks_made += made
            state.adapters.records.commit(state.record())  # `network rm` looks there for who is on it.
        await sandbox.reconnect(state, container, project, operation.definition, operation.cause, manual)
        left = [item.key for item in before.networks if item not in manual.networks and item.key not in project.networks]
        if left and await state.remove_networks(left):
            state.adapters.records.commit(state.record())

    async def _start(self, container: Container, operation: Operation) -> None:
        """Wait for the conditions, then hand over to the container's task; returns when its first run has begun."""
        if container.ask is Ask.MAKING_WAY and container.idle is not None:  # Another operation was stopping it.
            asked_s = container.hooks_s + container.grace_s
            deadline_s = supervise.START_DEADLINE_S + asked_s + supervise.KILL_DEADLINE_S
            await supervise.at_rest(container, container.idle, deadline_s)
        if container.phase is Phase.BACKOFF:
            supervise.hasten_start(container)
        elif not supervise.may_start(container):
            container.told(Step.WITHDRAWN)
            return
        else:
            await self._await_conditions(container, operation)
            if container.idle is not None:  # Its task is still taking down what came before.
                await supervise.at_rest(container, container.idle, supervise.KILL_DEADLINE_S)
            await self._prepare(container)
            supervise.launch(self._state, container)
        with self._first(operation):
            await _has_begun(container)
        if container.error is not None:
            if container.idle is not None:
                deadline_s = sandbox.UNDO_DEADLINE_S + supervise.KILL_DEADLINE_S
                await supervise.at_rest(container, container.idle, deadline_s)
            self._tally.fail(container.label, container.service, container.error)
            raise Settled(container.error)
        if container.failed_hook is not None:
            self._tally.fail(container.label, container.service, container.failed_hook)
            raise Settled(container.failed_hook)

    @contextmanager
    def _first(self, operation: Operation) -> Iterator[None]:
        """Others wait for it, or it has waited itself: what is made and prepared beside it can be later."""
        if not operation.waits and operation.service not in self._awaited:
            yield
            return
        with self._makings.held(), self._preparations.held():
            yield

    async def _prepare(self, container: Container) -> None:
        """What runs before it. When that fails, it does not start, and what was made of it in this operation goes."""
        try:
            await self._preparing.before(container)
        except PystackError as error:
            found = located(error, self._plan.project, container.definition)
            supervise.refuse(self._state, container, found)
            self._tally.fail(container.label, container.service, found)
            if container.sandbox.fresh:
                await sandbox.undo(self._state, container)
                container.save()
            raise Settled(found) from error

    async def _await_conditions(self, container: Container, operation: Operation) -> None:
        with DependencyWait(self._state, container, operation.waits, self._plan.selection) as wait:
            if wait.unmet and wait.refusal is None:
                self._announce_wait(container, wait)
                if not container.sandbox.fresh:  # Just stopped: it may be long until somebody answers there again.
                    await sandbox.unwire(self._state, container)
                elif container.first_run is None and not container.definition.pre_start:
                    await self._passed_ready_to_go(container, wait, self._places[operation.id])
            if not await wait.passed():
                assert wait.refusal is not None
                await self._block(container, *wait.refusal)

    async def _passed_ready_to_go(self, container: Container, wait: DependencyWait, place: int) -> None:
        """Wait with the run prepared, so that it begins the moment that the conditions hold."""
        runtime = self._state.adapters.runtime
        scope, over, passed = trio.CancelScope(), trio.Event(), False

        async def prepare() -> None:
            try:
                with scope:
                    async with self._preparations.turn(place):
                        await runtime.prepare(container.id)
            finally:
                over.set()

        assert self._state.nursery is not None, "Engine.run is not running"
        self._state.nursery.start_soon(prepare)
        try:
            passed = await wait.passed()
        finally:
            scope.cancel()
            with trio.CancelScope(shield=True):  # A half-made process is nobody's otherwise; this takes milliseconds.
                await over.wait()
                if not passed:
                    await runtime.unprepare(container.id)

    def _announce_wait(self, container: Container, wait: DependencyWait) -> None:
        container.step(Trigger.WAIT, f"waiting for {', '.join(wait.unmet)}")
        for dependency in list(wait.unmet.values()):
            on, condition = dependency.service, dependency.condition.value
            text = f"{container.label} waits for {on} ({condition.removeprefix('service_').replace('_', ' ')})"
            container.note(EventKind.SERVICE_WAITING, text, on=on, condition=condition)

    async def _block(self, container: Container, cause: Container | None, on: ServiceName, reason: str) -> None:
        """A condition can never be met. What was made of the container in this operation is taken back."""
        text = f"blocked: {reason}"
        container.amend(gave_up=text, refused=0)
        container.step(Trigger.BLOCK, text, Step.WITHDRAWN)
        ended: dict[str, Detail] = {}
        if cause is not None and cause.exit is not None and cause.has_ended:
            ended = {"dependency": cause.id, "exit_status": cause.exit.status}
        container.note(EventKind.SERVICE_BLOCKED, f"{container.label} cannot start: {reason}", on=on, **ended)
        self._tally.blocked.add(container.label)
        label = cause.label if cause is not None else on
        if label not in self._tally.blocked:
            known = cause.error if cause is not None else None
            self._tally.fail(label, on, known or OperationError(reason))
        if container.sandbox.fresh:
            await sandbox.undo(self._state, container)
            container.save()
        raise Settled(OperationError(text))

    async def _stop(self, container: Container, operation: Operation) -> None:
        if self._rolling.has(operation):
            await self._rolling.drain(operation)
        replaces = operation.replaces
        returns = replaces and container.id not in self._removed
        time_s = operation.grace_s, operation.hooks_s
        await supervise.stop(self._state, container, *time_s, stays_wanted=replaces, returns=returns)
        if container.failed_pre_stop is not None:  # It has been stopped nevertheless.
            self._tally.fail(container.label, container.service, container.failed_pre_stop)

    async def _signal(self, operation: Operation) -> None:
        container = self._known(operation)
        if container is None or container.run is None or container.run.process is None:
            return
        number = operation.signal
        container.note(EventKind.CONTAINER_STOPPING, f"sending {signal_name(number)} to {container.id}", signal=number)
        if is_stop(number, container.record.definition.stop_signal):
            container.amend(wanted=Wanted.STOPPED)
            container.save()
        await self._state.adapters.runtime.signal(container.id, number)

    async def _remove(self, operation: Operation) -> None:
        state = self._state
        assert operation.container is not None
        container = self._known(operation)
        if container is None:
            await state.adapters.networking.detach(operation.container)
            await state.adapters.runtime.remove(operation.container)
            self._note(EventKind.CONTAINER_REMOVED, f"removed {operation.container}, left over")
            return
        if container.idle is not None:
            await supervise.stop(state, container, 0.0, stays_wanted=operation.replaces)
        await sandbox.remove(state, container, anonymous=operation.anonymous, stays_wanted=operation.replaces)
        if not operation.replaces:
            self._tally.removed += 1
            state.drop(container)

    def _known(self, operation: Operation) -> Container | None:
        return self._state.containers.get(operation.container) if operation.container is not None else None

    def _container(self, operation: Operation) -> Container:
        container = self._known(operation)
        assert container is not None, f"{operation.id} is about no container"
        return container

    def _note(self, kind: EventKind, text: str, **detail: Detail) -> None:
        self._state.events.note(kind, text, None, None, **detail)


async def _has_begun(container: Container) -> None:
    begun = trio.Event()
    watch = Watch(_begun, lambda _verdict: begun.set())
    if isinstance(container.watch(watch), NotYet):
        try:
            await begun.wait()
        finally:
            container.unwatch(watch)


def _begun(facts: Facts) -> Verdict:
    """The start that was pending has happened, with all that belongs to it, or was refused."""
    if facts.pending:
        return NotYet("being started")
    return NotYet(facts.hook) if facts.hook and not facts.failed_hook and facts.phase in _STARTED else Met()
