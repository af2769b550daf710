from __future__ import annotations

import pytest

from orchestrator.compose.text.shell import ShellError, cut_at, split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("a\\ b", ["a b"]),
        ('a "b\\"c"', ["a", 'b"c']),
        ("a 'b\\'", ["a", "b\\"]),
        ('a"b"c', ["abc"]),
        ("''", [""]),
        ("", []),
        ("a\nb", ["a", "b"]),
        ('"x\\ny"', ["x\ny"]),
        ("a $(b c) d", ["a", "$(b c)", "d"]),
        ("a `b c` d", ["a", "`b c`", "d"]),
    ],
)
def test_a_command_is_split_as_a_shell_would(text: str, words: list[str]) -> None:
    assert split(text) == words


@pytest.mark.parametrize("text", ["a 'b", 'a "b', "a\\", "(a b)", "a `b", "$(a", "a )"])
def test_what_is_not_closed_is_an_error(text: str) -> None:
    with pytest.raises(ShellError, match="not a command line"):
        split(text)


@pytest.mark.parametrize(
    ("text", "words", "at"),
    [("a && b", ["a"], 2), ("a;b", ["a"], 1), ("x>y", ["x"], 1), ("a 2>x", ["a"], 3), ("a | b", ["a"], 2)],
)
def test_a_shell_operator_ends_the_command_and_its_place_is_known(text: str, words: list[str], at: int) -> None:
    assert split(text) == words
    assert cut_at(text) == at


@pytest.mark.parametrize("text", ["a 'b && c'", 'a "b; c"', "a \\; b", "a b", "a 'b"])
def test_a_quoted_operator_cuts_nothing(text: str) -> None:
    assert cut_at(text) is None
