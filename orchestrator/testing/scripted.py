"""A stack's script of faults in a simulation: those that made-up processes notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import trio

from orchestrator.errors import PystackError
from orchestrator.model.chaos import ChaosStep, Injection
from orchestrator.policy.script import moments
from orchestrator.scheduler.engine import Engine


def is_noticed(step: ChaosStep) -> bool:
    """Made-up processes say nothing to each other, so no fault of the network makes a difference to them."""
    return not step.injection.kind.of_network


class Script:
    """Played by one supervisor after another. `tell` gets what came to nothing."""

    def __init__(self, steps: Sequence[ChaosStep], duration_s: float, tell: Callable[[str], None]) -> None:
        played = filter(is_noticed, steps)
        self._moments = takewhile(lambda moment: moment[0] < duration_s, moments(tuple(played)))
        self._next = next(self._moments, None)
        self._tell = tell

    def __bool__(self) -> bool:
        return self._next is not None

    async def play(self, engine: Engine) -> None:
        """What is to come, until `engine` ends. What was due while nobody was there comes to nothing, as by `chaos run`."""
        while self._next is not None:
            at_s, step = self._next
            missed = at_s < trio.current_time()
            await trio.sleep_until(at_s)
            self._next = next(self._moments, None)
            if missed:
                self._tell(f"({step.injection}: there was no supervisor)")
            else:
                await self._inject(engine, step.injection)

    async def _inject(self, engine: Engine, wanted: Injection) -> None:
        try:
            await engine.inject(wanted)
        except PystackError as error:
            self._tell(f"({wanted}: {error.message})")
