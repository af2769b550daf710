"""Carrying out a Plan: a task per operation, each starting the moment what it comes after is done.

The executor decides nothing: order, causes and conditions are in the plan, verdicts come from `policy`. An operation
publishes its result to those after it. A failed one stops only what needs it; teardown goes on whatever fails. Each
operation is idempotent, so a plan that has gone stale while it waited does no harm.

An execution that is cancelled stops nothing that runs, and takes back what it made and never started.
"""

from __future__ import annotations

from typing import assert_never

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.network import written_addresses
from orchestrator.contracts.state import Wanted
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.plan.plan import Kind, Operation, OperationId, Plan, Verb
from orchestrator.policy.conditions import Facts, Met, Never, NotYet, Verdict, ready
from orchestrator.policy.lifecycle import Happening, State
from orchestrator.scheduler import sandbox, supervise
from orchestrator.scheduler.crew import Crew
from orchestrator.scheduler.faults import located
from orchestrator.scheduler.gate import Gate
from orchestrator.scheduler.keeper import Keeper, Watch
from orchestrator.scheduler.outcome import Failure, Outcome
from orchestrator.values import entity, field, replace

TIDY_DEADLINE_S = 60.0


@entity
class _Node:
    operation: Operation
    done: trio.Event = field(default_factory=trio.Event)
    error: PystackError | None = None
    ok: bool = False


class Execution:
    """One run of one plan."""

    def __init__(self, crew: Crew, plan: Plan) -> None:
        self._crew = crew
        self._plan = plan
        self._nodes: dict[OperationId, _Node] = {operation.id: _Node(operation) for operation in plan.operations}
        self._new: set[ServiceName] = set()
        self._networks_made: list[NetworkName] = []
        self._failures: dict[ServiceName | str, Failure] = {}
        self._blocked: set[ServiceName] = set()
        self._removed = 0
        self._ensuring: trio.Event | None = None
        self._ensure_error: PystackError | None = None

    async def run(self, *, wait: bool, wait_timeout_s: float | None) -> Outcome:
        """Everything in the plan; with `wait`, until the plan's services are ready (`policy.conditions.ready`), one of them
        can no longer be, or `wait_timeout_s` is over."""
        plan = self._plan
        self._crew.chronicle.note(
            EventKind.OPERATION_STARTED, f"{plan.verb.value} {plan.project.name}", verb=plan.verb.value
        )
        ended = "cancelled"
        try:
            await self._prepare()
            deadline = trio.current_time() + wait_timeout_s if wait and wait_timeout_s is not None else float("inf")
            with trio.CancelScope(deadline=deadline) as scope:
                async with trio.open_nursery() as nursery:
                    for node in self._nodes.values():
                        nursery.start_soon(self._perform, node)
                if wait:
                    await self._readiness()
            if scope.cancelled_caught:
                self._timed_out(wait_timeout_s or 0.0)
            ended = "failed" if self._failures else "done"
        finally:
            await self._tidy(all_done=ended == "done")
            self._crew.chronicle.note(
                EventKind.OPERATION_FINISHED,
                f"{plan.verb.value} {plan.project.name}: {ended}",
                verb=plan.verb.value,
                ok=ended == "done",
            )
        return Outcome(
            verb=plan.verb,
            changed=plan.changed,
            removed=self._removed,
            failures=tuple(self._failures.values()),
            blocked=tuple(sorted(self._blocked)),
        )

    async def _prepare(self) -> None:
        """Images, then the intents on disk: before the first side effect, once."""
        crew, plan = self._crew, self._plan
        starting = [item.service for item in plan.of(Kind.START) if item.service is not None]
        images = {name: await crew.image(plan.project, plan.project.services[name]) for name in starting}
        for name in starting:
            if name not in crew.keepers:
                self._new.add(name)
        before, crew.project = crew.project, plan.project
        crew.adapters.networking.reserve_written(written_addresses(plan.project.services.values()))
        for name in plan.selection:
            if plan.verb is Verb.UP and name in crew.keepers:
                crew.hire(plan.project.services[name])
        for name in starting:
            crew.outfit(crew.hire(plan.project.services[name]), images[name])
        for operation in plan.operations:
            self._intend(operation)
        if plan.operations or plan.verb is Verb.UP:
            try:
                crew.adapters.state.commit(crew.record())
            except PystackError as error:
                if not all(operation.kind.tears_down for operation in plan.operations):
                    crew.project = before
                    raise
                # A full disk must not keep anybody from stopping what fills it.
                self._note(EventKind.WARNING, f"cannot record the operation: {error}")
        for keeper in crew.keepers.values():
            keeper.ended_runs = 0
        stopped_first = {item.service for item in plan.of(Kind.STOP)}
        for name in starting:
            crew.keepers[name].begin_operation(held=name in stopped_first)

    def _intend(self, operation: Operation) -> None:
        keeper = self._crew.keepers.get(operation.service) if operation.service is not None else None
        if keeper is None:
            return
        match operation.kind:
            case Kind.CREATE if keeper.name in self._new:
                keeper.amend(config_hash=self._plan.hashes[keeper.name], boot_id=self._crew.boot_id)
            case Kind.START:
                keeper.amend(wanted=Wanted.RUNNING, gave_up="", restarts=0)
            case Kind.STOP | Kind.REMOVE if not operation.replaces:
                keeper.amend(wanted=Wanted.STOPPED)
            case _:
                pass

    async def _perform(self, node: _Node) -> None:
        operation = node.operation
        before = [self._nodes[identity] for identity in operation.after]
        try:
            for earlier in before:
                await earlier.done.wait()
            broken = next((earlier.error for earlier in before if not earlier.ok), None)
            if broken is not None and not operation.kind.tears_down:
                node.error = broken
                self._refuse(operation, broken)
                return
            await self._do(operation)
            node.ok = True
        except PystackError as error:
            node.error = error
            self._refuse(operation, error)
        except _Blocked as blocked:
            node.error = blocked.error
        finally:
            node.done.set()

    async def _do(self, operation: Operation) -> None:
        match operation.kind:
            case Kind.CREATE_NETWORK:
                await self._create_network(operation)
            case Kind.CREATE_VOLUME:
                assert operation.volume is not None
                self._crew.adapters.volumes.ensure(self._plan.project.volumes[operation.volume])
                self._note(EventKind.VOLUME_CREATED, f"created volume {operation.volume}")
            case Kind.CREATE:
                keeper = self._keeper(operation)
                if not keeper.live and not keeper.fresh:
                    await sandbox.make(self._crew, keeper, self._plan.hashes[keeper.name])
            case Kind.START:
                await self._start(self._keeper(operation), operation)
            case Kind.STOP:
                keeper = self._keeper(operation)
                await supervise.stop(self._crew, keeper, operation.grace_s, stays_wanted=operation.replaces)
            case Kind.REMOVE:
                await self._remove(operation)
            case Kind.REMOVE_NETWORK:
                assert operation.network is not None
                await self._crew.adapters.networking.remove([operation.network])
                self._crew.networks.discard(operation.network)
                self._note(EventKind.NETWORK_REMOVED, f"removed network {operation.network}")
            case Kind.REMOVE_VOLUME:
                assert operation.volume is not None
                if self._crew.adapters.volumes.remove(self._plan.project.volumes[operation.volume]):
                    self._note(EventKind.VOLUME_REMOVED, f"removed volume {operation.volume}")
            case _:
                assert_never(operation.kind)

    async def _create_network(self, operation: Operation) -> None:
        """All networks of the plan that nothing has to go before, at once, by the first one's task; a changed one alone."""
        if operation.after:
            await self._ensure([operation])
            return
        if self._ensuring is None:
            self._ensuring = trio.Event()
            try:
                await self._ensure([item for item in self._plan.of(Kind.CREATE_NETWORK) if not item.after])
            except PystackError as error:
                self._ensure_error = error
            finally:
                self._ensuring.set()
        await self._ensuring.wait()
        if self._ensure_error is not None:
            raise self._ensure_error

    async def _ensure(self, operations: list[Operation]) -> None:
        keys = [item.network for item in operations if item.network is not None]
        await self._crew.adapters.networking.ensure([self._plan.project.networks[key] for key in keys])
        for key in keys:
            self._networks_made.append(key)
            self._crew.networks.add(key)
            self._note(EventKind.NETWORK_CREATED, f"created network {key}")

    async def _start(self, keeper: Keeper, operation: Operation) -> None:
        """Wait for the conditions, then hand over to the container's task; returns when its first run has begun."""
        if keeper.phase is State.BACKOFF:
            supervise.hasten_start(keeper)
        elif not supervise.may_start(keeper):
            keeper.end_operation()
            return
        else:
            with Gate(self._crew, keeper, operation.waits) as gate:
                if gate.unmet and gate.refusal is None:
                    self._announce_wait(keeper, gate)
                    if not keeper.fresh:  # Just stopped: it may be long until somebody answers there again.
                        await sandbox.unwire(self._crew, keeper)
                if not await gate.passed():
                    assert gate.refusal is not None
                    await self._block(keeper, *gate.refusal)
            if keeper.idle is not None:  # Its task is still taking down what came before.
                await supervise.at_rest(keeper, keeper.idle, supervise.KILL_DEADLINE_S)
            supervise.launch(self._crew, keeper)
        begun = trio.Event()
        watch = Watch(_begun, lambda _verdict: begun.set())
        if isinstance(keeper.watch(watch), NotYet):
            try:
                await begun.wait()
            finally:
                keeper.unwatch(watch)
        if keeper.error is not None:
            if keeper.idle is not None:
                await supervise.at_rest(keeper, keeper.idle, sandbox.UNDO_DEADLINE_S + supervise.KILL_DEADLINE_S)
            self._fail(keeper.name, keeper.error)
            raise _Blocked(keeper.error)

    def _announce_wait(self, keeper: Keeper, gate: Gate) -> None:
        names = ", ".join(gate.unmet)
        keeper.step(Happening.WAIT, f"waiting for {names}")
        for dependency, _reason in list(gate.unmet.values()):
            on, condition = dependency.service, dependency.condition.value
            text = f"{keeper.name} waits for {on} ({condition.removeprefix('service_').replace('_', ' ')})"
            keeper.note(EventKind.SERVICE_WAITING, text, on=on, condition=condition)

    async def _block(self, keeper: Keeper, on: ServiceName, reason: str) -> None:
        """A condition can never be met. What was made of the container in this operation is taken back."""
        text = f"blocked: {reason}"
        keeper.end_operation()
        keeper.amend(gave_up=text)
        keeper.step(Happening.BLOCK, text)
        keeper.note(EventKind.SERVICE_BLOCKED, f"{keeper.name} cannot start: {reason}", on=on)
        self._blocked.add(keeper.name)
        if on not in self._blocked:
            cause = self._crew.keepers.get(on)
            error = cause.error if cause is not None and cause.error is not None else OperationError(reason)
            self._fail(on, error)
        if keeper.fresh:
            await sandbox.undo(self._crew, keeper)
            keeper.save()
        raise _Blocked(OperationError(text))

    async def _remove(self, operation: Operation) -> None:
        keeper = self._crew.keepers.get(operation.service) if operation.service is not None else None
        if keeper is None or keeper.container != operation.container:
            assert operation.container is not None
            await self._crew.adapters.networking.detach(operation.container)
            await self._crew.adapters.runtime.remove(operation.container)
            self._note(EventKind.CONTAINER_REMOVED, f"removed {operation.container}, left over")
            return
        if keeper.idle is not None:
            await supervise.stop(self._crew, keeper, 0.0, stays_wanted=operation.replaces)
        await sandbox.remove(self._crew, keeper, anonymous=operation.anonymous, stays_wanted=operation.replaces)
        if not operation.replaces:
            self._removed += 1
            del self._crew.keepers[keeper.name]

    async def _readiness(self) -> None:
        """Until each service of the plan is ready; at the first that can no longer be, the wait ends."""
        if self._failures:
            return
        waiting: set[ServiceName] = set()
        settled = trio.Event()
        watches: list[tuple[Keeper, Watch]] = []

        def take(name: ServiceName, verdict: Verdict) -> None:
            waiting.discard(name)
            if isinstance(verdict, Never):
                keeper = self._crew.keepers[name]
                self._fail(name, keeper.error or OperationError(verdict.reason))
            if not waiting or self._failures:
                settled.set()

        keepers = [self._crew.keepers[name] for name in self._plan.selection if name in self._crew.keepers]
        try:
            for keeper in keepers:
                watch = Watch(ready, lambda verdict, name=keeper.name: take(name, verdict))  # type: ignore[misc]
                verdict = keeper.watch(watch)
                if isinstance(verdict, NotYet):
                    waiting.add(keeper.name)
                    watches.append((keeper, watch))
                elif isinstance(verdict, Never):
                    take(keeper.name, verdict)
            if waiting and not self._failures:
                await settled.wait()
        finally:
            for keeper, watch in watches:
                keeper.unwatch(watch)

    def _timed_out(self, timeout_s: float) -> None:
        waiting = []
        for name in self._plan.selection:
            keeper = self._crew.keepers.get(name)
            verdict = ready(keeper.facts()) if keeper is not None else Met()
            if not isinstance(verdict, Met):
                waiting.append(verdict.reason)
        message = f"not ready after {timeout_s:g} s: {'; '.join(waiting) or 'the operation was still under way'}"
        self._failures.setdefault("", Failure(None, OperationError(message, hint="`pystack why SERVICE` says more")))

    async def _tidy(self, *, all_done: bool) -> None:
        """Take back what was made and never started; forget the project when nothing of it is left."""
        # Shielded, so that a cancelled operation leaves no half-made container; it ends by its deadline at the latest.
        with trio.move_on_after(TIDY_DEADLINE_S, shield=True):
            async with trio.open_nursery() as nursery:
                for operation in self._plan.of(Kind.START):
                    keeper = self._crew.keepers.get(operation.service) if operation.service is not None else None
                    if keeper is not None and keeper.pending and keeper.idle is None:
                        nursery.start_soon(self._withdraw, keeper)
                    elif keeper is not None:
                        keeper.end_operation()
                for keeper in self._crew.keepers.values():
                    if keeper.wired and keeper.idle is None:  # Stopped in order to be started again, which was not to be.
                        nursery.start_soon(sandbox.unwire, self._crew, keeper)
            for name in self._new & self._crew.keepers.keys():
                keeper = self._crew.keepers[name]
                if keeper.phase is State.ABSENT and keeper.idle is None:  # Not even its intent could be written.
                    del self._crew.keepers[name]
            if not all_done:
                await self._remove_unused_networks()
        if self._plan.verb is Verb.DOWN and all_done and not self._crew.keepers:
            self._crew.adapters.state.clear()
            self._crew.project = replace(self._crew.project, services={}, networks={}, volumes={})

    async def _withdraw(self, keeper: Keeper) -> None:
        """The operation does not start it after all."""
        keeper.end_operation()
        made = keeper.fresh
        if made:
            await sandbox.undo(self._crew, keeper)
        if keeper.name in self._new:
            keeper.step(Happening.REMOVED, "the operation was cancelled")
            del self._crew.keepers[keeper.name]
        elif made and keeper.phase in (State.CREATED, State.WAITING):
            keeper.step(Happening.CLEARED, "the operation was cancelled")
            keeper.save()
        elif keeper.phase is State.WAITING:
            keeper.step(Happening.WITHDRAW, "the operation was cancelled")

    async def _remove_unused_networks(self) -> None:
        used = {endpoint.network for keeper in self._crew.keepers.values() for endpoint in keeper.record.endpoints}
        unused = [key for key in self._networks_made if key not in used]
        if not unused:
            return
        try:
            await self._crew.adapters.networking.remove(unused)
        except PystackError as error:
            self._note(EventKind.WARNING, f"cannot remove the networks {', '.join(unused)}: {error}")
            return
        self._crew.networks.difference_update(unused)
        for key in unused:
            self._note(EventKind.NETWORK_REMOVED, f"removed network {key}: nothing is on it")

    def _refuse(self, operation: Operation, error: PystackError) -> None:
        keeper = self._crew.keepers.get(operation.service) if operation.service is not None else None
        if keeper is not None and operation.kind in (Kind.CREATE, Kind.START):
            if keeper.error is None and not keeper.live:
                found = located(error, self._plan.project, keeper.service)
                supervise.refuse(self._crew, keeper, found)
                self._fail(keeper.name, found)
            return
        self._failures.setdefault(operation.id, Failure(operation.service, error))
        self._note(EventKind.WARNING, f"{operation.id}: {error}")

    def _fail(self, service: ServiceName, error: PystackError) -> None:
        self._failures.setdefault(service, Failure(service, error))

    def _keeper(self, operation: Operation) -> Keeper:
        assert operation.service is not None
        return self._crew.keepers[operation.service]

    def _note(self, kind: EventKind, text: str) -> None:
        self._crew.chronicle.note(kind, text)


class _Blocked(Exception):
    """Ends a START whose service was found to be blocked or failed and has said so itself."""

    def __init__(self, error: PystackError) -> None:
        super().__init__(error.message)
        self.error = error


def _begun(facts: Facts) -> Verdict:
    """The start that was pending has happened, or was refused."""
    return NotYet("being started") if facts.pending else Met()
