from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.compose.text.interpolate import InterpolationError, Variable, substitute, variables

ENVIRONMENT = {"A": "one", "EMPTY": "", "B": "two"}


def run(text: str) -> str:
    return substitute(text, ENVIRONMENT.get, lambda name: None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$A-$B", "one-two"),
        ("${A}${B}", "onetwo"),
        ("$$A $${A}", "$A ${A}"),
        ("cost: 5$ or $, $1", "cost: 5$ or $, $1"),
        ("${NOPE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NOPE-d}", "d"),
        ("${A:+x}${EMPTY:+y}${EMPTY+z}${NOPE+w}", "xz"),
        ("${NOPE:-${ALSO:-$B}}", "two"),
        ("${NOPE:-a}b}", "ab}"),
        ('${NOPE:-{"a":1}}', '{"a":1}'),
        ("${NOPE:-{}}!", "{}!"),
        ("${A:?needed}", "one"),
        ("${EMPTY?set is enough}", ""),
        ("${A:-x:?y}", "one"),
        ("${NOPE:-x:?y}", "x:?y"),
        ("$NOPE.", "."),
        ("${NOPE:-$$x}", "$x"),
    ],
)
def test_variables_are_replaced(text: str, value: str) -> None:
    assert run(text) == value


@pytest.mark.parametrize("text", ["${", "${}", "${ A}", "${A", "${1}", "${A!b}", "${A:-x\ny}", "${-x}"])
def test_a_malformed_variable_is_an_error_that_shows_how_to_write_it(text: str) -> None:
    with pytest.raises(InterpolationError, match="not a variable") as caught:
        run(text)
    assert "${NAME" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x ${NOPE:?set me}", 'the required variable "NOPE" is not set: set me'),
        ("x ${NOPE?}", 'the required variable "NOPE" is not set'),
        ("x ${EMPTY:?for $A}", 'the required variable "EMPTY" is empty: for one'),
    ],
)
def test_a_required_variable_without_a_value_is_an_error_at_its_place(text: str, message: str) -> None:
    with pytest.raises(InterpolationError) as caught:
        run(text)
    assert str(caught.value) == message
    assert caught.value.offset == 2


def test_only_variables_that_are_used_are_reported_as_unset() -> None:
    unset: list[str] = []
    substitute("$A ${B:-$NOT_USED} $X ${Y:-$Z} ${W:-d}", ENVIRONMENT.get, unset.append)
    assert unset == ["X", "Z"]


def test_nesting_without_end_is_an_error() -> None:
    with pytest.raises(InterpolationError, match="nested more than"):
        run("${X:-" * 200 + "}" * 200)


def test_a_result_without_measure_is_an_error() -> None:
    with pytest.raises(InterpolationError, match="longer than"):
        substitute("$A" * 200, {"A": "x" * 10_000}.get, lambda name: None)


def test_the_variables_of_a_text_are_listed_with_their_defaults() -> None:
    assert variables("$A ${B:-x$C} ${D:?no} ${E+f} $$G") == [
        Variable("A"),
        Variable("B", default="x$C"),
        Variable("C"),
        Variable("D", required=True),
        Variable("E", alternate="f"),
    ]


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_a_dollar_stays_as_it_is(text: str) -> None:
    assert run(text) == text


@given(st.text())
def test_doubled_dollars_give_the_text_back(text: str) -> None:
    assert run(text.replace("$", "$$")) == text


@given(st.text(alphabet="${}AB:-+?xy \n", max_size=40))
def test_no_text_fails_in_any_other_way(text: str) -> None:
    offset = 0
    try:
        run(text)
    except InterpolationError as exc:
        offset = exc.offset
    assert 0 <= offset <= len(text)
    variables(text)
