"""Running under a chosen order of tasks.

trio runs the tasks that are ready in one tick in an order it shuffles, so that nobody comes to rely on one. Seeding its
generator makes a run repeatable, and a range of seeds tries many orders. These are trio's own testing hooks
(``trio._core._run._r`` and ``_ALLOW_DETERMINISTIC_SCHEDULING``, used by hypothesis-trio and pytest-trio).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]], *, seed: int = 0) -> T:
    """``trio.run(work)`` in virtual time that jumps over every wait, with tasks scheduled as `seed` says."""
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    state = _run._r.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
    try:
        return trio.run(_main, work, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        _run._r.setstate(state)


async def _main(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
