"""Docker Compose's flags, as the real binary tells them, are those of our command line."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from orchestrator.cli import clicked
from orchestrator.cli.parser import Invocation, parse
from orchestrator.cli.table import every_verb
from orchestrator.cli.table.shapes import CHOICE, COUNT, INTEGER, LINES, SECONDS, Option
from tests.differential.flags import ACCEPTED, BETTER, MISSING, SAME, VERDICTS, Flag, flags, ours, renewed, verdict

PAGE = Path(__file__).parents[2] / "docs" / "compose-flags.md"
VERBS = dict(every_verb())


def by_click(words: list[str]) -> tuple[Invocation | int, str]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
        return clicked.parse(words), told.getvalue()


def value_of(option: Option) -> str:
    if option.kind == CHOICE:
        return option.choices[-1]
    return {SECONDS: "3", COUNT: "2", INTEGER: "-1", LINES: "all"}.get(option.kind, "a=1")


def with_arguments(verb: str, *options: str) -> list[str]:
    row = VERBS[verb]
    return [*verb.split(), *options, *(f"word{n}" for n, argument in enumerate(row.arguments) if argument.required)]


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert page == renewed(page), (
        "run: python -c \"from tests.differential.flags import write; write('docs/compose-flags.md')\""
    )


def test_the_binary_tells_all_its_verbs_and_flags() -> None:
    verbs = {flag.verb for flag in flags()}
    assert (len(verbs), len(flags())) == (35, 228), "34 verbs, and what stands before them"
    assert Flag("up", "-t", "--timeout", "int") in flags()
    assert Flag("logs", "-f", "--follow", "") in flags()


def test_hardly_a_flag_is_not_as_there() -> None:
    marks = [verdict(flag)[0] for flag in flags()]
    assert sum(mark in (SAME, BETTER) for mark in marks) >= 215
    assert MISSING not in marks


def test_every_verdict_is_about_a_flag_that_exists_and_says_why() -> None:
    known = {(flag.verb, flag.name) for flag in flags()}
    assert VERDICTS.keys() <= known
    assert all(said for _, said in VERDICTS.values())


@pytest.mark.parametrize("flag", flags(), ids=lambda flag: f"{flag.verb}{flag.name}")
def test_each_flag_is_understood_in_all_its_spellings(flag: Flag) -> None:
    """Also, that it takes a value if and only if it does there; and the small parser and click agree about it."""
    for spelling in flag.spellings:
        option = ours()[flag.verb][spelling]
        assert option.takes_value == bool(flag.value)
        assert option.accepted or verdict(flag)[0] != ACCEPTED
        written = [spelling, value_of(option)] if option.takes_value else [spelling]
        words = with_arguments(flag.verb, *written) if flag.verb else [*written, *with_arguments("ps")]
        found, told = by_click(words)
        assert isinstance(found, Invocation), told
        given = (found.values if flag.verb else found.settings)[option.name]
        assert given != option.value_when_absent or option.default is not None or option.value_when_absent is True
        if found.verb.hot:
            assert parse(words, {}) == found


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("word", ["--nosuch", "--nosuch=1", "-Z"])
def test_an_unknown_option_is_an_unknown_option_and_never_a_service(verb: str, word: str) -> None:
    for words in (with_arguments(verb, word), [word, *with_arguments(verb)]):
        found, told = by_click(words)
        assert (found, "no such option" in told) == (2, True), words
        assert parse(words, {}) is None
