"""Run a stack for a while in virtual time: what would happen if the database crashed at four in the morning?

    report = simulate(project, {"db": FakeService(crashes=[3600])}, duration_s=86400)
    print(report.render())

The scheduler is the real one; only what is below `contracts` is made up. A day of a hundred services takes seconds. The
same arguments give the same report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import trio

from orchestrator.contracts.control import Down, Selection, Up
from orchestrator.contracts.events import ContainerStatus, Event, EventKind
from orchestrator.contracts.images import Image
from orchestrator.errors import only_error
from orchestrator.model.chaos import ChaosStep
from orchestrator.model.names import ContainerId
from orchestrator.model.project import Project
from orchestrator.scheduler.engine import Engine
from orchestrator.scheduler.engine_state import Compile
from orchestrator.scheduler.outcome import Outcome
from orchestrator.testing import seeds
from orchestrator.testing.failures import Failure, FailureKind, strike
from orchestrator.testing.fake_runtime import EPOCH, FakeService
from orchestrator.testing.scripted import Script
from orchestrator.testing.world import World, wall_clock
from orchestrator.values import frozen

_SHOWN = frozenset(
    {
        EventKind.SERVICE_READY,
        EventKind.SERVICE_FAILED,
        EventKind.SERVICE_BLOCKED,
        EventKind.SERVICE_WAITING,
        EventKind.CONTAINER_STARTED,
        EventKind.CONTAINER_EXITED,
        EventKind.CONTAINER_STOPPED,
        EventKind.HEALTH_CHANGED,
        EventKind.HOOK_FAILED,
        EventKind.RESTART_SCHEDULED,
        EventKind.SUPERVISOR_STARTED,
        EventKind.CASCADE,
        EventKind.CHAOS,
        EventKind.WARNING,
    }
)
EVERYTHING = Selection()
_SUPERVISOR_AWAY_S = 1.0
"""Until somebody starts another one."""


@frozen
class Report:
    """`up`: the outcome of bringing it up, None when that took longer than the whole simulation, or its supervisor was
    killed. `statuses`: at the end, before it was taken down. `restarts`: by container, those that happened. `down`: the
    outcome of taking it down. `stopped`: how many of `events` were before that.

    `events`: all but successful probes, whose number is `probes_passed`; ``Event.at - EPOCH`` is the virtual time.
    """

    up: Outcome | None
    down: Outcome
    statuses: tuple[ContainerStatus, ...]
    events: tuple[Event, ...]
    restarts: Mapping[ContainerId, int]
    probes_passed: int
    left_over: tuple[str, ...]
    stopped: int = 0

    @property
    def story(self) -> tuple[Event, ...]:
        """What happened before it was taken down."""
        return self.events[: self.stopped]

    def render(self) -> str:
        """The story, a line per event that a user would care about, and how it stood in the end."""
        return "\n".join([*lines_of(self.events), "in the end:", *self.end()]) + "\n"

    def end(self) -> list[str]:
        """A line for each container."""
        lines = []
        several = Counter(status.service for status in self.statuses)
        for status in self.statuses:
            restarts = self.restarts.get(status.container, 0)
            times = "restart" if restarts == 1 else "restarts"
            name = status.service if several[status.service] == 1 else status.container
            lines.append(f"  {name}: {status.phase.value}, {restarts} {times}; {status.reason}")
        return lines


def lines_of(events: Sequence[Event]) -> list[str]:
    """Those that a user would care about, with their virtual times."""
    return [f"{clock_text(event.at - EPOCH)}  {event.text}" for event in events if event.kind in _SHOWN]


def simulate(
    project: Project,
    behaviours: Mapping[str, FakeService] | None = None,
    *,
    duration_s: float,
    seed: int = 0,
    failures: Sequence[Failure] = (),
    made: Mapping[str, Image] | None = None,
    steps: FakeService | None = None,
    compile_sandbox: Compile | None = None,
    selection: Selection = EVERYTHING,
    script: Sequence[ChaosStep] = (),
) -> Report:
    """Bring `project` up, let `duration_s` virtual seconds pass, take it down. `behaviours`: by service name (for all its
    replicas); a missing one starts at once, is healthy and runs for ever. `seed`: the order in which tasks run. `failures`:
    those that happen at a moment. `script`: faults on purpose, of which those of the network are left out
    (`scripted.is_noticed`). `made`, `steps`, `compile_sandbox`: as for `World`. Raises what `Engine.operate` does."""

    async def main() -> Report:
        world = World(
            behaviours, project=project.name, emit=tape.take, steps=steps, made=made, compile_sandbox=compile_sandbox
        )
        faults = Script(script, duration_s, tape.tell)
        return await _simulate(world, Up(project, selection, wait=True), failures, faults, duration_s, tape)

    tape = _Tape()
    try:
        return seeds.run(main, seed=seed)
    except BaseExceptionGroup as group:
        if (error := only_error(group)) is not None:
            raise error from group
        raise


class _Tape:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.passed = 0

    def take(self, event: Event) -> None:
        if event.kind is EventKind.HEALTH_PROBED and event.detail["ok"]:
            self.passed += 1
        else:
            self.events.append(event)

    def tell(self, text: str, kind: EventKind = EventKind.CHAOS) -> None:
        self.take(Event(kind, text, wall_clock(), clock_s=trio.current_time()))


async def _simulate(
    world: World, request: Up, failures: Sequence[Failure], script: Script, duration_s: float, tape: _Tape
) -> Report:
    outcomes: list[Outcome] = []

    async def up(engine: Engine) -> None:
        outcomes.append(await engine.operate(request))

    happening = [item for item in failures if item.kind.happens and item.seconds < duration_s]
    deaths = {item.seconds for item in happening if item.kind is FailureKind.KILL_SUPERVISOR}
    async with trio.open_nursery() as striking:
        for item in happening:
            if item.kind is not FailureKind.KILL_SUPERVISOR:
                striking.start_soon(_strike_at, world, item, tape)
        first = True
        for death_s in sorted(deaths):
            async with world.engine() as engine, trio.open_nursery() as nursery:
                if first:
                    nursery.start_soon(up, engine)
                if script:
                    nursery.start_soon(script.play, engine)
                await trio.sleep_until(death_s)
                tape.tell("(the supervisor is killed)")
                world.state.frozen = True  # What it does in its last moments is not written.
                nursery.cancel_scope.cancel()
            world.state.frozen, first = False, False
            await trio.sleep(_SUPERVISOR_AWAY_S)
            tape.tell("(another supervisor takes over)", EventKind.SUPERVISOR_STARTED)
        async with world.engine() as engine:
            with trio.move_on_at(duration_s):
                async with trio.open_nursery() as nursery:
                    if script:
                        nursery.start_soon(script.play, engine)
                    if first:
                        await up(engine)
                    await trio.sleep_forever()
            statuses, stopped = engine.statuses(), len(tape.events)
            down = await engine.operate(Down())
    scheduled = (event.container for event in tape.events if event.kind is EventKind.RESTART_SCHEDULED)
    restarts = Counter(container for container in scheduled if container is not None)
    return Report(
        up=outcomes[0] if outcomes else None,
        down=down,
        statuses=statuses,
        events=tuple(tape.events),
        restarts=dict(sorted(restarts.items())),
        probes_passed=tape.passed,
        left_over=world.runtime.existing(),
        stopped=stopped,
    )


async def _strike_at(world: World, failure: Failure, tape: _Tape) -> None:
    await trio.sleep_until(failure.seconds)
    await strike(world, failure, partial(tape.tell))


def clock_text(seconds: float) -> str:
    """``26:03:07.120``: hours, minutes, seconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{milliseconds:03}"
