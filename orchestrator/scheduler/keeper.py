"""What is known of one service's container, and every change of it.

A Keeper is data and synchronous rules: transitions of the lifecycle table with their effects, the facts that conditions are
judged by, the row of ``ps``. `supervise` is the task that acts on it. Because every change goes through `step` or
`changed`, a watch sees each state at the moment it is there: a condition that was met for an instant was met.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from orchestrator.contracts.events import EventKind, Health, Phase, ServiceStatus
from orchestrator.contracts.images import Image
from orchestrator.contracts.network import Published
from orchestrator.contracts.runtime import Exit, Run
from orchestrator.contracts.state import ContainerRecord, State, Wanted
from orchestrator.errors import PystackError
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.service import Service
from orchestrator.policy import lifecycle
from orchestrator.policy.conditions import Facts, NotYet, Verdict
from orchestrator.policy.health import HealthState, Status, describe_probe
from orchestrator.policy.lifecycle import Effect, Happening
from orchestrator.policy.restart import RestartHistory
from orchestrator.scheduler.chronicle import Chronicle
from orchestrator.values import entity, field, replace

Judge = Callable[[Facts], Verdict]
LIVE = frozenset({lifecycle.State.STARTING, lifecycle.State.RUNNING, lifecycle.State.BACKOFF, lifecycle.State.STOPPING})


@entity
class Watch:
    """A condition as a future: `settle` is called once, with Met or Never, at the moment it is so."""

    judge: Judge
    settle: Callable[[Verdict], None]


@entity
class Keeper:
    """`check`: the health check in force. `netns_fd`: of the sandbox, once this supervisor knows it. `wired`: addresses,
    ports and names are up. `fresh`: made by the current operation and never run.

    `pending`, `began`, `ended_runs`: see `policy.conditions.Facts`. `held`: the operation stops it before it starts it: a
    restart by policy in between is not the start that is pending. `error`: why it could not be started.
    `ending`: the run was asked to end, with `grace_s`; `dismissed`: on request, and not because it is unhealthy.
    """

    service: Service
    record: ContainerRecord
    state: State
    chronicle: Chronicle
    phase: lifecycle.State = lifecycle.State.ABSENT
    image: Image | None = None
    check: HealthCheck | None = None
    health: HealthState | None = None
    history: RestartHistory = RestartHistory()
    run: Run | None = None
    exit: Exit | None = None
    born_s: float = 0.0
    netns_fd: int | None = None
    wired: bool = False
    fresh: bool = False
    pending: bool = False
    held: bool = False
    began: bool = False
    ended_runs: int = 0
    reason: str = ""
    error: PystackError | None = None
    ending: trio.Event = field(default_factory=trio.Event)
    dismissed: bool = False
    unhealthy: bool = False
    hurry: bool = False
    grace_s: float = 0.0
    grace: trio.CancelScope | None = None
    delay: trio.CancelScope | None = None
    idle: trio.Event | None = None
    _watches: list[Watch] = field(default_factory=list)
    _written: ContainerRecord | None = None

    @property
    def name(self) -> ServiceName:
        return self.service.name

    @property
    def container(self) -> ContainerId:
        return self.record.container

    @property
    def published(self) -> tuple[Published, ...]:
        return self.record.published if self.wired else ()

    @property
    def wanted(self) -> bool:
        return self.record.wanted is Wanted.RUNNING and not self.dismissed

    @property
    def live(self) -> bool:
        """It runs, or will again by itself."""
        return self.phase in LIVE

    @property
    def age_s(self) -> float:
        """Since the start of the current run."""
        return trio.current_time() - self.born_s

    def facts(self) -> Facts:
        unhealthy = self.health is not None and self.health.status is Status.UNHEALTHY
        # One that was taken over in its back-off, or is about to begin its first run, has a check and no health yet.
        health = self.health.status if self.health is not None else Status.STARTING
        return Facts(
            service=self.name,
            state=self.phase,
            pending=self.pending,
            started=self.began,
            health=health if self.check is not None else None,
            exit=self.exit,
            ended_runs=self.ended_runs,
            wanted=self.wanted,
            reason=f"{self.name} is {self.health.reason}" if unhealthy and self.health is not None else self.reason,
        )

    def status(self) -> ServiceStatus:
        probe = self.health.results[-1] if self.health is not None and self.health.results else None
        shown = self.health is not None and self.run is not None
        return ServiceStatus(
            service=self.name,
            container=self.container,
            image=self.service.image,
            phase=Phase[self.phase.name],
            health=Health[self.health.status.name] if shown and self.health is not None else Health.NONE,
            wanted=self.record.wanted,
            pid=self.run.pid if self.run is not None else None,
            exit=self.exit,
            restarts=self.record.restarts,
            created_at=self.record.created_at,
            started_at=self.run.started_at if self.run is not None else None,
            reason=self.reason,
            endpoints=self.record.endpoints,
            published=self.published,
            last_probe=describe_probe(probe) if probe is not None else "",
        )

    def step(self, happening: Happening, reason: str | None = None) -> None:
        """Take the transition, run its effects, wake who watches. `reason`: why it is now as it is."""
        transition = lifecycle.step(self.phase, happening)
        self.phase = transition.state
        if reason is not None:
            self.reason = reason
        for effect in transition.effects:
            match effect:
                case Effect.BEGIN_RUN:
                    self._begin_run()
                case Effect.END_RUN:
                    self.run = None
                case Effect.SAVE:
                    self.save()
                case Effect.FORGET:
                    self._written = None
                    self._write(partial(self.state.forget, self.container))
        self.changed()

    def changed(self) -> None:
        """Judge all watches by the facts of this moment."""
        if not self._watches:
            return
        facts = self.facts()
        settled = []
        for watch in self._watches:
            verdict = watch.judge(facts)
            if not isinstance(verdict, NotYet):
                settled.append((watch, verdict))
        for watch, verdict in settled:
            self._watches.remove(watch)
            watch.settle(verdict)

    def watch(self, watch: Watch) -> Verdict:
        """The verdict now; when it is NotYet, `watch.settle` is called later, unless `unwatch` comes first."""
        verdict = watch.judge(self.facts())
        if isinstance(verdict, NotYet):
            self._watches.append(watch)
        return verdict

    def unwatch(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    def save(self) -> None:
        """Write the record. A disk that refuses is a warning: containers are kept running without it."""
        self._write(self.intend)

    def intend(self) -> None:
        """Write the record before something is made of it, unless it is what was written last. Raises HostError when the
        disk refuses."""
        if self.record is not self._written:
            self.state.update(self.record)
            self._written = self.record

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except PystackError as error:
            self.note(EventKind.WARNING, f"cannot record what happens to {self.container}: {error}")

    def amend(self, **fields: object) -> None:
        """Change the record in memory; `save` or the next transition writes it."""
        if any(getattr(self.record, name) != value for name, value in fields.items()):
            self.record = replace(self.record, **fields)

    def note(
        self, kind: EventKind, text: str, **detail: str | float | bool | tuple[str, ...] | None
    ) -> None:
        self.chronicle.note(kind, text, self.name, self.container, **detail)

    def begin_operation(self, *, held: bool) -> None:
        """An operation will start it: what was before counts no more."""
        self.pending = True
        self.held = held
        self.began = False
        self.history = RestartHistory()
        self.error = None
        self.changed()

    def end_operation(self) -> None:
        """The operation is done with it."""
        self.pending = self.held = False
        self.changed()

    def dismiss(self, grace_s: float) -> None:
        """Ask the run to end and not to be restarted: the stop signal, and after `grace_s` the kill. May be called again
        with a shorter grace."""
        self.dismissed = True
        self.end(grace_s)
        if self.delay is not None:
            self.delay.cancel()

    def end(self, grace_s: float) -> None:
        """Ask the run to end."""
        if self.ending.is_set():
            self.grace_s = min(self.grace_s, grace_s)
            if self.grace is not None:
                self.grace.deadline = min(self.grace.deadline, trio.current_time() + grace_s)
            return
        self.grace_s = grace_s
        self.ending.set()

    def _begin_run(self) -> None:
        self.born_s = trio.current_time()
        self.health = HealthState(self.check) if self.check is not None else None
        self.unhealthy = False
        self.pending = self.pending and self.held
        self.began = True
        self.fresh = False
