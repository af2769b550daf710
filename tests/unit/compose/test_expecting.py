"""``x-pystack.expect``: what a stack expects of its simulation, checked when it is loaded."""

from __future__ import annotations

import pytest

from orchestrator.model.expect import Claim, Expect
from tests.unit.compose.stacks import Stack

SERVICES = "services: {api: {image: host}, db: {image: host}}\n"


def test_expectations_are_read_with_their_places_and_nothing_of_them_is_in_a_service(stack: Stack) -> None:
    text = """x-pystack:
  expect:
    ready_within: 1m30s
    never: [failed, db restarted]
    eventually: running
    restarts_at_most: 0
"""
    project = stack.load(SERVICES + text).project
    assert project.expect == Expect(
        90.0,
        (Claim("failed", "", "x-pystack.expect.never[0]"), Claim("restarted", "db", "x-pystack.expect.never[1]")),
        (Claim("running", "", "x-pystack.expect.eventually[0]"),),
        0,
    )
    assert str(project.places["x-pystack.expect.never[1]"]) == "compose.yaml:5:21"
    assert project.services == stack.load(SERVICES).project.services


def test_a_stack_that_expects_nothing_has_no_expectations(stack: Stack) -> None:
    assert stack.load(SERVICES).project.expect is None
    assert stack.load(SERVICES + "x-pystack: {expect: {}}\n").project.expect == Expect()


@pytest.mark.parametrize(
    ("line", "column", "complaint"),
    [
        ("never: [dbb failed]", 13, '"dbb" is no service of this stack (did you mean "db"?)'),
        ("never: running", 12, '"running" is not WORD or SERVICE WORD'),
        ("eventually: [a b c]", 18, "is not WORD or SERVICE WORD, where WORD is one of running, healthy"),
        ("ready_within: soon", 19, "is not a duration"),
        ("ready_within: -3s", 19, "negative"),
        ("restarts_at_most: -1", 23, "negative"),
        ("restart_at_most: 1", 5, '"restart_at_most"'),
    ],
)
def test_what_is_wrong_with_them_is_told_where_it_stands(stack: Stack, line: str, column: int, complaint: str) -> None:
    (message,) = stack.messages(f"{SERVICES}x-pystack:\n  expect:\n    {line}\n")
    assert f"compose.yaml:4:{column}:" in message
    assert complaint in message
