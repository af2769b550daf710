"""Random whole stacks, and those that once showed a difference."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings

from tests.differential.drafts import Draft
from tests.differential.oracle import Stack, compare, compare_all
from tests.differential.run_random import from_json, kept_seeds, kept_stacks, to_json
from tests.differential.strategies import drafts, random_draft

FRESH = 120


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(drafts)
def test_a_random_stack_gives_the_same_model_or_is_refused_at_the_same_place(draft: Draft) -> None:
    stack = draft.stack()
    difference = compare(stack)
    assert difference is None, f"{difference}\n{stack.show()}"


def test_seeded_stacks_agree() -> None:
    stacks = [random_draft(Random(seed)).stack() for seed in range(FRESH)]
    found = [f"seed {seed}: {how}" for seed, how in enumerate(compare_all(stacks)) if how is not None]
    assert not found, "\n".join(found)


def test_seeds_that_once_differed_agree() -> None:
    seeds = kept_seeds()
    stacks = [random_draft(Random(seed)).stack() for seed in seeds]
    found = [f"seed {seed}: {how}" for seed, how in zip(seeds, compare_all(stacks)) if how is not None]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("note", "stack"), kept_stacks())
def test_a_stack_that_once_differed_agrees(note: str, stack: Stack) -> None:
    difference = compare(stack)
    assert difference is None, f"once: {note}\nnow: {difference}\n{stack.show()}"


def test_a_kept_stack_survives_being_written_down() -> None:
    stack = random_draft(Random(5)).stack()
    assert from_json(to_json(stack, "a note")) == stack
