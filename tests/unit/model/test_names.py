"""Names: what may be a project's, and what becomes of text that is meant as one."""

from __future__ import annotations

import pytest

from orchestrator.errors import InputError
from orchestrator.model.names import normal_project_name, parse_project_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop", "shop"),
        ("My Shop.v2", "myshopv2"),
        ("_-a-_b", "a-_b"),
        ("1st", "1st"),
        ("caf\u00e9", "caf"),
        ("../..", ""),
        ("\u0130stanbul\0", "istanbul"),
        ("---", ""),
        ("", ""),
    ],
)
def test_any_text_becomes_a_project_name_or_nothing(text: str, name: str) -> None:
    assert normal_project_name(text) == name
    assert name == "" or parse_project_name(name) == name


@pytest.mark.parametrize("text", ["", "Shop", "a b", "-a", "_a", "a/b", "..", "a\n", "\u00e9", "a\0"])
def test_what_is_given_as_a_project_name_must_be_one_as_it_stands(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_project_name(text)
    assert caught.value.message == f'"{text}" is not a project name'
    assert caught.value.hint is not None
