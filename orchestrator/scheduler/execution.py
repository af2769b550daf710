"""Carrying out a Plan: a task per operation, each starting the moment what it comes after is done.

The executor decides nothing: order, causes and conditions are in the plan, verdicts come from `policy`, the doing is in
`steps`. An operation publishes its result to those after it. A failed one stops only what needs it; teardown goes on
whatever fails. Each operation is idempotent, so a plan that has gone stale while it waited does no harm.

An execution ends early in three ways. Cancelled as a whole, it stops nothing that runs, and takes back what it made and
never started. One of its containers may be taken over by a later operation (`give_up`): its nodes for that container end,
at a point from which the other operation can go on, and the rest of them go on, but for images that nobody here needs any
more: a build may take an hour. A deadline (``--wait-timeout``) is like the first.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.state import Armed, ContainerRecord, Definition, Wanted
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.plan.plan import Kind, Operation, OperationId, Plan, Verb
from orchestrator.policy.lifecycle import Trigger
from orchestrator.policy.requests import Step
from orchestrator.scheduler import sandbox, supervise
from orchestrator.scheduler.claims import Claims, Priority
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import located
from orchestrator.scheduler.outcome import Outcome, Tally, with_note
from orchestrator.scheduler.readiness import until_ready, who_waits
from orchestrator.scheduler.rolling import Halted, LiveRoll, Rolling
from orchestrator.scheduler.stdio import FirstRun
from orchestrator.scheduler.steps import Settled, Steps
from orchestrator.values import entity, field, replace

TIDY_DEADLINE_S = 60.0
_RECORDS_STACK = frozenset({Verb.UP, Verb.SCALE, Verb.RUN})


@entity
class _Node:
    """`spared`: not done, so that what runs goes on, for there is no image to make the next one from."""

    operation: Operation
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    begun: bool = False
    ok: bool = False
    cancelled: bool = False
    spared: bool = False
    error: PystackError | None = None
    taken_by: str = ""


class Execution:
    """One run of one plan, and the holder of its containers' claims (`claims.Holder`)."""

    def __init__(
        self,
        state: EngineState,
        claims: Claims,
        plan: Plan,
        priority: Priority = Priority.USER,
        drafts: dict[ContainerId, ContainerRecord] | None = None,
        first_runs: dict[ContainerId, FirstRun] | None = None,
        environ: Mapping[str, str] | None = None,
        jobs: Mapping[ServiceName, Armed] | None = None,
    ) -> None:
        """`drafts`: what is known of containers that the plan makes and that have no record yet. `first_runs`: what their
        processes are connected to. `environ`: of whoever asked (`ImageRequest.environ`). `jobs`: those whose schedules are
        in force from now on; None: as before."""
        self.priority = priority
        self._state = state
        self._claims = claims
        self._plan = plan
        self._drafts = drafts or {}
        self._first_runs = first_runs or {}
        self._nodes: dict[OperationId, _Node] = {operation.id: _Node(operation) for operation in plan.operations}
        self._of: dict[ContainerId, list[_Node]] = {}
        for node in self._nodes.values():
            if node.operation.container is not None:
                self._of.setdefault(node.operation.container, []).append(node)
        # Else the patience of those who wait for something would begin anew each time that a job is due.
        self._asked_for = priority is Priority.USER and not any(draft.due_at for draft in self._drafts.values())
        self._jobs = jobs
        self._former = plan.renamed
        self._later = {former: name for name, former in self._former.items()}
        self._new: set[ContainerId] = set()
        self._started = {operation.container for operation in plan.of(Kind.START)}
        self._tally = Tally()
        self._rolling = Rolling(state, plan)
        self._steps = Steps(state, plan, self._tally, environ or {}, self._rolling)

    async def run(self, *, wait: bool = False, wait_timeout_s: float | None = None) -> Outcome:
        """Everything in the plan; with `wait`, until the plan's services are ready (`policy.conditions.ready`), one of them
        can no longer be, or `wait_timeout_s` is over. Raises HostError when the intents cannot be written."""
        plan, verb = self._plan, self._plan.verb.value
        self._claims.claim(self, plan.containers)
        rolling = {roll.service: self._rolling.whole(roll.slots[0].old) for roll in plan.rolls}
        self._state.rolling.update(rolling)
        starts = tuple(operation.container for operation in plan.of(Kind.START) if operation.container)
        self._state.events.note(EventKind.OPERATION_STARTED, f"{verb} {plan.project.name}", verb=verb, starts=starts)
        ended = "cancelled"
        try:
            self._prepare()  # Without an await since the claim: whoever plans next sees these intents.
            deadline = trio.current_time() + wait_timeout_s if wait and wait_timeout_s is not None else float("inf")
            with trio.CancelScope(deadline=deadline) as scope:
                async with trio.open_nursery() as nursery:
                    for node in self._nodes.values():
                        nursery.start_soon(self._perform, node)
                if wait:
                    await until_ready(self._state, plan.selection, self._tally)
            if scope.cancelled_caught:
                self._timed_out(wait_timeout_s or 0.0)
            ended = "failed" if self._tally.failures else "done"
        finally:
            await self._tidy(all_done=ended == "done")
            for service, containers in rolling.items():
                if self._state.rolling.get(service) is containers:  # Else another operation has taken it over.
                    del self._state.rolling[service]
            self._claims.release(self, plan.containers)
            self._state.events.note(
                EventKind.OPERATION_FINISHED, f"{verb} {plan.project.name}: {ended}", verb=verb, ok=ended == "done"
            )
        return Outcome(
            verb=plan.verb,
            changed=plan.changed,
            removed=self._tally.removed,
            failures=with_note(self._tally.failures.values(), self._rolling.verdict()),
            blocked=tuple(sorted(self._tally.blocked)),
            container=next(iter(self._drafts), None),
        )

    @property
    def to_take_back(self) -> list[LiveRoll]:
        """Rolling updates that have failed and are to be rolled back."""
        return self._rolling.to_take_back

    async def give_up(self, containers: frozenset[ContainerId], to: str) -> None:
        containers = self._rolling.with_mates(frozenset().union(*map(self._called, containers)))
        self._rolling.give_up(containers)
        nodes = [node for name in containers for node in self._of.get(name, ()) if not node.done.is_set()]
        for node in nodes:
            # Half a removal helps nobody, and ends by itself.
            if not (node.begun and node.operation.kind is Kind.REMOVE):
                node.taken_by = to
                node.scope.cancel()
        for node in nodes:
            await node.done.wait()
        await self._give_up_images(to)

    async def _give_up_images(self, to: str) -> None:
        """End getting those that no operation which is left comes after."""
        left = [node for node in self._nodes.values() if not node.done.is_set()]
        needed = {identity for node in left for identity in node.operation.after}
        nodes = [
            node for node in left
            if node.operation.kind is Kind.OBTAIN_IMAGE and node.operation.id not in needed
        ]  # fmt: skip
        for node in nodes:
            node.taken_by = to
            node.scope.cancel()
        for node in nodes:
            await node.done.wait()

    def _prepare(self) -> None:
        """The intents in memory, then on disk: before the first side effect, once."""
        state, plan = self._state, self._plan
        before, armed = state.project, state.jobs
        for operation in plan.of(Kind.CREATE):
            if operation.renames is None and not self._rolling.comes_later(operation.container):
                self._add(operation)
        if plan.verb in _RECORDS_STACK:
            state.project = plan.project
        if self._jobs is not None:
            state.jobs = self._jobs
        for operation in plan.operations:
            self._intend(operation)
        if plan.operations or plan.verb in _RECORDS_STACK or state.jobs != armed:
            try:
                state.adapters.records.commit(state.record())
            except PystackError as error:
                if not all(operation.kind.tears_down for operation in plan.operations):
                    self._take_back(before, armed)
                    raise
                # A full disk must not keep anybody from stopping what fills it.
                state.warn("cannot record the operation", error)
        for container in state.containers.values():
            if self._asked_for or container.id in plan.containers:
                container.ended_runs = 0
                container.failed_hook = container.failed_pre_stop = None
        stopped_first = {operation.container for operation in plan.of(Kind.STOP)}
        self._rolling.begin()
        for operation in plan.of(Kind.START):
            if self._rolling.comes_later(operation.container):
                continue
            container = self._container(operation)
            container.begin_operation(Step.ASK_RESTART if container.id in stopped_first else Step.ASK_START)

    def _add(self, operation: Operation) -> None:
        """What is to be made gets its record. (What is replaced keeps its old one until the old sandbox is gone, so that a
        crash in between cannot make old content pass for new.)"""
        assert operation.container is not None
        assert operation.instance is not None
        assert operation.definition is not None
        if operation.container in self._state.containers:
            return
        record = self._drafts.get(operation.container) or ContainerRecord(
            operation.container, operation.instance, Definition(operation.definition)
        )
        made = self._state.add(replace(record, boot_id=self._state.boot_id))
        made.first_run = made.reader = self._first_runs.get(made.id)
        self._new.add(operation.container)

    def _take_back(self, before: Project, armed: Mapping[ServiceName, Armed]) -> None:
        self._state.project, self._state.jobs = before, armed
        for name in self._new:
            self._state.drop(self._state.containers[name])
        self._new.clear()

    def _intend(self, operation: Operation) -> None:
        container = self._known(operation)
        if container is None:
            return
        match operation.kind:
            case Kind.CREATE if operation.container not in self._started:
                container.amend(wanted=Wanted.STOPPED)
            case Kind.START:
                container.amend(wanted=Wanted.RUNNING, gave_up="", restarts=0, forgiven=0, halted=False)
                container.doomed = False  # Whoever was removing it has given it up.
            case Kind.STOP | Kind.REMOVE if self._rolling.will_be_succeeded(container.id):
                pass  # It is wanted until its slot's turn, and then as long as its successor has not been announced.
            case Kind.STOP | Kind.REMOVE if not operation.replaces:
                container.amend(wanted=Wanted.STOPPED, halted=operation.halts)
                container.doomed = container.doomed or operation.kind is Kind.REMOVE
            case _:
                pass

    async def _perform(self, node: _Node) -> None:
        operation = node.operation
        before = [self._nodes[identity] for identity in operation.after]
        try:
            with node.scope:
                for earlier in before:
                    await earlier.done.wait()
                await trio.lowlevel.checkpoint_if_cancelled()
                broken = next((earlier.error for earlier in before if not earlier.ok), None)
                if broken is not None and self._rolling.has(operation):
                    node.error = broken
                    await self._rolling.skip(operation)
                    return
                node.spared = any(_spares(earlier, operation) for earlier in before)
                if broken is not None and (node.spared or not operation.kind.tears_down):
                    node.error = broken
                    if not operation.kind.tears_down:
                        self._refuse(operation, broken)
                    return
                if self._rolling.has(operation):
                    await self._rolling.turn(operation)
                node.begun = True
                await self._steps.do(operation)
                node.ok = True
        except PystackError as error:
            node.error = error
            self._refuse(operation, error)
            self._rolling.failed(operation)
        except Settled as settled:
            node.error = settled.error
            self._rolling.failed(operation)
        except Halted as halted:
            node.error = halted.error
            await self._rolling.skip(operation)
        except trio.Cancelled:  # All of it is cancelled. The container stays ours until `_tidy` has looked after it.
            node.cancelled = True
            raise
        finally:
            if node.taken_by and not node.ok:
                await self._hand_over(node)
            await self._rolling.ended(operation)
            node.done.set()
            self._release(operation.container)

    def _release(self, container: ContainerId | None) -> None:
        if container is None:
            return
        # Those of an update are released when all of it is over, and both names of what gets another one.
        together = self._rolling.whole(container) | self._called(container)
        nodes = [node for name in together for node in self._of.get(name, ())]
        if all(node.done.is_set() and not node.cancelled for node in nodes):
            self._claims.release(self, together)

    async def _hand_over(self, node: _Node) -> None:
        """This operation has no more to do with the container: leave it so that another can go on with it."""
        operation = node.operation
        label = self._plan.label(operation)
        node.error = node.error or OperationError(f'{label}: taken over by "{node.taken_by}"')
        container = self._known(operation)
        if container is None:
            return
        self._tally.fail(container.label, container.service, node.error)
        if self._rolling.is_queued(operation):
            container.told(Step.WITHDRAWN)
            return
        goes = operation.kind in (Kind.STOP, Kind.REMOVE) and not operation.replaces and not self._rolling.has(operation)
        if goes and not node.begun and container.live and not container.ask.ending:  # It was not told yet that it goes.
            container.amend(wanted=Wanted.RUNNING, halted=False)
            container.doomed = False
            container.save()
        if operation.kind is not Kind.START or not container.pending:
            return
        if not container.live or container.ask.ending:  # Else it goes on, and may be left as it is found.
            container.amend(wanted=Wanted.STOPPED)
            container.save()  # The other operation may have nothing to do about it.
        if container.phase is Phase.WAITING:
            why = f'not started: taken over by "{node.taken_by}"'
            container.step(Trigger.CREATED if container.sandbox.fresh else Trigger.WITHDRAW, why, Step.WITHDRAWN)
        else:
            container.told(Step.WITHDRAWN)
        if container.idle is None:
            # Shielded, so that it is off its networks when the other operation looks; the adapter has its own deadlines.
            with trio.move_on_after(sandbox.UNDO_DEADLINE_S, shield=True):
                await sandbox.unwire(self._state, container)

    def _timed_out(self, timeout_s: float) -> None:
        waiting = "; ".join(who_waits(self._state, self._plan.selection)) or "the operation was still under way"
        message = f"application not healthy after {timeout_s:g}s: {waiting}"
        self._tally.fail("", None, OperationError(message, hint="`pystack why SERVICE` says more"))

    async def _tidy(self, *, all_done: bool) -> None:
        """Take back what was made and never started; forget the project when nothing of it is left."""
        state = self._state
        # Shielded, so that a cancelled operation leaves no half-made container; it ends by its deadline at the latest.
        with trio.move_on_after(TIDY_DEADLINE_S, shield=True):
            async with trio.open_nursery() as nursery:
                for operation in self._plan.of(Kind.START):
                    container = self._known(operation)
                    if container is None or not self._claims.holds(self, container.id):
                        continue
                    if container.pending and container.idle is None:
                        nursery.start_soon(self._withdraw, container)
                    elif container.pending:
                        container.told(Step.WITHDRAWN)
                for container in self._never_ran():
                    nursery.start_soon(supervise.remove_for_good, state, container)
                for container in state.containers.values():
                    mine = self._claims.free(container.id) or self._claims.holds(self, container.id)
                    if container.sandbox.wired and container.idle is None and mine and not container.sandbox.fresh:
                        nursery.start_soon(sandbox.unwire, state, container)  # Stopped to be started, which was not to be.
            self._forget_unmade()
            if not all_done:
                await self._remove_unused_networks()
        if self._plan.verb is Verb.DOWN and all_done and not state.containers and not self._claims.awaited:
            state.adapters.records.clear()
            state.project = replace(state.project, services={}, networks={}, volumes={}, jobs={})

    def _never_ran(self) -> list[Container]:
        """One-offs that could not be made or started, or are blocked: nobody will ever start them."""
        made = [self._state.containers[name] for name in self._drafts.keys() & self._state.containers.keys()]
        over = (Phase.FAILED, Phase.BLOCKED)
        return [item for item in made if item.phase in over and item.exit is None and not (item.idle or item.doomed)]

    def _forget_unmade(self) -> None:
        """Containers of which nothing was made, not even their intent perhaps."""
        for name in self._new & self._state.containers.keys():
            container = self._state.containers[name]
            mine = self._claims.free(name) or self._claims.holds(self, name)
            if container.phase is Phase.ABSENT and container.idle is None and mine:
                container.step(Trigger.REMOVED, "never made")
                self._state.drop(container)

    async def _withdraw(self, container: Container) -> None:
        """The operation does not start it after all."""
        container.told(Step.WITHDRAWN)
        made = container.sandbox.fresh
        if made:
            await sandbox.undo(self._state, container)
        if container.id in self._new:
            container.step(Trigger.REMOVED, "the operation was cancelled")
            self._state.drop(container)
        elif made and container.phase in (Phase.CREATED, Phase.WAITING):
            container.step(Trigger.CLEARED, "the operation was cancelled")
            container.save()
        elif container.phase is Phase.WAITING:
            container.step(Trigger.WITHDRAW, "the operation was cancelled")

    async def _remove_unused_networks(self) -> None:
        try:
            await self._state.remove_networks(self._steps.networks_made, ": nothing is on it")
        except PystackError as error:
            self._state.warn("cannot remove networks", error)

    def _refuse(self, operation: Operation, error: PystackError) -> None:
        container = self._known(operation)
        if container is not None and operation.kind in (Kind.CREATE, Kind.START):
            if container.error is None and not container.live:
                found = located(error, self._plan.project, operation.definition or container.definition)
                supervise.refuse(self._state, container, found)
                self._tally.fail(container.label, container.service, found)
            return
        label = self._plan.label(operation)
        self._tally.fail(label, operation.service, error)
        # The first tells of itself; of the second, whoever cannot be made for it; of the only one, the operation's error.
        if operation.kind not in (Kind.OBTAIN_IMAGE, Kind.CREATE_NETWORK) and len(self._nodes) > 1:
            self._state.warn(label, error)

    def _called(self, container: ContainerId) -> frozenset[ContainerId]:
        """The names that it has in the course of the plan."""
        return frozenset((container, self._former.get(container, container), self._later.get(container, container)))

    def _known(self, operation: Operation) -> Container | None:
        """The container of `operation`, by what it is called now."""
        name = operation.container or ContainerId("")
        found = self._state.containers.get(name)
        return found if found is not None else self._state.containers.get(self._former.get(name, name))

    def _container(self, operation: Operation) -> Container:
        container = self._known(operation)
        assert container is not None, f"{operation.id} is about no container"
        return container


def _spares(earlier: _Node, operation: Operation) -> bool:
    """Nothing is torn down to make room for what cannot be made."""
    lacking = operation.replaces and earlier.operation.kind is Kind.OBTAIN_IMAGE
    return not earlier.ok and (lacking or earlier.spared)
