"""What goes wrong in a simulation, as a user says it: ``--kill db@3s``, ``--slow api=2s``; and making it so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from orchestrator.contracts.runtime import Run
from orchestrator.errors import InputError
from orchestrator.model.names import ContainerId
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World, wall_clock
from orchestrator.units import parse_duration
from orchestrator.values import frozen, replace


class FailureKind(Enum):
    KILL = "kill"
    """The main process of all its containers that run then is killed."""
    ILL = "ill"
    """The probes of all its containers that run then fail from then on, until they are started again."""
    EXIT = "exit"
    """Each of its runs ends by itself so long after its start, with that code."""
    SLOW = "slow"
    """It takes so long until it is ready, each time."""
    KILL_SUPERVISOR = "kill-supervisor"
    """The supervisor is killed; another one begins a second later."""

    @property
    def happens(self) -> bool:
        """At one moment; else it is how the service is."""
        return self in (FailureKind.KILL, FailureKind.ILL, FailureKind.KILL_SUPERVISOR)


@frozen
class Failure:
    """`seconds`: when it happens, from the beginning, or how long it takes. `code`: of EXIT."""

    kind: FailureKind
    service: str
    seconds: float
    code: int = 0

    @property
    def option(self) -> str:
        """As it is written on a command line."""
        length = f"{self.seconds:g}s"
        match self.kind:
            case FailureKind.KILL_SUPERVISOR:
                return f"--kill-supervisor {length}"
            case FailureKind.SLOW:
                return f"--slow {self.service}={length}"
            case FailureKind.EXIT:
                return f"--exit {self.service}={self.code}@{length}"
            case _:
                return f"--{self.kind.value} {self.service}@{length}"


def parse_failure(kind: FailureKind, text: str) -> Failure:
    """``db@3s``, ``api=2s``, ``migrate=1@2s``, ``5s``. Raises InputError."""
    sign = "=" if kind in (FailureKind.SLOW, FailureKind.EXIT) else "@"
    service, _, rest = ("", "", text) if kind is FailureKind.KILL_SUPERVISOR else text.partition(sign)
    code, _, length = rest.partition("@") if kind is FailureKind.EXIT else ("0", "", rest)
    try:
        seconds, number = parse_duration(length), int(code)
    except ValueError:
        seconds, number = -1.0, 0
    if seconds < 0 or not 0 <= number <= 255 or not (service or kind is FailureKind.KILL_SUPERVISOR):
        raise InputError(f'--{kind.value}: "{text}" is not {FORMS[kind]}')
    return Failure(kind, service, seconds, number)


FORMS: Mapping[FailureKind, str] = {
    FailureKind.KILL: "SERVICE@TIME, such as db@3s",
    FailureKind.ILL: "SERVICE@TIME, such as db@3s",
    FailureKind.EXIT: "SERVICE=CODE@TIME, such as migrate=1@2s",
    FailureKind.SLOW: "SERVICE=TIME, such as api=2s",
    FailureKind.KILL_SUPERVISOR: "a TIME, such as 5s",
}


def behaving(base: FakeService, failure: Failure, *, checked: bool) -> FakeService:
    """`base` with a failure that does not happen at a moment. `checked`: the service has a health check."""
    if failure.kind is FailureKind.EXIT:
        return replace(base, exits_after_s=failure.seconds, exit_code=failure.code)
    return replace(base, healthy_after_s=failure.seconds) if checked else replace(base, boot_s=failure.seconds)


async def strike(world: World, failure: Failure, tell: Callable[[str], None]) -> None:
    """Make one happen now. `tell` gets what was done, for those who read the story."""
    live = await _live(world, failure.service)
    if not live:
        tell(f"(nothing of {failure.service} runs, so that {failure.kind.value} does nothing)")
    for container, run in live.items():
        if failure.kind is FailureKind.KILL:
            tell(f"({container} is killed)")
            await world.runtime.kill(container)
        else:
            tell(f"({container} falls ill)")
            age_s = wall_clock() - run.started_at
            known = world.runtime.behaviours.get(container) or world.behaviour(failure.service)
            ill = (None,) * (run.number - 1) + (age_s,)
            world.runtime.behaviours[container] = replace(known, ill_after_s=ill)


async def _live(world: World, service: str) -> dict[ContainerId, Run]:
    states = await world.runtime.containers()
    return {state.container: state.run for state in states if state.run and world.service_of(state.container) == service}
