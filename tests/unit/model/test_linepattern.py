"""Patterns of lines: they mean what `re` means by them, and no line takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model.linepattern import LinePattern

_ATOMS = st.sampled_from(["a", "b", "1", ".", r"\d", r"\w", r"\S", "[ab]", "[^a]", "[a-c1]", "^", "$", r"\."])
_SUFFIXES = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0}", "{2,}", "*?"])


def _composed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, _SUFFIXES).map(lambda two: f"(?:{two[0]}){two[1]}"),
    )


PATTERNS = st.recursive(_ATOMS, _composed, max_leaves=6)


@settings(max_examples=600, deadline=None)
@given(PATTERNS, st.lists(st.text(alphabet="abc1. ", max_size=8), min_size=1, max_size=6))
def test_it_finds_what_the_re_module_finds(pattern: str, lines: list[str]) -> None:
    try:
        wanted = LinePattern(pattern)
    except ValueError as error:
        assert "too long" in str(error)  # noqa: PT017
        return
    for line in lines:
        assert wanted.found_in(line) == bool(re.search(pattern, line)), line


def test_case_may_be_of_no_matter() -> None:
    wanted = LinePattern("(?i)Ready [A-C]")
    assert wanted.found_in("is rEADY b")
    assert not wanted.found_in("is rEADY d")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "a*a*a*a*a*a*b", "(a?){40}a{40}"])
def test_every_line_has_an_answer(pattern: str) -> None:
    """With `re` the first of them would take longer than the universe is old."""
    assert LinePattern(pattern).found_in("a" * 4096 + "!") == (pattern == "(a?){40}a{40}")


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "[a", "a{", "a{2", "a{3,2}", "a{999}", "*", "a**", "(?=a)", "(?P<n>a)", r"\1", r"\b", "[[:digit:]]", "[b-a]",
     "(" * 300, "((a{50}){50}){50}", "\\"],
)  # fmt: skip
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        LinePattern(pattern)
