"""How much work something is, in calls: the same on every machine, whatever else that does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(work: Callable[[], object]) -> int:
    """How many functions are called in this thread until `work` returns, those of C among them (sys.setprofile)."""
    count = 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def grows_like(larger: Callable[[], object], smaller: Callable[[], object], times: float) -> bool:
    """Whether `larger` is at most a quarter more than `times` the work that `smaller` is."""
    return calls(larger) <= 1.25 * times * calls(smaller)
