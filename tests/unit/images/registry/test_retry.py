"""When it is tried again, and after how long."""

from __future__ import annotations

import email.utils
import time

import pytest

from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.retry import persistently, retry_after_s, wait_s
from orchestrator.images.registry.settings import Bounds

BOUNDS = Bounds(attempts=5, backoff_s=0.5, wait_s=3.0)


def test_the_wait_doubles_up_to_a_bound_and_chance_takes_up_to_half() -> None:
    cut = Fault(Kind.CUT, "r")
    assert [wait_s(BOUNDS, cut, number, 1.0) for number in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, None]
    assert [wait_s(BOUNDS, cut, number, 0.0) for number in range(1, 5)] == [0.25, 0.5, 1.0, 1.5]


def test_what_the_registry_asks_for_is_kept_to_unless_it_is_too_long() -> None:
    assert wait_s(BOUNDS, Fault(Kind.THROTTLED, "r", retry_after_s=2.5), 1, 0.3) == 2.5
    assert wait_s(BOUNDS, Fault(Kind.THROTTLED, "r", retry_after_s=3600), 1, 0.3) is None


def test_what_will_not_change_is_not_tried_again() -> None:
    assert [kind for kind in Kind if wait_s(BOUNDS, Fault(kind, "r"), 1, 0.5) is not None] == [
        Kind.REFUSED, Kind.UNREACHABLE, Kind.STALLED, Kind.CUT, Kind.THROTTLED, Kind.BROKEN,
    ]  # fmt: skip


async def test_the_first_answer_ends_it() -> None:
    left = [Fault(Kind.CUT, "r"), Fault(Kind.BROKEN, "r")]

    async def attempt() -> str:
        if left:
            raise left.pop()
        return "answer"

    assert await persistently(Bounds(backoff_s=0.001), attempt) == "answer"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("120", 120), (None, None), ("", None), ("soon", None), ("-1", None), ("9" * 30, 999999999)],
)
def test_retry_after_in_seconds(text: str | None, expected: float | None) -> None:
    assert retry_after_s(text) == expected


def test_retry_after_as_a_date() -> None:
    asked = retry_after_s(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert asked is not None
    assert 50 < asked <= 100
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
