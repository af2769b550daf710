"""`ProjectControl`: the one door to a project, whichever front a request came through."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import assert_never

import trio

from orchestrator import __version__
from orchestrator.contracts.control import (
    NAMES,
    About,
    Done,
    Down,
    Events,
    Explanation,
    Hello,
    Kill,
    Operation,
    Planned,
    PlannedStep,
    PlanOf,
    Ps,
    Restart,
    Run,
    Scale,
    Selection,
    Shutdown,
    Start,
    Stop,
    Up,
    Why,
)
from orchestrator.contracts.events import Event, Phase, ServiceStatus
from orchestrator.contracts.protocol import VERSION
from orchestrator.errors import InputError, OperationError
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.plan.plan import Plan, Verb
from orchestrator.plan.reconcile import Recreate
from orchestrator.supervisor.desk import Desk
from orchestrator.supervisor.wiring import OpenProject
from orchestrator.values import replace

HISTORY = 100
"""Events that `why` shows of a service at the most."""


class ProjectControl:
    """Implements `contracts.control.Control` on what `opened` holds. Operations live in `nursery`.

    `ended`: nothing is left to do for this supervisor, by ``shutdown`` or because ``down`` left nothing.
    """

    def __init__(self, opened: OpenProject, nursery: trio.Nursery) -> None:
        self._opened = opened
        self._desk = Desk(opened.site.project, nursery)
        self.ended = False

    @property
    def needed(self) -> bool:
        """Whether anything runs, is wanted to, or is under way."""
        return self._desk.busy or self._opened.engine.running()

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

    async def ps(self, request: Ps) -> tuple[ServiceStatus, ...]:
        return tuple(row for row in self._opened.engine.statuses() if _selected(row, request.selection))

    async def why(self, request: Why) -> Explanation:
        rows = tuple(row for row in self._opened.engine.statuses() if row.service == request.service)
        if not rows:
            raise self._no_service(request.service)
        # The log may be long, and a disk slow: containers are looked after meanwhile.
        history = await trio.to_thread.run_sync(self._opened.log.tail, request.service, HISTORY)
        return Explanation(rows, history)

    async def plan(self, request: PlanOf) -> Planned:
        given = (request.up, request.down, request.start, request.stop, request.restart)
        match [wanted for wanted in given if wanted is not None]:
            case [one]:
                plan = await self._plan(one)
            case several:
                raise InputError(f"a plan is of one operation, not of {len(several)}")
        steps = tuple(
            PlannedStep(item.kind.value, item.service or "", item.container or "", item.cause) for item in plan.operations
        )
        return Planned(plan.render(), steps)

    async def events(self, request: Events) -> AsyncGenerator[Event, None]:
        """Ends by itself without `follow`; else when the reader has fallen too far behind (`stream`)."""
        async with self._opened.stream.listen() as listener:
            if request.since is not None:
                for event in await trio.to_thread.run_sync(self._logged, request.since):
                    yield event
            if request.follow:
                async for event in listener.events:
                    yield event

    async def operate(self, request: Operation, *, pid: int = 0, gone: Callable[[], bool] = lambda: False) -> Done:
        """`pid`: of the process that asks, for those who meet a busy project. `gone`: whether it has left."""
        self._check_name(request)
        work = partial(self._carry_out, request)
        urgent = isinstance(request, Stop | Kill)
        done: Done = await self._desk.perform(NAMES[type(request)], pid, work, interrupt=urgent, gone=gone)
        if isinstance(request, Down) and not self._opened.engine.statuses():
            self.ended = True
        return done

    async def shutdown(self, request: Shutdown) -> None:
        """Raises BusyError when it is to hand over in the middle of an operation, which the other could not go on with."""
        if request.hand_over and (busy := self._desk.under_way()) is not None:
            raise busy
        self.ended = True

    def running_container(self, service: ServiceName, index: int) -> ContainerId:
        """Where a process can be started. Raises InputError for an unknown one, OperationError when it does not run."""
        for row in self._opened.engine.statuses():
            if row.service != service:
                continue
            if index > 1:
                raise InputError(f"service {service!r} has no container number {index}")
            if row.pid is None or row.phase not in (Phase.RUNNING, Phase.STARTING, Phase.STOPPING):
                message = f"service {service!r} is not running: {row.phase.value}"
                raise OperationError(message, hint=f"`pystack why {service}` says why")
            return row.container
        raise self._no_service(service)

    async def _carry_out(self, request: Operation) -> Done:
        """The engine's part."""
        engine = self._opened.engine
        if isinstance(request, Kill):
            signalled = await engine.kill(self._services(request.selection), request.signal)
            return Done(signalled, statuses=engine.statuses())
        await engine.interrupt_resumption()
        plan = await self._plan(request)
        wait, limit_s = (request.wait, request.wait_timeout_s) if isinstance(request, Up | Start) else (False, None)
        try:
            outcome = await engine.execute(plan, wait=wait, wait_timeout_s=limit_s)
        finally:
            moved = isinstance(request, Up) and request.project.working_dir != self._opened.working_dir
            if moved or isinstance(request, Down):
                self._opened.read_home()
        if (error := outcome.error()) is not None:
            raise error
        return Done(outcome.changed, outcome.removed, statuses=engine.statuses())

    async def _plan(self, request: Operation) -> Plan:
        engine = self._opened.engine
        match request:
            case Up():
                project = self._own(request.project)
                self._opened.images.working_dir = project.working_dir
                return await engine.plan(
                    Verb.UP,
                    project=replace(project, services=_active(project, request.selection)),
                    services=self._services(request.selection),
                    recreate=Recreate(request.recreate.value),
                    no_deps=not request.selection.dependencies,
                    remove_orphans=request.remove_orphans,
                    timeout_s=_seconds(request.timeout_s),
                )
            case Down():
                return await engine.plan(
                    Verb.DOWN,
                    project=None if request.project is None else self._own(request.project),
                    volumes=request.volumes,
                    remove_orphans=request.remove_orphans,
                    timeout_s=_seconds(request.timeout_s),
                )
            case Start():
                return await engine.plan(
                    Verb.START,
                    services=self._services(request.selection),
                    no_deps=not request.selection.dependencies,
                )
            case Stop() | Restart():
                return await engine.plan(
                    Verb.STOP if isinstance(request, Stop) else Verb.RESTART,
                    services=self._services(request.selection),
                    no_deps=not request.selection.dependencies,
                    timeout_s=_seconds(request.timeout_s),
                )
            case Scale() | Run() | Kill():
                raise OperationError(f"this supervisor has no plan for {NAMES[type(request)]}")
            case _:
                assert_never(request)

    def _own(self, project: Project) -> Project:
        ours = self._opened.site.project
        if project.name != ours:
            raise InputError(f"this is the supervisor of project {ours}, not of {project.name}")
        return project

    def _services(self, selection: Selection) -> tuple[ServiceName, ...]:
        """The services named, and those of the containers named."""
        of = {row.container: row.service for row in self._opened.engine.statuses()}
        for container in selection.containers:
            if container not in of:
                raise InputError(f"project {self._opened.site.project} has no container {container!r}")
        return (*selection.services, *(of[container] for container in selection.containers))

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
        return [event for event in self._opened.log.read() if event.at >= since]

    def _no_service(self, service: str) -> InputError:
        message = f"project {self._opened.site.project} has no service {service!r}"
        return InputError(message, hint="`pystack ps` lists its services")


def _selected(row: ServiceStatus, selection: Selection) -> bool:
    return selection.everything or row.service in selection.services or row.container in selection.containers


def _active(project: Project, selection: Selection) -> dict[ServiceName, Service]:
    """The services that are active, or named."""
    return {
        name: service
        for name, service in project.services.items()
        if name not in project.inactive or name in selection.services
    }


def _seconds(timeout_s: float | None) -> float | None:
    if timeout_s is not None and not timeout_s >= 0:
        raise InputError(f"{timeout_s!r} is no number of seconds")
    return timeout_s
