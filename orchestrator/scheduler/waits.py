"""The conditions of one start as one future with three ends: all met, one can never be met, cancelled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from types import TracebackType

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.model.names import ServiceName
from orchestrator.model.service import Condition, Dependency
from orchestrator.policy.conditions import Facts, Met, Never, NotYet, Verdict, absent, evaluate
from orchestrator.scheduler.container import Container, Watch
from orchestrator.scheduler.engine_state import EngineState

LAST_WORD_S = 0.5
"""Docker Compose looks twice a second: what ends in that time has ended to it, whatever else is wrong with it."""


class DependencyWait:
    """Use as a context manager: on entry every condition is judged on every replica and watched, on exit the watches end.

    A condition is met when all the replicas have met it (`policy.conditions.gather`, spread over time), each at the moment
    it does. `unmet`: the conditions that are still waited for. `refusal`: the container (or service) whose condition can
    never be met, with the reason, as soon as there is one. An optional dependency that fails is a warning and counts as
    met. `scaled`: services that are known to have the number of containers that they should, even if that is none.
    """

    def __init__(
        self, state: EngineState, dependent: Container, waits: Sequence[Dependency], scaled: Collection[ServiceName] = ()
    ) -> None:
        self._state = state
        self._dependent = dependent
        self._waits = waits
        self._scaled = scaled
        self._watches: list[tuple[Container, Watch]] = []
        self._settled = trio.Event()
        self._open = False
        self._begun_s = trio.current_time()
        self._waiting: dict[ServiceName, set[Container | None]] = {}  # Not by name: that may change meanwhile.
        self.unmet: dict[ServiceName, Dependency] = {}
        self.refusal: tuple[Container | None, ServiceName, str] | None = None

    def __enter__(self) -> DependencyWait:
        for dependency in self._waits:
            replicas = self._state.replicas(dependency.service)
            if not replicas and dependency.service not in self._scaled:
                self._take(dependency, None, evaluate(dependency, absent(dependency.service)))
            for container in replicas:
                watch = Watch(partial(_judge, dependency, container), partial(self._take, dependency, container))
                verdict = container.watch(watch)
                self._watches.append((container, watch))
                self._take(dependency, container, verdict)
        self._open = True
        self._look()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for container, watch in self._watches:
            container.unwatch(watch)

    async def passed(self) -> bool:
        """Wait for the end. False: see `refusal`."""
        await self._settled.wait()
        if self.refusal is not None:
            await self._heard_out(*self.refusal)
        return self.refusal is None

    async def _heard_out(self, container: Container | None, service: ServiceName, reason: str) -> None:
        """One that can never be healthy, for it has no health check, may be about to end: then that is the reason."""
        dependency = next(item for item in self._waits if item.service == service)
        unchecked = container is not None and container.check is None and not container.ended_runs
        if container is None or not unchecked or dependency.condition is not Condition.HEALTHY:
            return
        with trio.move_on_after(LAST_WORD_S):
            while container.live:
                await container.next_change().wait()
        verdict = evaluate(dependency, container.facts())
        self.refusal = (container, service, verdict.reason if isinstance(verdict, Never) else reason)

    def _take(self, dependency: Dependency, container: Container | None, verdict: Verdict) -> None:
        match verdict:
            case NotYet():
                self._waiting.setdefault(dependency.service, set()).add(container)
                self.unmet[dependency.service] = dependency
            case Met():
                self._met(dependency, container)
            case Never(reason) if dependency.required:
                self._met(dependency, container, quiet=True)
                self.refusal = self.refusal or (container, dependency.service, reason)
            case Never(reason):
                self._met(dependency, container, quiet=True)
                text = f'optional dependency "{dependency.service}" failed to start: {reason}'
                text += f"; {self._dependent.label} starts without it"
                self._dependent.note(EventKind.WARNING, text)
        self._look()

    def _met(self, dependency: Dependency, container: Container | None, *, quiet: bool = False) -> None:
        waiting = self._waiting.get(dependency.service)
        if waiting is None:
            return
        waiting.discard(container)
        if not waiting and self.unmet.pop(dependency.service, None) is not None and not quiet:
            state = dependency.condition.value.removeprefix("service_").replace("_", " ")
            self._dependent.note(
                EventKind.CONDITION_MET,
                f"{self._dependent.label} waited for {dependency.service}: it is {state}",
                on=dependency.service,
                condition=dependency.condition.value,
                waited_s=round(trio.current_time() - self._begun_s, 3),
            )

    def _look(self) -> None:
        if not self._open:  # There may be more to watch.
            return
        if self.refusal is not None or not self.unmet:
            self._settled.set()


def _judge(dependency: Dependency, container: Container, facts: Facts) -> Verdict:
    """The verdict on one replica; one that goes for good while others stay (scaling down) is waited for no more."""
    if container.doomed and any(not item.doomed for item in container.siblings.values() if item is not container):
        return Met()
    return evaluate(dependency, facts)
