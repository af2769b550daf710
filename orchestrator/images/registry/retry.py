"""Trying again: after connection faults, 429 and 5xx, ever later, and never when the registry should not be asked soon."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from orchestrator.images.registry.faults import Fault
from orchestrator.images.registry.settings import Bounds

T = TypeVar("T")


async def persistently(bounds: Bounds, attempt: Callable[[], Awaitable[T]]) -> T:
    """The answer of the first attempt that has one. Raises the last one's Fault."""
    number = 0
    while True:
        number += 1
        try:
            return await attempt()
        except Fault as exc:
            fault = exc
        await pause(bounds, fault, number)


async def pause(bounds: Bounds, fault: Fault, number: int) -> None:
    """Wait after the attempt with this number, counted from 1; raises `fault` if it was the last."""
    delay_s = wait_s(bounds, fault, number, random.random())
    if delay_s is None:
        fault.final = True  # What this was a part of must not be tried again either: attempts would multiply.
        raise fault
    await trio.sleep(delay_s)


def wait_s(bounds: Bounds, fault: Fault, number: int, chance: float) -> float | None:
    """Half of the doubled delay or, by `chance` (0 to 1), up to all of it; what the registry asked for; None: give up."""
    if number >= min(bounds.attempts, fault.attempts):
        return None
    if fault.retry_after_s is not None:
        return fault.retry_after_s if fault.retry_after_s <= bounds.wait_s else None
    return float(min(bounds.backoff_s * 2 ** (number - 1), bounds.wait_s) * (0.5 + chance / 2))


def retry_after_s(text: str | None) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3): seconds, or a date."""
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
