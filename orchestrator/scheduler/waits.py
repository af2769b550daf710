"""The conditions of one start as one future with three ends: all met, one can never be met, cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.model.names import ServiceName
from orchestrator.model.service import Dependency
from orchestrator.policy.conditions import Facts, Met, Never, NotYet, Verdict, evaluate
from orchestrator.scheduler.crew import Crew
from orchestrator.scheduler.keeper import Keeper, Watch


class Gate:
    """Use as a context manager: on entry every condition is judged and watched, on exit the watches end.

    `unmet`: what is still waited for, with the reason. `refusal`: the service whose condition can never be met, with the
    reason, as soon as there is one. An optional dependency that fails is a warning and counts as met.
    """

    def __init__(self, crew: Crew, dependent: Keeper, waits: Sequence[Dependency]) -> None:
        self._crew = crew
        self._dependent = dependent
        self._waits = waits
        self._watches: list[tuple[Keeper, Watch]] = []
        self._settled = trio.Event()
        self._open = False
        self.unmet: dict[ServiceName, tuple[Dependency, str]] = {}
        self.refusal: tuple[ServiceName, str] | None = None

    def __enter__(self) -> Gate:
        for dependency in self._waits:
            watch = Watch(partial(evaluate, dependency), partial(self._take, dependency))
            keeper = self._crew.keepers.get(dependency.service)
            if keeper is None:
                verdict = evaluate(dependency, Facts(dependency.service))
            else:
                verdict = keeper.watch(watch)
                self._watches.append((keeper, watch))
            self._take(dependency, verdict)
        self._open = True
        self._look()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for keeper, watch in self._watches:
            keeper.unwatch(watch)

    async def passed(self) -> bool:
        """Wait for the end. False: see `refusal`."""
        await self._settled.wait()
        return self.refusal is None

    def _take(self, dependency: Dependency, verdict: Verdict) -> None:
        match verdict:
            case Met():
                self.unmet.pop(dependency.service, None)
            case NotYet(reason):
                self.unmet[dependency.service] = (dependency, reason)
            case Never(reason) if dependency.required:
                self.unmet.pop(dependency.service, None)
                self.refusal = self.refusal or (dependency.service, reason)
            case Never(reason):
                self.unmet.pop(dependency.service, None)
                name = self._dependent.name
                self._dependent.note(
                    EventKind.WARNING, f"{name} starts without {dependency.service}, which is optional: {reason}"
                )
        self._look()

    def _look(self) -> None:
        if not self._open:  # There may be more to watch.
            return
        if self.refusal is not None or not self.unmet:
            self._settled.set()
