from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.compose.text.dotenv import DotenvError, parse, parse_raw


def read(text: str, **environment: str) -> dict[str, str]:
    return parse(text, environment.get)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("K=v", "v"),
        ("export K=v", "v"),
        ("K: v", "v"),
        ("K = v ", "v"),
        ("K=", ""),
        ("K=a b c", "a b c"),
        ("K=v # comment", "v"),
        ("K=v#not a comment", "v#not a comment"),
        ("K='$A \\n # x'", "$A \\n # x"),
        ('K="a\\tb\\n"', "a\tb\n"),
        ('K="a\\$b"', "a$b"),
        ('K="say \\"hi\\""', 'say "hi"'),
        ("K='it\\'s'", "it's"),
        ('K="two\nlines"', "two\nlines"),
        ("K='two\nlines'", "two\nlines"),
        ("K=$A-${B:-d}", "outer-d"),
        ('K="$A"', "outer"),
        ("\ufeffK=v", "v"),
        ("K=v\r\n", "v"),
        ("# c\n\n  K=v", "v"),
    ],
)
def test_the_dialect_is_that_of_compose(text: str, value: str) -> None:
    assert read(text, A="outer") == {"K": value}


def test_later_values_may_use_earlier_ones_and_the_environment_wins() -> None:
    assert read("X=1\nY=$X\nZ=$X", X="outer") == {"X": "1", "Y": "outer", "Z": "outer"}
    assert read("X=1\nY=$X") == {"X": "1", "Y": "1"}


def test_a_bare_key_inherits_from_the_environment_or_is_nothing() -> None:
    assert read("A\nB\nC=1", A="x") == {"A": "x", "C": "1"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A=1\nB C=2", 2, "has a space in it"),
        ("A=1\n\n%x=2", 3, 'unexpected character "%"'),
        ("A='x\ny", 1, "not closed"),
        ("A=1\nB=${", 2, "not a variable"),
        ("A=${B:?no}", 1, 'the required variable "B" is not set: no'),
    ],
)
def test_a_bad_line_is_an_error_with_its_number(text: str, line: int, message: str) -> None:
    with pytest.raises(DotenvError, match=message.replace('"', ".").replace("$", ".")) as caught:
        read(text)
    assert caught.value.line == line


def test_raw_files_know_no_quotes_and_no_variables() -> None:
    text = "A='x'\nB=$A # no comment\n# comment\nC\nD= x "
    assert parse_raw(text, {"C": "c"}.get) == {"A": "'x'", "B": "$A # no comment", "C": "c", "D": " x "}


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), st.text(alphabet='ab c#=:\\n$"', max_size=10)
    )
)
def test_single_quotes_carry_any_text_without_quotes_and_backslashes(values: dict[str, str]) -> None:
    clean = {key: value.replace("\\", "") for key, value in values.items()}
    assert read("".join(f"{key}='{value}'\n" for key, value in clean.items())) == clean


@given(st.text(alphabet="AB='\"$\\{}#: \n\texport.-", max_size=50))
def test_no_text_fails_in_any_other_way(text: str) -> None:
    line = 1
    try:
        read(text, A="x")
    except DotenvError as exc:
        line = exc.line
    assert line >= 1


def test_a_variable_that_nobody_sets_is_told_with_its_line() -> None:
    told: list[tuple[str, int]] = []
    text = "# c\nA=1\nP=\"pa$WORD\"\nQ='$quiet' # $c\nR=$A-$P-${DEFAULT:-x}\nS=\"two\n$LATER\""
    found = parse(text, lambda name: None, unset=lambda name, line: told.append((name, line)))
    assert told == [("WORD", 3), ("LATER", 6)]
    assert found["P"] == "pa"
