"""One container, and every change of it.

What can go wrong here is that several parties act on the same container: the task that lives with it (`supervise`), health
probes, an operation that a user has asked for, and another operation that takes it over. So all of them go through three
small things, each with a table of its own, and none keeps a flag of its own:

* the **container**: its record (what is decided, on disk) and its phase (what it does), moved by `policy.lifecycle`;
* its **run** (`LiveRun`): the process, its health and age. A container outlives its runs;
* the **request**: what an operation has told it and has not been done yet, moved by `policy.requests`.

All changes are synchronous and go through `step`, `ask` or `changed`, which judge the watches at once. A watch therefore
sees each state at the moment it is there: a condition that was met for an instant was met. I/O is done by others, before or
after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import trio

from orchestrator.contracts.events import ContainerStatus, Detail, EventKind
from orchestrator.contracts.images import Image
from orchestrator.contracts.network import Published
from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.state import ContainerRecord, Records, Wanted
from orchestrator.errors import PystackError
from orchestrator.model.health import Health, HealthCheck, OnUnhealthy
from orchestrator.model.manual import connected
from orchestrator.model.names import ContainerId, Instance, Role, ServiceName
from orchestrator.model.phase import LIVE, Phase
from orchestrator.model.service import Service
from orchestrator.oci.compile import command_of
from orchestrator.plan.plan import label_of
from orchestrator.policy import lifecycle, requests
from orchestrator.policy.conditions import Facts, NotYet, Verdict
from orchestrator.policy.lifecycle import Effect, Trigger
from orchestrator.policy.requests import Ask, Step
from orchestrator.policy.restart import RestartHistory
from orchestrator.scheduler.events import EventSink
from orchestrator.scheduler.live_run import LiveRun
from orchestrator.scheduler.stdio import FirstRun
from orchestrator.values import entity, field, replace

Judge = Callable[[Facts], Verdict]


@entity
class Watch:
    """A condition as a future: `settle` is called once, with Met or Never, at the moment it is so."""

    judge: Judge
    settle: Callable[[Verdict], None]


@entity
class Sandbox:
    """What this supervisor knows of the sandbox. `netns_fd`: its network namespace, once it is known. `wired`: addresses,
    ports and names are up. `fresh`: made by an operation and never run."""

    netns_fd: int | None = None
    wired: bool = False
    fresh: bool = False


@entity
class Container:
    """`siblings`: all containers of its service, itself among them. `ask`: see `policy.requests`; `hooks_s`, `grace_s`: of
    the last stop that was asked for. `began`, `ended_runs`: see `policy.conditions.Facts`. `error`: why it could not be
    made or started. `doomed`: an operation is removing it for good.
    `delay`: the wait for a restart, while it lasts. `idle`: set when the task that lives with it ends; None while there is
    none. `first_run`: what ``run`` connects its process to; `reader`: the same, when it is started.
    `returns`: it is being stopped to be started as it is.
    `warned`: of its last run (`contracts.runtime.Run`). `failed_hook`, `failed_pre_stop`: what a hook of it ended
    with since the operation began, of its run and of its stop."""

    record: ContainerRecord
    records: Records
    events: EventSink
    siblings: Mapping[ContainerId, Container]
    phase: Phase = Phase.ABSENT
    ask: Ask = Ask.NOTHING
    grace_s: float = 0.0
    hooks_s: float = 0.0
    sandbox: Sandbox = field(default_factory=Sandbox)
    run: LiveRun | None = None
    image: Image | None = None
    history: RestartHistory = RestartHistory()
    exit: Exit | None = None
    reason: str = ""
    error: PystackError | None = None
    began: bool = False
    ended_runs: int = 0
    doomed: bool = False
    delay: trio.CancelScope | None = None
    idle: trio.Event | None = None
    first_run: FirstRun | None = None
    reader: FirstRun | None = None
    returns: bool = False
    warned: tuple[str, ...] = ()
    failed_hook: PystackError | None = None
    failed_pre_stop: PystackError | None = None
    _watches: list[Watch] = field(default_factory=list)
    _moved: trio.Event | None = None
    _written: ContainerRecord | None = None

    def __repr__(self) -> str:
        return f"<Container {self.id} {self.phase.name} ask={self.ask.name}{' doomed' if self.doomed else ''}>"

    @property
    def id(self) -> ContainerId:
        return self.record.container

    @property
    def instance(self) -> Instance:
        return self.record.instance

    @property
    def service(self) -> ServiceName:
        return self.record.instance.service

    @property
    def definition(self) -> Service:
        return self.record.definition.service

    @property
    def connected(self) -> Service:
        """Its definition, with what of its networks is otherwise by hand."""
        return connected(self.definition, self.record.manual)

    @property
    def check(self) -> HealthCheck | None:
        check = self.record.definition.check
        return check.with_defaults() if check is not None else None

    @property
    def label(self) -> str:
        """How it is called in sentences."""
        replicas = {item.instance.number for item in self.siblings.values() if item.instance.role is Role.REPLICA}
        age = "" if self.record.announced else "new"
        if any(item.record.took_over and item.record.succeeds == self.id for item in self.siblings.values()):
            age = "old"
        return label_of(self.instance, self.id, replicas == {1}, age=age)

    @property
    def published(self) -> tuple[Published, ...]:
        return self.record.published if self.sandbox.wired else ()

    @property
    def wanted(self) -> bool:
        return self.record.wanted is Wanted.RUNNING and not self.ask.ending

    @property
    def live(self) -> bool:
        """It runs, or will again by itself."""
        return self.phase in LIVE

    @property
    def is_made(self) -> bool:
        """It runs, or has: there is something of it that its removal loses."""
        return self.live or self.exit is not None or self.phase in (Phase.CREATED, Phase.EXITED)

    @property
    def has_ended(self) -> bool:
        """It is as it is because its last run has ended, so that `exit` tells of now and not of what was before."""
        return self.error is None and self.phase in (Phase.EXITED, Phase.FAILED, Phase.BACKOFF)

    @property
    def pending(self) -> bool:
        """An operation will start it, and has not yet."""
        return self.ask.pending

    def facts(self) -> Facts:
        run, checked = self.run, self.check is not None
        # One that was taken over in its back-off, or is about to begin its first run, has a check and no health yet.
        health = run.status if run is not None and checked else Health.STARTING if checked else Health.NONE
        reason = self.reason
        if health is Health.UNHEALTHY and run is not None and run.health is not None:
            reason = f"{self.label} is {run.health.reason}"
        return Facts(
            name=self.label,
            phase=self.phase,
            pending=self.pending,
            started=self.began,
            checked=checked,
            health=health,
            curing=run is not None and run.unhealthy and self.definition.on_unhealthy is OnUnhealthy.RESTART,
            exit=self.exit,
            ended_runs=self.ended_runs,
            age_s=run.age_s if run is not None else 0.0,
            wanted=self.wanted,
            reason=reason,
            hook=run.hook if run is not None else "",
            failed_hook=self.failed_hook.message if self.failed_hook is not None else "",
        )

    def status(self) -> ContainerStatus:
        run = self.run
        process = run.process if run is not None else None
        return ContainerStatus(
            service=self.service,
            container=self.id,
            image=self.definition.image,
            phase=self.phase,
            health=run.status if run is not None and process is not None else Health.NONE,
            role=self.instance.role,
            number=self.instance.number,
            wanted=self.record.wanted,
            pid=process.pid if process is not None else None,
            exit=self.exit,
            restarts=self.record.restarts,
            created_at=self.record.created_at,
            started_at=process.started_at if process is not None else None,
            reason=self.reason,
            endpoints=self.record.endpoints,
            published=self.published,
            last_probe=run.last_probe if run is not None else "",
            config_hash=self.record.config_hash,
            exposed=self._exposed() if process is not None else (),
            labels={**(self.image.config.labels if self.image is not None else {}), **self.definition.labels},
            faults=tuple(fault.mark(self.service, self.id) for fault in self.record.faults.values()),
            command=self._command(),
            mounts=tuple(mount.source for mount in self.definition.volumes if mount.source is not None),
            refused=self.record.refused if self.phase is Phase.FAILED else 0,
        )

    def _command(self) -> tuple[str, ...]:
        """The image's part is known once it was looked at."""
        if self.image is not None:
            return command_of(self.definition, self.image)
        return (*(self.definition.entrypoint or ()), *(self.definition.command or ()))

    def _exposed(self) -> tuple[str, ...]:
        own = (text for text in self.definition.expose if text.partition("/")[0].replace("-", "").isdecimal())
        written = (*own, *(self.image.config.exposed_ports if self.image is not None else ()))
        ports = dict.fromkeys(text.lower() if "/" in text else f"{text}/tcp" for text in written)
        published = {f"{port.target}/{port.protocol}" for port in self.definition.ports}
        return tuple(port for port in ports if port not in published)

    def step(self, trigger: Trigger, reason: str | None = None, told: Step | None = None) -> None:
        """Take the transition, run its effects, wake who watches. `reason`: why it is now as it is. `told`: what becomes of
        the request at the same moment; nobody sees one without the other."""
        transition = lifecycle.step(self.phase, trigger)
        if told is not None:
            self.ask = requests.step(self.ask, told)
        self.phase = transition.phase
        if reason is not None:
            self.reason = reason
        for effect in transition.effects:
            match effect:
                case Effect.BEGIN_RUN:
                    self.ask = requests.step(self.ask, Step.BEGUN)
                    self.began = True
                    self.sandbox.fresh = False
                case Effect.END_RUN:
                    if self.run is not None:
                        self.run.process = None
                case Effect.SAVE:
                    self.save()
                case Effect.FORGET:
                    self._written = None
                    self._write(partial(self.records.forget, self.id))
        self.changed()

    def told(self, step: Step) -> None:
        """An operation asks something of it, or is done with it."""
        self.ask = requests.step(self.ask, step)
        self.changed()

    def begin_operation(self, step: Step) -> None:
        """An operation will start it: what was before counts no more."""
        self.began = False
        self.history = RestartHistory()
        self.error = None
        self.failed_hook = None
        self.told(step)

    def dismiss(self, step: Step, grace_s: float, hooks_s: float) -> None:
        """Ask the run, or the wait for the next one, to end: ``pre_stop`` for at most `hooks_s`, the stop signal, and after
        `grace_s` the kill."""
        self.grace_s = min(self.grace_s, grace_s) if self.ask.ending else grace_s
        self.hooks_s = min(self.hooks_s, grace_s) if self.ask.ending else hooks_s
        self.ask = requests.step(self.ask, step)
        if self.run is not None:
            self.run.end(grace_s, hooks_s)
        if self.delay is not None:
            self.delay.cancel()
        self.changed()

    def changed(self) -> None:
        """Judge all watches by the facts of this moment."""
        if self._moved is not None:
            self._moved.set()
            self._moved = None
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

    def next_change(self) -> trio.Event:
        """Set when anything about it changes."""
        if self._moved is None:
            self._moved = trio.Event()
        return self._moved

    def save(self) -> None:
        """Write the record. A disk that refuses is a warning: containers are kept running without it."""
        self._write(self.intend)

    def intend(self) -> None:
        """Write the record before something is made of it, unless it is what was written last. Raises HostError when the
        disk refuses."""
        if self.record is not self._written:
            self.records.update(self.record)
            self._written = self.record

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except PystackError as error:
            self.note(EventKind.WARNING, f"cannot record what happens to {self.id}: {error}")

    def amend(self, **fields: object) -> None:
        """Change the record in memory; `save` or the next transition writes it."""
        if any(getattr(self.record, name) != value for name, value in fields.items()):
            self.record = replace(self.record, **fields)

    def note(self, kind: EventKind, text: str, **detail: Detail) -> None:
        self.events.note(kind, text, self.service, self.id, **detail)
