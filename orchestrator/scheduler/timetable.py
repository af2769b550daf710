"""Jobs that start by themselves, when their schedules say so.

What is in force is recorded (`contracts.state.Armed`) with the stack: `up` of everything begins it, or gives it another
one; `stop` and `down` end it (`armed_by`). A due run is decided on, recorded as waiting, and then made by the same
operation as ``run``: the commit that records its container is the one that takes it off the waiting. So a supervisor may be
killed anywhere in between, and each run that was due is made once.

The clock may be set, and the machine may sleep: the wall clock is looked at again every `LOOK_S`, however far off the next
run is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from orchestrator.contracts.control import Down, Operation, Run, Start, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.state import Armed
from orchestrator.errors import PystackError
from orchestrator.model.job import Concurrency, Schedule
from orchestrator.model.names import Role, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Condition, Service
from orchestrator.model.single_run import as_single_run
from orchestrator.policy.firing import Firing, decided_until, judge
from orchestrator.scheduler.almanac import Almanac, written
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.values import replace

LOOK_S = 30.0
LEAST_S = 0.001
MOST_WAITING = 10
"""Runs of one job that wait for the one before them (``concurrency: queue``)."""

Jobs = Mapping[ServiceName, Armed]


def armed_by(request: Operation, after: Project, armed: Jobs, now: float) -> Jobs:
    """What is in force once `request` has been carried out. `after`: the stack as recorded from then on. An edited schedule
    begins anew: what it would have said in the past was never missed."""
    kept = {name: item for name, item in armed.items() if name in after.jobs}
    begun: tuple[ServiceName, ...] = ()
    match request:
        case Up() if request.selection.everything and request.start:
            begun = after.scheduled
            kept = {name: item for name, item in kept.items() if name in begun}
        case Start() if not request.selection.containers and not request.resume:
            named = request.selection.services
            begun = tuple(name for name in after.jobs if name in named) if named else after.scheduled
            begun = tuple(name for name in begun if name not in kept)
        case Stop(halt=True):
            pass
        case Stop() | Down():
            services = request.selection.services
            kept = {name: item for name, item in kept.items() if not request.selection.everything and name not in services}
        case Run() if request.due_at and (item := kept.get(request.definition.name)) is not None:
            kept[request.definition.name] = replace(item, waiting=item.waiting[1:])
        case _:
            pass
    for name in begun:
        definition, schedule, item = after.services[name], after.jobs[name].schedule, kept.get(name)
        if item is not None and item.schedule == schedule:
            kept[name] = replace(item, definition=definition)
        elif schedule:
            kept[name] = Armed(definition, schedule, (now,) * len(schedule))
    return kept


class Timetable:
    """Looks after the jobs of `state` while `run` runs. `operate`: the engine's door."""

    def __init__(self, state: EngineState, operate: Callable[[Run], Awaitable[PystackError | None]]) -> None:
        self._state = state
        self._operate = operate
        self._almanac = Almanac()
        self._changed = trio.Event()
        self._begun = trio.Event()
        self._working: set[ServiceName] = set()
        self._wrong: set[ServiceName] = set()

    def begin(self) -> None:
        """What runs has been taken over."""
        self._begun.set()

    def changed(self) -> None:
        """Another stack is recorded, or other jobs are in force."""
        self._changed.set()

    def next_at(self, job: ServiceName) -> float | None:
        """When it is due next (epoch seconds); None: not by itself."""
        if (armed := self._state.jobs.get(job)) is None:
            return None
        now = self._state.events.wall_clock()
        try:
            instants = (self._almanac.next_due(entry, now) for entry in armed.schedule)
            return min((at for at in instants if at is not None), default=None)
        except PystackError:
            return None

    async def run(self) -> None:
        await self._begun.wait()
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                self._decide_all()
                for name, armed in self._state.jobs.items():
                    if armed.waiting and name not in self._working:
                        self._working.add(name)
                        nursery.start_soon(self._work, name)
                with trio.move_on_after(self._pause_s()):
                    await self._changed.wait()

    def _pause_s(self) -> float:
        if not self._state.jobs:
            return float("inf")
        now = self._state.events.wall_clock()
        instants = [at for name in self._state.jobs if (at := self.next_at(name)) is not None]
        return min(LOOK_S, max(LEAST_S, min(instants, default=now + LOOK_S) - now))

    def _decide_all(self) -> None:
        before, now = self._state.jobs, self._state.events.wall_clock()
        after = {name: self._decided(name, armed, now) for name, armed in before.items()}
        if after == before:
            return
        self._record(after)

    def _record(self, jobs: Jobs) -> None:
        self._state.jobs = jobs
        try:
            self._state.adapters.records.commit(self._state.record())
        except PystackError as error:
            self._state.warn("cannot record which jobs are due", error)

    def _decided(self, name: ServiceName, armed: Armed, now: float) -> Armed:
        instants = list(armed.decided_at)
        for number, entry in enumerate(armed.schedule):
            since = instants[number] = decided_until(armed.decided_at[number], now, wild=entry.wild)
            try:
                due_at = self._almanac.last_due(entry, now)
            except PystackError as error:
                if name not in self._wrong:
                    self._wrong.add(name)
                    self._state.warn(f"job {name} does not run by itself", error)
                continue
            verdict = judge(due_at, since, now, entry.missed_fires)
            if verdict is Firing.NOTHING or due_at is None:
                continue
            instants[number] = due_at
            armed = self._take(name, armed, entry, due_at, verdict)
        return replace(armed, decided_at=tuple(instants))

    def _take(self, name: ServiceName, armed: Armed, entry: Schedule, due_at: float, verdict: Firing) -> Armed:
        """A run that is due, or was."""
        if not verdict.runs:
            self._leave_out(name, due_at, f"{name} was due at {written(due_at, entry)}, when nobody was there: left out")
            return armed
        runs = self._runs_of(name)
        if (runs or armed.waiting) and entry.concurrency is Concurrency.FORBID:
            who = runs[0].label if runs else "the run before it"
            self._leave_out(name, due_at, f"{name} is due, and {who} has not ended: left out")
            return armed
        if len(armed.waiting) >= MOST_WAITING:
            self._leave_out(name, due_at, f"{name} is due, and {MOST_WAITING} runs of it wait already: left out")
            return armed
        text = f"{name} is due ({entry})" + ("" if verdict is Firing.FIRE else f": missed at {written(due_at, entry)}")
        text += f"; it waits for {runs[0].label}" if runs else ""
        self._state.events.note(EventKind.JOB_DUE, text, name, due_at=due_at, missed=verdict is Firing.CATCH_UP)
        return replace(armed, waiting=(*armed.waiting, due_at))

    def _leave_out(self, name: ServiceName, due_at: float, text: str) -> None:
        self._state.events.note(EventKind.JOB_LEFT_OUT, text, name, due_at=due_at)

    def _runs_of(self, name: ServiceName) -> list[Container]:
        """Those that have not ended."""
        containers = self._state.containers.values()
        own = [item for item in containers if item.service == name and item.instance.role is Role.JOB]
        return [item for item in own if item.live or item.pending or item.idle is not None]

    async def _work(self, name: ServiceName) -> None:
        """Make what waits, one after the other."""
        try:
            while (armed := self._state.jobs.get(name)) is not None and armed.waiting:
                if runs := self._runs_of(name):
                    await runs[0].next_change().wait()
                    continue
                await self._make(name, armed.definition, armed.waiting[0])
        finally:
            self._working.discard(name)

    def _missing(self, definition: Service) -> str:
        """Which of the services that should run beside it does not, and will not by itself; "" for none."""
        for edge in definition.depends_on.values():
            replicas = self._state.replicas(edge.service)
            beside = edge.required and edge.condition is not Condition.COMPLETED
            if beside and not any(item.live or item.pending for item in replicas):
                return edge.service
        return ""

    async def _make(self, name: ServiceName, definition: Service, due_at: float) -> None:
        if missing := self._missing(definition):
            text = f"{name} was due at {written(due_at)}, and {missing}, which it depends on, does not run: left out"
            self._leave_out(name, due_at, text)
        else:
            error = await self._operate(Run(self._state.project, as_single_run(definition), detach=True, due_at=due_at))
            if error is not None:
                self._state.warn(f"the run of {name} that was due at {written(due_at)}", error)
        armed = self._state.jobs.get(name)
        if armed is not None and armed.waiting[:1] == (due_at,):  # It was not recorded as made: not again and again.
            self._record({**self._state.jobs, name: replace(armed, waiting=armed.waiting[1:])})
