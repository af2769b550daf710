"""The engine of one project: what the supervisor drives, and all it needs to know of the scheduler.

    engine = Engine(adapters, emit, wall_clock=time.time, boot_id=...)
    await nursery.start(engine.run)              # hosts the supervision of all containers
    await engine.adopt(records.load())           # take over what exists; the same call at a fresh start
    outcome = await engine.operate(Up(project, wait=True, wait_timeout_s=60))
    if (error := outcome.error()) is not None:
        raise error

`operate` is the only door for what changes containers: plan, claim, execute. Several operations may be under way; they
share the project by claiming containers (`claims`). `statuses` and `running` are plain reads: they take no lock and never
block.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping

import trio

from orchestrator.contracts.control import (
    Connect,
    Disconnect,
    Down,
    Operation,
    Recreate,
    Remove,
    Restart,
    Run,
    Scale,
    Start,
    Stop,
    Up,
)
from orchestrator.contracts.events import ContainerStatus, Emit, EventKind
from orchestrator.contracts.injecting import Standing
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord, Wanted, in_order
from orchestrator.errors import BusyError, PystackError
from orchestrator.model.chaos import Injection
from orchestrator.model.names import SINGLE, ContainerId, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Cascade
from orchestrator.oci.compile import compile_sandbox as compile_for_any_machine
from orchestrator.plan.plan import Kind, Plan
from orchestrator.plan.seal import Seal, check_seal
from orchestrator.scheduler import adoption, chaos, supervise
from orchestrator.scheduler.adapters import Adapters
from orchestrator.scheduler.claims import Claims, Priority, Queued, UnderWay
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import Compile, EngineState
from orchestrator.scheduler.events import EventSink
from orchestrator.scheduler.execution import Execution
from orchestrator.scheduler.images import Refreshing, refresh_images, without_secrets
from orchestrator.scheduler.outcome import Outcome
from orchestrator.scheduler.planning import check_volumes, images_of, make_plan, plan_to_resume, sealed_plan
from orchestrator.scheduler.readiness import until_met_again
from orchestrator.scheduler.rollback import plan_rollback
from orchestrator.scheduler.rolling import LiveRoll
from orchestrator.scheduler.stdio import FirstRun
from orchestrator.scheduler.timetable import Timetable, armed_by
from orchestrator.units import format_bytes
from orchestrator.values import replace

__all__ = ["Adapters", "Engine", "FirstRun", "Outcome"]

SAME_S = 600.0
"""So long an operation waits for the same one, before it takes over."""
OnPlanned = Callable[[Plan], None]


class Engine:
    """See the module's text. `compile_sandbox` is `oci.compile`'s unless given: the supervisor wraps it to add what it
    knows of the host. `boot_id`: of this boot; records of another one are of a lost world. `slugs`: names for one-offs."""

    def __init__(
        self,
        adapters: Adapters,
        emit: Emit,
        *,
        wall_clock: Callable[[], float],
        boot_id: str = "",
        compile_sandbox: Compile = compile_for_any_machine,
        slugs: Callable[[], str] = lambda: secrets.token_hex(6),
    ) -> None:
        empty = Project(name=adapters.site.project, working_dir="/", services={})
        self._state = EngineState(adapters, EventSink(emit, wall_clock), compile_sandbox, boot_id, empty)
        self._claims = Claims()
        self._refreshing = Refreshing()
        self._timetable = Timetable(self._state, self._run_job)
        self._slugs = slugs
        self._under_way = 0
        self._state.crashed = self._crashed
        adapters.runtime.on_unlogged(self._tell_unlogged)

    def _tell_unlogged(self, name: ContainerId, count: int, why: str) -> None:
        container = self._state.containers.get(name)
        if container is not None:
            text = f"{format_bytes(count)} that {container.label} wrote are not in its log: {why}"
            container.note(EventKind.WARNING, text)

    @property
    def project(self) -> Project:
        """The whole stack as recorded; one without services before the first `up`."""
        return self._state.project

    @property
    def operating(self) -> bool:
        """Whether an operation is under way."""
        return self._under_way > 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Host the supervision of all containers, until cancelled. Cancelling leaves the containers running."""
        try:
            async with trio.open_nursery() as nursery:
                self._state.nursery = nursery
                nursery.start_soon(self._timetable.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._state.nursery = None

    async def adopt(self, record: ProjectRecord | None) -> None:
        """Take over what exists (see `scheduler.adoption`). Returns when all that runs is supervised again.

        What is wanted and not there is made in the background, at the lowest priority.
        Raises HostError when the runtime cannot be asked.
        """
        if record is None:
            self._timetable.begin()
            return
        wanting = await adoption.adopt(self._state, record)
        if any(item.frozen_for for item in record.containers):
            from orchestrator.scheduler import cascade

            cascade.resume(self._state)
        assert self._state.nursery is not None, "Engine.run is not running"
        if wanting:
            self._under_way += 1
            self._state.nursery.start_soon(self._resume, wanting)
        else:
            self._timetable.begin()

    async def plan(self, request: Operation) -> Plan:
        """What `request` would do now; changes nothing. Raises what `make_plan` does."""
        return await make_plan(self._state, request, self._slugs())

    async def sealed(self, request: Operation) -> tuple[Plan, Seal]:
        """As `plan`, with what the plan rests on: `operate` takes that as `expected`."""
        if isinstance(request, (Up, Scale, Run)):
            request = without_secrets(self._state, request)
        return await sealed_plan(self._state, request, self._slugs())

    async def operate(
        self,
        request: Operation,
        *,
        first_run: FirstRun | None = None,
        on_planned: OnPlanned | None = None,
        expected: Seal | None = None,
    ) -> Outcome:
        """Plan `request` and carry the plan out. Without ``wait`` it returns once everything in it has been started, the
        conditions of its dependencies included; with it, once all are ready: healthy, or running without a health check, or
        ended with code 0; at the first that can no longer be ready, or after ``wait_timeout_s``, the wait ends.

        What went wrong with containers is in the outcome. `on_planned` gets the plan before its first side effect.
        `first_run`: what a one-off's process is connected to; it belongs to this call. `expected`: the seal of the only
        plan that may be carried out: what a pull policy wants anew is not looked for then, and containers that another
        operation has are a BusyError. Raises what `plan` does, MovedError, and HostError when the intents cannot be
        written. Cancelling it stops nothing that runs and takes back what never did.
        """
        self._under_way += 1
        try:
            environ: Mapping[str, str] = {}
            if isinstance(request, (Up, Scale, Run)):
                environ = request.registry
                request = without_secrets(self._state, request)
                self._state.reserve_written(request.project)
                if expected is None:
                    keeps = isinstance(request, Scale) or (isinstance(request, Up) and request.recreate is Recreate.NEVER)
                    if not keeps:
                        check_volumes(self._state, *images_of(request))
                    refresh = refresh_images(self._state, *images_of(request), environ, replaces=not keeps)
                    await self._refreshing.during(refresh)
            if isinstance(request, Down) and request.selection.everything and expected is None:
                await self._refreshing.end_all()
                await chaos.end_all(self._state)
            plan = await (self._plan_and_free(request) if expected is None else self._plan_as(request, expected))
            if on_planned is not None:
                on_planned(plan)
            self._tell_orphans(request, plan)
            drafts = self._drafts(request, plan)
            first_runs = dict.fromkeys(drafts, first_run) if first_run is not None else {}
            state, now = self._state, self._state.events.wall_clock()
            jobs = armed_by(request, plan.project, state.jobs, now)
            execution = Execution(
                state, self._claims, plan, drafts=drafts, first_runs=first_runs, environ=environ, jobs=jobs
            )
            wait, timeout_s = _waiting(request)
            before = self._state.project
            with self._claims.under_way(execution, _asks(request)):
                outcome = await execution.run(wait=wait, wait_timeout_s=timeout_s)
            for live in execution.to_take_back:
                outcome = await self._roll_back(live, before, outcome)
            if isinstance(request, Up):
                outcome = await self._brought_up(request, plan, outcome)
            await chaos.end_pointless(self._state)
            return outcome
        finally:
            if first_run is not None:
                first_run.close()
            self._under_way -= 1
            self._timetable.changed()

    async def _brought_up(self, request: Up, plan: Plan, outcome: Outcome) -> Outcome:
        async with self._state.networks_lock:
            await self._state.observe(request.project)
        if request.wait or not outcome.ok:
            return outcome
        return replace(outcome, failures=await until_met_again(self._state, plan))

    def next_run(self, job: ServiceName) -> float | None:
        """When its schedule runs it next (epoch seconds); None: not at all."""
        return self._timetable.next_at(job)

    def statuses(self) -> tuple[ContainerStatus, ...]:
        """A row for each container that exists or is wanted, in the order of the stack, orphans last."""
        order = {name: number for number, name in enumerate(self._state.project.services)}
        rows = in_order(item.record for item in self._state.containers.values())
        rows.sort(key=lambda item: (order.get(item.instance.service, len(order)), item.instance.service))
        return tuple(self._state.containers[item.container].status() for item in rows)

    def empty(self) -> bool:
        """Nothing of the project is left, not even a network: `run --rm` leaves those that it made, for the next one."""
        return not self._state.containers and not self._state.networks

    def running(self) -> bool:
        """Whether anything still needs a supervisor: a run, a restart to come, an operation, a removal by --rm, a fault on
        purpose, a schedule."""
        return self._under_way > 0 or bool(self._state.faults or self._state.jobs) or any(
            item.live or item.idle is not None or (item.doomed and item.record.auto_remove)
            for item in self._state.containers.values()
        )

    async def inject(self, injection: Injection) -> Standing:
        """Make a fault on purpose. Raises InputError for an end that the project does not have, OperationError for one that
        it cannot be made on, HostError when the kernel cannot."""
        return await chaos.inject(self._state, injection)

    def injected(self) -> tuple[Standing, ...]:
        """The faults that stand, the oldest first."""
        return tuple(chaos.standing(fault) for fault in self._state.faults.values())

    async def undo(self, faults: Collection[str]) -> tuple[Standing, ...]:
        """End these faults. Raises InputError for one that does not stand, and none has ended then."""
        return await chaos.undo(self._state, faults)

    def done_reading(self, first_run: FirstRun) -> None:
        """Whoever made a one-off with it has read what it wrote, or is gone: with ``--rm`` it may go."""
        first_run.reading = False
        for container in list(self._state.containers.values()):
            if container.reader is first_run:
                supervise.remove_if_due(self._state, container)

    async def _plan_and_free(self, request: Operation) -> Plan:
        """A plan whose containers nobody else has. Freeing them changes what there is, so the plan is made again then."""
        with self._claims.queued(_asks(request)) as place:
            while True:
                plan = await make_plan(self._state, request, self._slugs())
                touched = plan.containers | self._updated_meanwhile(request, plan) | self._going_meanwhile(request, plan)
                everything = isinstance(request, Down) and request.selection.everything
                if plan.operations and not touched and not everything:
                    return plan  # Signals, pauses: nobody has to let go of anything for these.
                place.wants = touched | self._replicas_of(plan) if not everything else None
                if (earlier := self._claims.before(place, place.wants)) is not None:
                    if not (place.asks and place.asks == earlier.asks) and not isinstance(request, (Connect, Disconnect)):
                        earlier.pressed.set()
                    await earlier.over.wait()
                elif leaving := self._leaving(plan):
                    await leaving[0].wait()
                elif not (held := self._claims.held(touched)):
                    return plan
                elif isinstance(request, (Connect, Disconnect)):  # Nobody's `up` should end for it.
                    names = ", ".join(sorted(frozenset().union(*held.values())))
                    raise BusyError(f"{names}: an operation is under way", hint="wait for it, or press Ctrl-C there")
                elif (same := self._claims.same(place, held)) is not None:
                    await self._until_over(same, place, plan.verb.value)
                else:
                    await self._claims.take_over(touched, plan.verb.value)

    async def _until_over(self, same: UnderWay, place: Queued, verb: str) -> None:
        """Or until somebody else comes, or it takes too long: then it is taken over."""
        text = f"the same `{verb}` is under way already: the later one waits for it"
        self._state.events.note(EventKind.WARNING, text)
        with trio.move_on_after(SAME_S) as scope:
            async with trio.open_nursery() as nursery:
                for event in (same.over, place.pressed):
                    nursery.start_soon(_set_off, event, nursery.cancel_scope)
        if scope.cancelled_caught:
            place.pressed.set()

    def _replicas_of(self, plan: Plan) -> frozenset[ContainerId]:
        """What there is of the services that it decides about, whether it has to do anything with them now or not."""
        return frozenset(item.id for item in self._state.containers.values() if item.service in plan.selection)

    def _leaving(self, plan: Plan) -> list[trio.Event]:
        """When those are gone that go by themselves, and whose names the plan needs."""
        return [gone for name, gone in self._state.retiring.items() if name in plan.containers]

    def _updated_meanwhile(self, request: Operation, plan: Plan) -> frozenset[ContainerId]:
        """What another operation is updating of the services that this one decides about."""
        if not isinstance(request, Up) or request.recreate is Recreate.NEVER:
            return frozenset()
        under_way = (self._state.rolling.get(name, frozenset()) for name in plan.selection)
        return frozenset().union(*under_way)

    def _going_meanwhile(self, request: Operation, plan: Plan) -> frozenset[ContainerId]:
        """What another operation has still to stop of the services that this one wants to run. It runs yet, so that the
        plan has nothing to do with it."""
        if not isinstance(request, (Up, Scale, Start)):
            return frozenset()
        updated = frozenset().union(*self._state.rolling.values())
        there = (item for item in self._state.containers.values() if item.service in plan.selection and item.live)
        going = (item.id for item in there if item.record.wanted is Wanted.STOPPED and item.id not in updated)
        return frozenset(name for name in going if not self._claims.free(name))

    async def _roll_back(self, live: LiveRoll, before: Project, outcome: Outcome) -> Outcome:
        """Take back a rolling update that has failed, unless somebody else has a hand on it by now."""
        service = live.roll.service
        try:
            plan = await plan_rollback(self._state, live.roll, live.image, before)
            while leaving := self._leaving(plan):
                await leaving[0].wait()
                plan = await plan_rollback(self._state, live.roll, live.image, before)
            if live.taken or self._claims.held(plan.containers):
                return outcome.noted(f"update of {service} not rolled back: another operation has taken it over")
            result = await Execution(self._state, self._claims, plan).run()
        except PystackError as error:
            return outcome.noted(f"update of {service} not rolled back: {error.headline}")
        if result.failures:
            return outcome.noted(f"update of {service} not rolled back: {result.failures[0].error.headline}")
        return outcome.noted(f"update of {service} rolled back")

    async def _plan_as(self, request: Operation, expected: Seal) -> Plan:
        """The plan that was expected, of containers that nobody else has. Raises MovedError, BusyError."""
        plan, seal = await sealed_plan(self._state, request, self._slugs())
        check_seal(expected, seal)
        if self._claims.held(plan.containers) or self._claims.before(None, plan.containers) is not None:
            raise BusyError("another operation is under way with the plan's containers", hint="wait for it, then try again")
        return plan

    def _drafts(self, request: Operation, plan: Plan) -> dict[ContainerId, ContainerRecord]:
        """The record of the one-off that ``run`` makes."""
        if not isinstance(request, Run):
            return {}
        made = next(item for item in plan.of(Kind.CREATE) if item.instance and item.instance.role in SINGLE)
        assert made.container is not None
        assert made.instance is not None
        record = ContainerRecord(
            made.container,
            made.instance,
            Definition(request.definition),
            auto_remove=request.remove,
            own_name_only=not request.use_aliases,
            due_at=request.due_at,
        )
        return {made.container: record}

    def _tell_orphans(self, request: Operation, plan: Plan) -> None:
        if not plan.orphans or not isinstance(request, (Up, Run)) or request.ignore_orphans:
            return
        left = [name for name in plan.orphans if self._state.containers[name].service in plan.project.services]
        strays = ", ".join(name for name in plan.orphans if name not in left)
        found = [f"orphan containers, whose services are in no file of this stack: {strays}"] if strays else []
        found += [f"orphan containers, left over from `run`: {', '.join(left)}"] if left else []
        text = f"{'; '.join(found)}; --remove-orphans removes them"
        self._state.events.note(EventKind.WARNING, text, orphans=tuple(plan.orphans))

    def _crashed(self, leader: Container) -> None:
        dependents = (service.depends_on.get(leader.service) for service in self._state.project.services.values())
        if any(edge is not None and edge.after_crash is not Cascade.IGNORE for edge in dependents):
            from orchestrator.scheduler import cascade  # Few stacks have one.

            cascade.begin(self._state, self._claims, leader)

    async def _begin_timetable(self) -> None:
        self._timetable.begin()

    async def _run_job(self, request: Run) -> PystackError | None:
        try:
            return (await self.operate(request)).error()
        except PystackError as error:
            return error

    async def _resume(self, wanting: tuple[ContainerId, ...]) -> None:
        """Make what was wanted and is not there, but for what a user's operation has its hands on."""
        try:
            plan = await plan_to_resume(self._state, wanting)
            if theirs := self._claims.held(plan.containers):
                taken = frozenset().union(*theirs.values())
                plan = await plan_to_resume(self._state, [name for name in wanting if name not in taken])
            if not plan.empty and not self._claims.held(plan.containers):
                assert self._state.nursery is not None, "Engine.run is not running"
                # By the time that it gets its turn, it is known that these will be started.
                self._state.nursery.start_soon(self._begin_timetable)
                await Execution(self._state, self._claims, plan, Priority.RESUME).run()
        except PystackError as error:
            self._state.warn("cannot finish what was begun", error)
        finally:
            self._timetable.begin()
            self._under_way -= 1


def _asks(request: Operation) -> Operation | None:
    """What is equal for two that want the same to be done; None for what is done once for each."""
    match request:
        case Up():
            return replace(request, wait=False, wait_timeout_s=None, registry={})
        case Start():
            return replace(request, wait=False, wait_timeout_s=None)
        case Scale():
            return replace(request, registry={})
        case Stop() | Restart() | Remove() | Down():
            return request
    return None


async def _set_off(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _waiting(request: Operation) -> tuple[bool, float | None]:
    if isinstance(request, (Up, Start)):
        return request.wait, request.wait_timeout_s
    return False, None

