"""Every form of every attribute, alone and meeting another: both loaders load the same model, or refuse the same place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.compose.schema.attributes_service import SERVICE as SERVICE_SHAPE
from tests.differential.batch import Case, differences
from tests.differential.families import stack_families
from tests.differential.forms import SERVICE, VALUES, Form, body, service_forms
from tests.differential.forms_parts import part_forms
from tests.differential.oracle import compare_all
from tests.differential.pairs import extends_cases, merge_cases, tag_cases

FAMILIES = stack_families()
# What the test-suite has time for; `python -m tests.differential.report` runs everything.
EACH_PAIR = 14
EACH_TAG = 16
EACH_TYPE = 24


def _show(found: dict[str, str]) -> str:
    return "\n".join(f"{name}\n    {how}" for name, how in found.items())


def test_the_table_has_every_attribute_of_a_service() -> None:
    assert SERVICE_SHAPE.fields is not None
    assert len(SERVICE_SHAPE.fields) == 93
    assert set(SERVICE_SHAPE.fields) <= set(SERVICE)


@pytest.mark.parametrize("forms", [service_forms, part_forms], ids=["services", "parts"])
def test_every_form_of_every_attribute(forms: Callable[[], list[Form]]) -> None:
    found = differences({str(form): Case((body(form),)) for form in forms()})
    assert not found, _show(found)


@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_stacks(family: str) -> None:
    stacks = FAMILIES[family]
    found = {name: how for name, how in zip(stacks, compare_all(stacks.values())) if how is not None}
    assert not found, _show(found)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("make", "step"),
    [(merge_cases, EACH_PAIR), (extends_cases, EACH_PAIR), (tag_cases, EACH_TAG)],
    ids=["merged", "extended", "reset and override"],
)
def test_two_values_of_one_attribute(make: Callable[[], dict[str, Case]], step: int) -> None:
    cases = make()
    some = {name: case for number, (name, case) in enumerate(cases.items()) if number % step == 0}
    found = differences(some, sort=False)
    assert not found, _show(found)


def test_values_of_every_type_for_every_attribute() -> None:
    names = [name for name in SERVICE if name != "extends"]
    every = [Form("service", name, value) for name in names for value in VALUES]
    found = differences({str(form): Case((body(form),)) for form in every[::EACH_TYPE]})
    assert not found, _show(found)
