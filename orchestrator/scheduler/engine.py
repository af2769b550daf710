"""The engine of one project: what the supervisor drives, and all it needs to know of the scheduler.

    engine = Engine(adapters, emit, wall_clock=time.time, boot_id=...)
    await nursery.start(engine.run)              # hosts the supervision of all containers
    await engine.adopt(state.load())             # take over what exists; the same call at a fresh start
    await engine.interrupt_resumption()
    plan = await engine.plan(Verb.UP, project=project, services=())
    outcome = await engine.execute(plan, wait=True, wait_timeout_s=60)
    if (error := outcome.error()) is not None:
        raise error

`statuses` and `running` are plain reads: they take no lock and never block. One operation runs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from signal import SIGKILL
from typing import assert_never

import trio

from orchestrator.contracts.events import Emit, EventKind, ServiceStatus
from orchestrator.contracts.state import ProjectRecord, Wanted
from orchestrator.errors import BusyError, InputError, PystackError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.oci.compile import compile_sandbox
from orchestrator.plan.healthcheck import healthcheck_of
from orchestrator.plan.observed import ObservedProject, observe
from orchestrator.plan.plan import Plan, Verb
from orchestrator.plan.reconcile import Recreate, plan_down, plan_restart, plan_resume, plan_start, plan_stop, plan_up
from orchestrator.policy.exits import signal_name
from orchestrator.scheduler import adoption, supervise
from orchestrator.scheduler.adapters import Adapters
from orchestrator.scheduler.chronicle import Chronicle
from orchestrator.scheduler.crew import Compile, Crew, FindCheck
from orchestrator.scheduler.execution import Execution
from orchestrator.scheduler.faults import signal_number
from orchestrator.scheduler.outcome import Outcome

__all__ = ["Adapters", "Engine", "Outcome"]


class Engine:
    """See the module's text. `compile_sandbox` and `healthcheck_of` are the real ones unless given: the supervisor wraps
    the first to add what it knows of the host. `boot_id`: of this boot; records of another one are of a lost world."""

    def __init__(
        self,
        adapters: Adapters,
        emit: Emit,
        *,
        wall_clock: Callable[[], float],
        boot_id: str = "",
        compile_sandbox: Compile = compile_sandbox,
        healthcheck_of: FindCheck = healthcheck_of,
    ) -> None:
        empty = Project(name=adapters.site.project, working_dir="/", services={})
        chronicle = Chronicle(emit, wall_clock)
        self._crew = Crew(adapters, chronicle, compile_sandbox, healthcheck_of, boot_id, empty)
        self._operation: str | None = None
        self._since_s = 0.0
        self._resuming: trio.CancelScope | None = None
        self._resumed: trio.Event | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Host the supervision of all containers, until cancelled. Cancelling leaves the containers running."""
        try:
            async with trio.open_nursery() as nursery:
                self._crew.nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._crew.nursery = None

    async def adopt(self, record: ProjectRecord | None) -> None:
        """Take over what exists (see `scheduler.adoption`). Returns when all that runs is supervised again.

        What is wanted and not there is made in the background; `interrupt_resumption` ends that.
        Raises HostError when the runtime cannot be asked.
        """
        if record is None:
            return
        wanting = await adoption.adopt(self._crew, record)
        assert self._crew.nursery is not None, "Engine.run is not running"
        if wanting:
            self._resuming, self._resumed = trio.CancelScope(), trio.Event()
            self._crew.nursery.start_soon(self._resume, wanting, self._resuming, self._resumed)

    async def plan(
        self,
        verb: Verb,
        *,
        project: Project | None = None,
        services: Iterable[ServiceName] = (),
        recreate: Recreate = Recreate.CHANGED,
        no_deps: bool = False,
        volumes: bool = False,
        remove_orphans: bool = False,
        timeout_s: float | None = None,
    ) -> Plan:
        """What `verb` would do now; changes nothing. `project`: the wanted stack, for UP (needed there); the other verbs
        use the recorded one. `services`: none means all. `timeout_s`: for STOP, RESTART and DOWN, instead of each
        service's grace period.

        Raises InputError (a cycle, an unknown service, an image reference), OperationError (an image that does not exist,
        a service without a container), HostError.
        """
        crew = self._crew
        names = tuple(services)
        wanted = project if project is not None and (verb is Verb.UP or not crew.keepers) else crew.project
        self._require(wanted, names)
        observed = await self._observe(wanted)
        match verb:
            case Verb.UP:
                assert project is not None, "up needs a project"
                images = await self._identities(wanted, names, no_deps)
                return plan_up(
                    wanted,
                    observed,
                    names,
                    images=images,
                    recreate=recreate,
                    no_deps=no_deps,
                    remove_orphans=remove_orphans,
                    timeout_s=timeout_s,
                )
            case Verb.START:
                images = await self._identities(wanted, names, no_deps)
                return plan_start(wanted, observed, names, images=images, no_deps=no_deps)
            case Verb.RESTART:
                images = await self._identities(wanted, (), False)
                return plan_restart(wanted, observed, names, images=images, timeout_s=timeout_s, no_deps=no_deps)
            case Verb.STOP:
                return plan_stop(wanted, observed, names, timeout_s=timeout_s)
            case Verb.DOWN:
                return plan_down(wanted, observed, volumes=volumes, remove_orphans=remove_orphans, timeout_s=timeout_s)
            case _:
                assert_never(verb)

    async def execute(self, plan: Plan, *, wait: bool = False, wait_timeout_s: float | None = None) -> Outcome:
        """Carry out `plan`. Without `wait` it returns once every service in it has been started, the conditions of its
        dependencies included; with `wait`, once all are ready: healthy, or running without a health check, or ended with
        code 0; at the first that can no longer be ready, or after `wait_timeout_s`, the wait ends.

        What went wrong with services is in the outcome. Raises BusyError when another operation is under way, HostError
        when the intents cannot be written. Cancelling it stops nothing that runs and takes back what never did.
        """
        if self._operation is not None:
            since = trio.current_time() - self._since_s
            raise BusyError(f'project {plan.project.name} is busy: "{self._operation}" has been running for {since:.0f} s')
        self._operation, self._since_s = plan.verb.value, trio.current_time()
        try:
            await self.interrupt_resumption()
            for container in plan.orphans:
                self._crew.chronicle.note(EventKind.WARNING, f"orphan {container}: its service is no longer in the stack")
            return await Execution(self._crew, plan).run(wait=wait, wait_timeout_s=wait_timeout_s)
        finally:
            self._operation = None

    def statuses(self) -> tuple[ServiceStatus, ...]:
        """A row for each container that exists or is wanted, in the order of the stack, orphans last."""
        order = {name: number for number, name in enumerate(self._crew.project.services)}
        keepers = sorted(self._crew.keepers.values(), key=lambda keeper: (order.get(keeper.name, len(order)), keeper.name))
        return tuple(keeper.status() for keeper in keepers)

    def running(self) -> bool:
        """Whether anything still needs a supervisor: a run, a restart to come, an operation."""
        busy = self._operation is not None or self._resuming is not None
        return busy or any(keeper.live or keeper.idle is not None for keeper in self._crew.keepers.values())

    async def kill(self, services: Iterable[ServiceName], signal: str) -> int:
        """Send `signal` (a name or a number) to the runs of `services` (none: all); returns how many were running. SIGKILL
        and a service's stop signal count as a stop by the user: no restart policy applies. SIGKILL also ends waits for a
        restart, and returns when all have ended; raises HostError when something does not end. May run beside an `execute`,
        whose stops it hastens."""
        number = signal_number(signal)
        names = tuple(services)
        self._require(self._crew.project, names)
        chosen = names or tuple(self._crew.keepers)
        keepers = [self._crew.keepers[name] for name in chosen if name in self._crew.keepers]
        hit = [keeper for keeper in keepers if keeper.run is not None]
        for keeper in hit:
            keeper.note(EventKind.CONTAINER_STOPPING, f"sending {signal_name(number)} to {keeper.container}")
        if number == SIGKILL:
            await self.interrupt_resumption()  # Or it goes on starting.
            await self._end_now([keeper.name for keeper in keepers])
            return len(hit)
        for keeper in hit:
            if number == supervise.stop_signal(keeper):
                keeper.amend(wanted=Wanted.STOPPED)
                keeper.save()
            await self._crew.adapters.runtime.signal(keeper.container, number)
        return len(hit)

    async def _end_now(self, names: Iterable[ServiceName]) -> None:
        """End all that lives among `names` without grace. Raises the first error when all have been tried."""
        errors: list[PystackError] = []

        async def end(name: ServiceName) -> None:
            try:
                await supervise.stop(self._crew, self._crew.keepers[name], 0.0)
            except PystackError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for name in names:
                if self._crew.keepers[name].idle is not None:
                    nursery.start_soon(end, name)
        if errors:
            raise errors[0]

    def _require(self, project: Project, names: Iterable[ServiceName]) -> None:
        for name in names:
            if name not in project.services:
                known = ", ".join(sorted(project.services)) or "none: nothing is up"
                raise InputError(f'no such service: "{name}"', hint=f"the services are: {known}")

    async def _observe(self, wanted: Project) -> ObservedProject:
        crew = self._crew
        sandboxes = await crew.adapters.runtime.containers()
        existing = crew.adapters.volumes.existing(tuple(wanted.volumes.values()))
        return observe(
            crew.record(),
            sandboxes,
            networks=crew.networks,
            volumes=[volume.key for volume in existing],
            boot_id=crew.boot_id,
            restarting=[keeper.name for keeper in crew.keepers.values() if keeper.live],
        )

    async def _identities(
        self, project: Project, names: tuple[ServiceName, ...], no_deps: bool
    ) -> Mapping[ServiceName, str]:
        """What each service's image is now; each reference is looked up once. Services that no operation can concern keep
        what is known of them."""
        crew = self._crew
        concerned = set(DependencyGraph.of(project).closure(names, no_deps=no_deps))
        looked_up: set[str] = set()
        found: dict[ServiceName, str] = {}
        for name, service in project.services.items():
            if name in concerned:
                fresh = service.image not in looked_up
                looked_up.add(service.image)
                found[name] = (await crew.image(project, service, fresh=fresh)).identity
            elif service.image in crew.images:
                found[name] = crew.images[service.image].identity
            else:
                found[name] = ""
        return found

    async def _resume(self, wanting: tuple[ServiceName, ...], scope: trio.CancelScope, done: trio.Event) -> None:
        """Make what was wanted and is not there, unless a user's operation comes first."""
        crew = self._crew
        try:
            with scope:
                observed = await self._observe(crew.project)
                images = await self._identities(crew.project, wanting, True)
                plan = plan_resume(crew.project, observed, wanting, images=images)
                await Execution(crew, plan).run(wait=False, wait_timeout_s=None)
        except PystackError as error:
            crew.chronicle.note(EventKind.WARNING, f"cannot finish what was begun: {error}")
        finally:
            self._resuming = self._resumed = None
            done.set()

    async def interrupt_resumption(self) -> None:
        """End what `adopt` began in the background. To be called before a plan is made that is to be executed: ending it
        takes back what it made and did not start, which a plan made before would count on."""
        if self._resuming is not None and (done := self._resumed) is not None:
            self._resuming.cancel()
            await done.wait()
