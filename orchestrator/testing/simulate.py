"""Run a stack for a while in virtual time: what would happen if the database crashed at four in the morning?

    report = simulate(project, {"db": FakeService(crashes=[3600])}, duration_s=86400)
    print(report.render())

The scheduler is the real one; only what is below `contracts` is made up. A day of a hundred services takes seconds. The
same arguments give the same report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import trio

from orchestrator.contracts.control import Down, Up
from orchestrator.contracts.events import ContainerStatus, Event, EventKind
from orchestrator.model.names import ContainerId
from orchestrator.model.project import Project
from orchestrator.scheduler.outcome import Outcome
from orchestrator.testing import seeds
from orchestrator.testing.fake_runtime import EPOCH, FakeService
from orchestrator.testing.world import World
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
        EventKind.RESTART_SCHEDULED,
        EventKind.WARNING,
    }
)


@frozen
class Report:
    """`up`: the outcome of bringing it up, None when that took longer than the whole simulation. `statuses`: at the end,
    before it was taken down. `restarts`: by container, those that happened. `down`: the outcome of taking it down.

    `events`: all but successful probes, whose number is `probes_passed`; ``Event.at - EPOCH`` is the virtual time.
    """

    up: Outcome | None
    down: Outcome
    statuses: tuple[ContainerStatus, ...]
    events: tuple[Event, ...]
    restarts: Mapping[ContainerId, int]
    probes_passed: int
    left_over: tuple[str, ...]

    def render(self) -> str:
        """The story, a line per event that a user would care about, and how it stood in the end."""
        lines = [f"{_clock(event.at - EPOCH)}  {event.text}" for event in self.events if event.kind in _SHOWN]
        lines.append("in the end:")
        several = Counter(status.service for status in self.statuses)
        for status in self.statuses:
            restarts = self.restarts.get(status.container, 0)
            times = "restart" if restarts == 1 else "restarts"
            name = status.service if several[status.service] == 1 else status.container
            lines.append(f"  {name}: {status.phase.value}, {restarts} {times}; {status.reason}")
        return "\n".join(lines) + "\n"


def simulate(
    project: Project, behaviours: Mapping[str, FakeService] | None = None, *, duration_s: float, seed: int = 0
) -> Report:
    """Bring `project` up, let `duration_s` virtual seconds pass, take it down. `behaviours`: by service name (for all its
    replicas); a missing one starts at once, is healthy and runs for ever. `seed`: the order in which tasks run."""

    async def main() -> Report:
        return await _simulate(project, behaviours or {}, duration_s)

    return seeds.run(main, seed=seed)


async def _simulate(project: Project, behaviours: Mapping[str, FakeService], duration_s: float) -> Report:
    events: list[Event] = []
    passed = 0

    def emit(event: Event) -> None:
        nonlocal passed
        if event.kind is EventKind.HEALTH_PROBED and event.detail["ok"]:
            passed += 1
        else:
            events.append(event)

    world = World(behaviours, project=project.name, emit=emit)
    outcome: Outcome | None = None
    async with world.engine() as engine:
        with trio.move_on_after(duration_s):
            outcome = await engine.operate(Up(project, wait=True))
            await trio.sleep_forever()
        statuses = engine.statuses()
        down = await engine.operate(Down())
    scheduled = Counter(
        event.container for event in events if event.kind is EventKind.RESTART_SCHEDULED and event.container is not None
    )
    return Report(
        up=outcome,
        down=down,
        statuses=statuses,
        events=tuple(events),
        restarts=dict(sorted(scheduled.items())),
        probes_passed=passed,
        left_over=world.runtime.existing(),
    )


def _clock(seconds: float) -> str:
    """``26:03:07.120``: hours, minutes, seconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{milliseconds:03}"
