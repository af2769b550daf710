"""Whether a simulation is as its stack expects (`model.expect`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.contracts.events import ContainerStatus, Event, EventKind
from orchestrator.model.expect import Claim, Expect
from orchestrator.model.health import Health
from orchestrator.model.phase import Phase
from orchestrator.testing.fake_runtime import EPOCH
from orchestrator.testing.simulate import Report, clock_text
from orchestrator.units import format_duration
from orchestrator.values import frozen

USUAL = Expect(eventually=(Claim("running"),))
"""Of a stack that says nothing."""

_NEVER: Mapping[str, Callable[[Event], bool]] = {
    "failed": lambda event: event.kind is EventKind.SERVICE_FAILED,
    "blocked": lambda event: event.kind is EventKind.SERVICE_BLOCKED,
    "unhealthy": lambda event: event.kind is EventKind.HEALTH_CHANGED and event.detail.get("health") == "unhealthy",
    "exited": lambda event: event.kind is EventKind.CONTAINER_EXITED,
    "restarted": lambda event: event.kind is EventKind.RESTART_SCHEDULED,
}
_EVENTUALLY: Mapping[str, Callable[[ContainerStatus], bool]] = {
    "running": lambda status: status.phase is Phase.RUNNING or _completed(status),
    "healthy": lambda status: status.phase is Phase.RUNNING and status.health in (Health.HEALTHY, Health.NONE),
    "completed": lambda status: _completed(status),
    "stopped": lambda status: status.pid is None,
}


@frozen
class Verdict:
    """`claim`: as a sentence. `why`: what shows that it holds, or does not. `place`: of the claim in the stack, or ""."""

    claim: str
    holds: bool
    why: str
    place: str = ""


def judge(expect: Expect, report: Report, services: Sequence[str]) -> tuple[Verdict, ...]:
    """`services`: what was to be brought up."""
    found = []
    if expect.ready_within_s is not None:
        found.append(_ready(expect.ready_within_s, report, services))
    found += [_never(claim, report) for claim in expect.never]
    found += [_eventually(claim, report, services) for claim in expect.eventually]
    if (most := expect.restarts_at_most) is not None:
        number = sum(report.restarts.values())
        found.append(Verdict(f"at most {most} restarts", number <= most, f"{number}", "x-pystack.expect.restarts_at_most"))
    return tuple(found)


def _ready(within_s: float, report: Report, services: Sequence[str]) -> Verdict:
    ready: dict[str, float] = {}
    for event in report.story:
        ends_well = event.kind is EventKind.CONTAINER_EXITED and event.detail.get("exit_status") == 0
        if event.container is not None and (event.kind is EventKind.SERVICE_READY or ends_well):
            ready.setdefault(event.container, event.at - EPOCH)
    claim, place = f"ready within {format_duration(within_s)}", "x-pystack.expect.ready_within"
    rows = [status for status in report.statuses if status.service in services]
    missing: list[str] = [status.container for status in rows if status.container not in ready]
    missing += [name for name in services if not any(status.service == name for status in report.statuses)]
    if missing:
        return Verdict(claim, False, f"{', '.join(missing)} was never ready", place)
    last = max(ready, key=lambda name: ready[name], default="")
    needed_s = ready.get(last, 0.0)
    return Verdict(claim, needed_s <= within_s, f"{last or 'all'} was ready after {needed_s:.3f} s", place)


def _never(claim: Claim, report: Report) -> Verdict:
    for event in report.story:
        if (not claim.service or event.service == claim.service) and _NEVER[claim.word](event):
            return Verdict(f"never {claim}", False, f"{clock_text(event.at - EPOCH)} {event.text}", claim.place)
    return Verdict(f"never {claim}", True, "it did not happen", claim.place)


def _eventually(claim: Claim, report: Report, services: Sequence[str]) -> Verdict:
    asked = [claim.service] if claim.service else services
    rows = [status for status in report.statuses if status.service in asked]
    wrong = [status for status in rows if not _EVENTUALLY[claim.word](status)]
    missing = [name for name in asked if not any(status.service == name for status in rows)]
    texts = [f"{name} has no container" for name in missing if claim.word != "stopped"]
    texts += [f"{status.container} is {status.phase.value}: {status.reason}" for status in wrong]
    return Verdict(f"eventually {claim}", not texts, "; ".join(texts) or "so it is", claim.place)


def _completed(status: ContainerStatus) -> bool:
    return status.phase is Phase.EXITED and status.exit is not None and status.exit.ok
