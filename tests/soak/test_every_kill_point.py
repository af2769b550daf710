"""kill -9 of the supervisor, the monitor or both at every line that `up` and `down` tell."""

from __future__ import annotations

import pytest

from tests.machine import Stack
from tests.scenarios import test_crashes
from tests.scenarios.test_crashes import BOTH, MONITOR, SUPERVISOR, Victims, named

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

UP_LINES, DOWN_LINES = 32, 16
"""How many lines an undisturbed command tells. A point after its last line kills what is left, which must be healed too."""
VICTIMS: tuple[Victims, ...] = ((SUPERVISOR,), (MONITOR,), BOTH)
UP = [(line, victims) for line in range(1, UP_LINES + 1) for victims in VICTIMS]
DOWN = [(line, victims) for line in range(1, DOWN_LINES + 1) for victims in VICTIMS]

stack = test_crashes.stack


@pytest.mark.parametrize("point", UP, ids=named)
def test_up_heals_an_up_that_was_cut_short(stack: Stack, point: tuple[int, Victims]) -> None:
    test_crashes.test_up_heals_an_up_that_was_cut_short(stack, point)


@pytest.mark.parametrize("point", UP, ids=named)
def test_down_clears_away_an_up_that_was_cut_short(stack: Stack, point: tuple[int, Victims]) -> None:
    test_crashes.test_down_clears_away_an_up_that_was_cut_short(stack, point)


@pytest.mark.parametrize("point", DOWN, ids=named)
def test_down_finishes_a_down_that_was_cut_short(stack: Stack, point: tuple[int, Victims]) -> None:
    test_crashes.test_down_finishes_a_down_that_was_cut_short(stack, point)


@pytest.mark.parametrize("line", range(1, UP_LINES + 1))
def test_the_next_command_takes_over_from_one_that_was_killed(stack: Stack, line: int) -> None:
    test_crashes.test_the_next_command_takes_over_from_one_that_was_killed(stack, line)
