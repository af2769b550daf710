"""`ProjectControl`: the one door to a project, whichever front a request came through."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from functools import partial

import trio

from orchestrator import __version__
from orchestrator.contracts.control import (
    NAMES,
    About,
    Apply,
    Done,
    Down,
    Events,
    Explanation,
    Hello,
    Operation,
    Planned,
    PlannedStep,
    PlanOf,
    Ps,
    Run,
    Scale,
    Selection,
    Shutdown,
    Up,
    Why,
)
from orchestrator.contracts.events import ContainerStatus, Event
from orchestrator.contracts.injecting import Inject, Injected, Standing, Undo
from orchestrator.contracts.protocol import VERSION
from orchestrator.errors import BusyError, InputError, OperationError
from orchestrator.model.chaos import check_injection
from orchestrator.model.names import SINGLE, ContainerId, Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.plan.seal import Seal
from orchestrator.scheduler.engine import FirstRun
from orchestrator.supervisor.detached import detached
from orchestrator.supervisor.sweep import sweep
from orchestrator.supervisor.wiring import OpenProject

HISTORY = 100
"""Events that `why` shows of a service at the most."""


class ProjectControl:
    """Implements `contracts.control.Control` on what `opened` holds. Operations live in `nursery`.

    `ended`: nothing is left to do for this supervisor, by ``shutdown`` or because ``down`` left nothing.
    """

    def __init__(self, opened: OpenProject, nursery: trio.Nursery) -> None:
        self._opened = opened
        self._nursery = nursery
        self.ended = False

    @property
    def needed(self) -> bool:
        """Whether anything runs, is wanted to, or is under way."""
        return self._opened.engine.running()

    async def hello(self, request: Hello) -> About:
        opened = self._opened
        return About(
            version=__version__,
            protocol=VERSION,
            project=opened.site.project,
            pid=os.getpid(),
            monitor_pid=opened.runtime.monitor_pid,
            boot_id=opened.boot_id,
            since=opened.since,
            working_dir=opened.working_dir,
        )

    async def ps(self, request: Ps) -> tuple[ContainerStatus, ...]:
        return tuple(row for row in self._opened.engine.statuses() if _selected(row, request.selection))

    async def why(self, request: Why) -> Explanation:
        engine = self._opened.engine
        rows = tuple(
            row for row in engine.statuses() if row.service == request.service and request.index in (0, row.number)
        )
        job = engine.project.jobs.get(request.service)
        if not rows and (job is None or request.index):
            raise self._no_service(request.service, request.index)
        containers = tuple(row.container for row in rows)
        # The log may be long, and a disk slow: containers are looked after meanwhile.
        services = (request.service,) if job is not None else ()
        tail = partial(self._opened.log.tail, HISTORY, services=services, containers=containers)
        history = tuple(await trio.to_thread.run_sync(tail))
        if job is None:
            return Explanation(rows, history)
        schedules = tuple(map(str, job.schedule))
        return Explanation(rows, history, schedules, engine.next_run(request.service))

    async def plan(self, request: PlanOf) -> Planned:
        operation = self._checked(_only(request))
        if request.sealed:
            plan, seal = await self._opened.engine.sealed(operation)
        else:
            plan, seal = await self._opened.engine.plan(operation), {}
        steps = tuple(
            PlannedStep(item.kind.value, item.service or "", item.container or "", item.cause) for item in plan.operations
        )
        return Planned(plan.render(), steps, seal)

    async def apply(self, request: Apply) -> Done:
        return await self._operate(_only(request.plan), None, request.seal)

    async def events(self, request: Events) -> AsyncGenerator[Event, None]:
        """Ends by itself without `follow`; else when the reader has fallen too far behind (`stream`)."""
        async with self._opened.stream.listen() as listener:
            if request.since is not None:
                for event in await trio.to_thread.run_sync(self._logged, request.since):
                    yield event
            if request.follow:
                async for told in listener.events:
                    yield told.event

    async def operate(self, request: Operation, first_run: FirstRun | None = None) -> Done:
        """`first_run`: what the process of a one-off is connected to; it belongs to this call."""
        return await self._operate(request, first_run)

    async def _operate(
        self, request: Operation, first_run: FirstRun | None, expected: Seal | None = None
    ) -> Done:
        self._check_name(self._checked(request))
        self._opened.tell_findings()
        work = partial(self._carry_out, request, first_run, expected)
        done = await detached(self._nursery, NAMES[type(request)], work)
        if isinstance(request, Down) and not self._opened.engine.statuses() and not self._opened.engine.running():
            self.ended = True
        return done

    async def inject(self, request: Inject) -> Standing:
        try:
            check_injection(request.injection)
        except ValueError as exc:
            raise InputError(str(exc)) from None
        return await self._opened.engine.inject(request.injection)

    async def injected(self, request: Injected) -> tuple[Standing, ...]:
        return self._opened.engine.injected()

    async def undo(self, request: Undo) -> tuple[Standing, ...]:
        engine = self._opened.engine
        return await engine.undo([fault.id for fault in engine.injected()] if request.everything else request.faults)

    def done_reading(self, first_run: FirstRun) -> None:
        """The client that ran a one-off in the foreground has read all of it, or is gone."""
        self._opened.engine.done_reading(first_run)

    async def shutdown(self, request: Shutdown) -> None:
        """Raises BusyError when it is to hand over in the middle of an operation, which the other could not go on with."""
        if request.hand_over and self._opened.engine.operating:
            raise BusyError(
                f"project {self._opened.site.project} is busy: an operation is under way",
                hint="wait for it, or press Ctrl-C there",
            )
        self.ended = True

    def running_container(self, service: ServiceName, index: int) -> ContainerId:
        """Where a process can be started: in the replica of that number, else (0) the lowest that runs, else a one-off that
        does. Raises InputError for an unknown service, OperationError when it does not run."""
        every = [row for row in self._opened.engine.statuses() if row.service == service]
        rows = [row for row in every if row.role is Role.REPLICA and index in (0, row.number)]
        one_offs = [] if index else [row for row in every if row.role in SINGLE]
        for row in (*rows, *one_offs):
            if row.pid is not None and row.phase is Phase.PAUSED:
                hint = f"`pystack unpause {service}` lets it go on"
                raise OperationError(f"container {row.container} is paused", hint=hint)
            if row.pid is not None:
                return row.container
        if not every and service not in self._opened.engine.project.services:
            raise self._no_service(service, 0)
        if index:
            raise OperationError(
                f'service "{service}" is not running container #{index}', hint="`pystack ps -a` lists its containers"
            )
        if not rows:
            hint = f"`pystack up -d {service}` brings it up"
            raise OperationError(f'service "{service}" is not running: it has no container', hint=hint)
        state = rows[0].phase.value
        raise OperationError(f'service "{service}" is not running: {state}', hint=f"`pystack why {service}` says why")

    async def _carry_out(
        self, request: Operation, first_run: FirstRun | None, expected: Seal | None
    ) -> Done:
        """The engine's part, and after a `down` of everything what records may have lost."""
        engine = self._opened.engine
        outcome = await engine.operate(request, first_run=first_run, expected=expected)
        if (error := outcome.error()) is not None:
            raise error
        if isinstance(request, Down) and request.selection.everything and not engine.statuses():
            await sweep(self._opened.site, self._opened.volumes if request.volumes else None, request.project)
        return Done(outcome.changed, outcome.removed, outcome.container, engine.statuses())

    def _checked(self, request: Operation) -> Operation:
        """Of this project, with numbers that are some. Raises InputError."""
        project = getattr(request, "project", None)
        ours = self._opened.site.project
        if isinstance(project, Project) and project.name != ours:
            raise InputError(f"this is the supervisor of project {ours}, not of {project.name}")
        for name in ("timeout_s", "wait_timeout_s"):
            seconds = getattr(request, name, None)
            if seconds is not None and not seconds >= 0:
                raise InputError(f"{seconds!r} is no number of seconds")
        return request

    def _check_name(self, request: Operation) -> None:
        """Refuse what would take over the containers of another folder's project that happens to have the same name.

        Raises OperationError unless the user gave the name, the folder is the recorded one, or that one is gone (moved).
        """
        if not isinstance(request, Up | Down | Scale | Run) or request.named:
            return
        theirs = request.project.working_dir if request.project is not None else ""
        if isinstance(request, Down):
            theirs = request.working_dir or theirs
        ours = self._opened.working_dir
        if not (theirs and ours and self._opened.engine.statuses() and os.path.isdir(ours)):
            return
        if os.path.realpath(theirs) != os.path.realpath(ours):
            name = self._opened.site.project
            raise OperationError(
                f"the containers of project {name} come from {ours}, and this is {theirs}",
                hint=f"`-p NAME` gives the project of this folder another name; `-p {name}` means that one all the same",
            )

    def _logged(self, since: float) -> list[Event]:
        return list(self._opened.log.since(since))

    def _no_service(self, service: str, index: int) -> InputError:
        which = f"no container {index} of service" if index else "no service"
        return InputError(
            f'project {self._opened.site.project} has {which} "{service}"', hint="`pystack ps` lists what it has"
        )


def _only(request: PlanOf) -> Operation:
    """The operation that a plan is asked for. Raises InputError."""
    match request.operations:
        case (one,):
            return one
        case several:
            raise InputError(f"a plan is of one operation, not of {len(several)}")


def _selected(row: ContainerStatus, selection: Selection) -> bool:
    return selection.everything or row.service in selection.services or row.container in selection.containers
