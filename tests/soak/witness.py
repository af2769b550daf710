"""Who sees all events of a stack's life, whichever supervisor tells them, and says what cannot be true of them."""

from __future__ import annotations

from collections import Counter
from math import inf

import trio

from orchestrator.contracts.events import Event, EventKind
from orchestrator.model.names import ContainerId, Role, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Condition
from orchestrator.scheduler.engine import Engine

Fire = tuple[ServiceName, float]


class Witness:
    """`engine`: the supervisor of the moment; None: there is none, or nobody cares. `kinds`: how often what was told."""

    def __init__(self, made: Project, kinds: Counter[EventKind]) -> None:
        self.engine: Engine | None = None
        self.kinds = kinds
        self.rolled_back = 0
        self._made = made
        self._created_s: dict[ContainerId, float] = {}
        self._never_ran: set[ContainerId] = set()
        self._held_until_s: dict[tuple[ContainerId, Condition], float] = {}
        """Until when a condition on it held; inf: it does."""
        self._generation: Counter[ContainerId] = Counter()
        self._last: dict[ContainerId, object] = {}
        self._begun: Counter[tuple[ContainerId, int, object]] = Counter()
        self._ended: Counter[tuple[ContainerId, int, object]] = Counter()
        self._due: Counter[Fire] = Counter()
        self._left_out: Counter[Fire] = Counter()
        self._runs: dict[Fire, set[int]] = {}
        self._told: Counter[ServiceName] = Counter()

    def see(self, event: Event) -> None:
        self.kinds[event.kind] += 1
        name = event.container or ContainerId("")
        match event.kind:
            case EventKind.CONTAINER_CREATED:
                self._generation[name] += 1
                self._created_s[name] = trio.current_time()
                self._never_ran.add(name)
                for condition in Condition:
                    self._held_until_s.pop((name, condition), None)
            case EventKind.CONTAINER_STARTING if name in self._never_ran:
                self._never_ran.discard(name)
                self._judge_start(name)
            case EventKind.CONTAINER_STARTED:
                self._started(event, name)
            case EventKind.SERVICE_READY:
                self._held_until_s[name, Condition.HEALTHY] = inf
            case EventKind.CONTAINER_EXITED | EventKind.CONTAINER_STOPPED:
                self._over(event, name)
            case EventKind.JOB_DUE if event.service is not None:
                self._due[event.service, _due_at(event)] += 1
            case EventKind.JOB_LEFT_OUT if event.service is not None:
                self._left_out[event.service, _due_at(event)] += 1
            case EventKind.WARNING:
                self.rolled_back += "it is rolled back" in event.text
                self._told.update(job for job in self._made.jobs if event.text.startswith(f"the run of {job} that was due"))
            case _:
                pass

    # -- conditions ---------------------------------------------------------------------------------------------------

    def _judge_start(self, name: ContainerId) -> None:
        """Its first run begins: each condition of it held, on every replica that lives or is to live, at some moment since
        it was made. (With `pre_start`, that was before the steps: the replicas may be others by now.)"""
        container = self.engine._state.containers.get(name) if self.engine is not None else None
        if self.engine is None or container is None or container.instance.role is Role.INIT:
            return
        if container.definition.pre_start:
            return
        for needed in container.definition.depends_on.values():
            for replica in self.engine._state.replicas(needed.service):
                held_until_s = self._held_until_s.get((replica.id, needed.condition), -inf)
                if (replica.live or replica.pending) and held_until_s < self._created_s[name]:
                    raise AssertionError(f"{name} starts, and {replica!r} was not {needed.condition.value}")

    def _started(self, event: Event, name: ContainerId) -> None:
        self._held_until_s[name, Condition.STARTED] = inf
        container = self.engine._state.containers.get(name) if self.engine is not None else None
        if container is not None and container.record.due_at and container.run is not None and container.run.process:
            self._runs.setdefault((container.service, container.record.due_at), set()).add(container.run.process.pid)
        if not event.detail.get("adopted"):
            self._begun[name, self._generation[name], event.detail["number"]] += 1
            self._last[name] = event.detail["number"]

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _over(self, event: Event, name: ContainerId) -> None:
        # Of one that has ended by itself it goes on to be true that it was started.
        lost = (Condition.STARTED, Condition.HEALTHY) if event.kind is EventKind.CONTAINER_STOPPED else (Condition.HEALTHY,)
        for condition in lost:
            if self._held_until_s.get((name, condition)) == inf:
                self._held_until_s[name, condition] = trio.current_time()
        if event.kind is EventKind.CONTAINER_STOPPED and "run" not in event.detail:
            return  # It was stopped while it waited for its restart: that ended no run.
        self._ended[name, self._generation[name], event.detail.get("run", self._last.get(name))] += 1

    def judge_ends(self) -> None:
        """No end of a run is told twice, and what began and is not there any more has ended."""
        assert [run for run, times in self._ended.items() if times > 1] == []
        assert [run for run in self._begun if run not in self._ended] == []

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def judge_jobs(self, instants: list[Fire]) -> None:
        """Each instant of a schedule was decided on once, and what was due was run once, unless it was told why not."""
        known = set(instants)
        assert [fire for fire in instants if self._due[fire] + (self._left_out[fire] and not self._due[fire]) != 1] == []
        assert [fire for fire in self._due if fire not in known and fire[1] > min(at for _, at in instants)] == []
        assert [fire for fire, pids in self._runs.items() if len(pids) > 1 or not self._due[fire]] == []
        made = [fire for fire in instants if self._due[fire] and not self._left_out[fire]]
        lost = Counter(fire[0] for fire in made if fire not in self._runs)
        assert lost <= self._told, (lost, self._told)


def _due_at(event: Event) -> float:
    found = event.detail["due_at"]
    assert isinstance(found, float)
    return found
