"""``x-pystack.net.observe``: counted from `up` on who talks to whom."""

from __future__ import annotations

import pytest

from tests.unit.compose.stacks import Stack

SERVICES = "services: {api: {image: host}}\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", False),
        ("x-pystack: {net: {observe: true}}", True),
        ("x-pystack: {net: {observe: false}}", False),
        ("x-pystack: {net: {}}", False),
    ],
)
def test_it_is_a_flag_of_the_whole_stack(stack: Stack, text: str, wanted: bool) -> None:
    assert stack.load(SERVICES + text).project.observe == wanted


@pytest.mark.parametrize(
    ("text", "column", "complaint"),
    [
        ("x-pystack: {net: {observed: true}}", 19, '"observed" is not an attribute of net (did you mean "observe"?)'),
        ("x-pystack: {net: {observe: perhaps}}", 28, "is not true or false"),
        ("x-pystack: {net: true}", 18, "must be a mapping"),
        ("x-pystack: {network: {observe: true}}", 13, '"network"'),
    ],
)
def test_what_is_wrong_with_it_is_told_where_it_stands(stack: Stack, text: str, column: int, complaint: str) -> None:
    (message,) = stack.messages(SERVICES + text)
    assert f"compose.yaml:2:{column}:" in message
    assert complaint in message
