"""A stack's script of faults, ``x-pystack.chaos``: which comes when."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from orchestrator.model.chaos import ChaosStep


def moments(steps: Sequence[ChaosStep]) -> Iterator[tuple[float, ChaosStep]]:
    """What is to be done when, in seconds from the beginning; without an end if a step comes again and again."""
    queue = [(step.at_s, number) for number, step in enumerate(steps)]
    heapq.heapify(queue)
    while queue:
        at_s, number = heapq.heappop(queue)
        yield at_s, steps[number]
        if steps[number].every_s:
            heapq.heappush(queue, (at_s + steps[number].every_s, number))
