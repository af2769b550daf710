"""Ignore files, and patterns of paths."""

from __future__ import annotations

import pytest

from orchestrator.build.ignore import excluding, parse_ignore
from orchestrator.build.patterns import has_wildcards, name_pattern, path_pattern
from orchestrator.errors import InputError


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        (["a"], ["a", "a/b", "a/b/c"], ["b", "b/a", "ab"]),
        (["/a/"], ["a", "a/b"], ["b/a"]),
        (["*.o"], ["x.o", ".o"], ["d/x.o", "x.oo"]),
        (["**/*.o"], ["x.o", "d/x.o", "d/e/x.o"], ["x.c"]),
        (["a/**"], ["a/b", "a/b/c"], ["a", "b"]),
        (["**"], ["a", "a/b"], []),
        (["**/a/**/b"], ["a/b", "x/a/y/z/b", "a/b/c"], ["a", "b", "xa/b"]),
        (["**b"], ["b", "a/b", "ab", "a/cb"], ["bc"]),
        (["a?c"], ["abc"], ["a/c", "ac", "abbc"]),
        (["[a-c]x", "[^a-z]y"], ["ax", "cx", "Ay"], ["dx", "ay"]),
        (["a\\*"], ["a*"], ["ab"]),
        (["a.b"], ["a.b"], ["axb"]),
        (["*", "!keep"], ["a", "b/c"], ["keep", "keep/all"]),
        (["*", "!d/keep"], ["d", "d/a"], ["d/keep"]),
        (["d", "!d/*.md", "d/README.md"], ["d/a", "d/README.md"], ["d/a.md"]),
        (["!a", "a"], ["a"], ["b"]),
        (["./a/../b"], ["b"], ["a"]),
        (["a*b*c*d/e"], ["a1b2c3d/e", "abbccdd/e"], ["a/bcd/e", "abcd/f"]),
        (["[[]x", "[|&~]y"], ["[x", "&y", "~y"], ["x", "-y"]),
    ],
)
def test_a_path_is_ignored_by_the_last_pattern_that_speaks_of_it(
    patterns: list[str], ignored: list[str], kept: list[str]
) -> None:
    ignore = excluding(patterns)
    assert [path for path in ignored if not ignore.ignores(path)] == []
    assert [path for path in kept if ignore.ignores(path)] == []


def test_comments_and_empty_lines_are_no_patterns_and_blanks_around_one_are_no_part_of_it() -> None:
    ignore = parse_ignore("\ufeff# a\n\n  b  \r\n ! b/c\n", ".dockerignore")
    assert (ignore.ignores("a"), ignore.ignores("b/d"), ignore.ignores("b/c")) == (False, True, False)
    assert ignore.name == ".dockerignore"


def test_an_ignored_directory_is_looked_into_only_if_there_can_be_an_exception() -> None:
    ignore = parse_ignore("*\n!web/src/*.py\n!x/**/y\n", "i")
    assert [path for path in ("web", "web/src", "web/doc", "db", "x", "x/a/b") if ignore.has_exceptions_below(path)] == [
        "web", "web/src", "x", "x/a/b",
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["a[", "[]", "[a", "[z-a]", "[-a]", "a\\", "!", "[a-]"])
def test_a_pattern_that_is_none_is_told_with_its_line(pattern: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_ignore(f"ok\n{pattern}\n", "web/.dockerignore")
    assert caught.value.place == "web/.dockerignore:2"
    assert f'"{pattern}" is no pattern: ' in caught.value.message


def test_a_pattern_of_a_name_knows_no_directories() -> None:
    assert name_pattern("a**b").fullmatch("axb") is not None
    assert name_pattern("[\\]]x").fullmatch("]x") is not None
    assert has_wildcards("a\\b")
    assert not has_wildcards("a b")


@pytest.mark.parametrize("pattern", ["*a" * 40 + "b", "**/" + "*a/**/" * 40 + "b", "**/a/" * 40 + "b"])
def test_a_pattern_with_many_stars_does_not_explode(pattern: str) -> None:
    assert path_pattern(pattern).fullmatch("a" * 2000 + "/" + "a/" * 1000 + "c") is None


def test_many_patterns_are_too_many() -> None:
    with pytest.raises(InputError, match="more than 20000 patterns"):
        parse_ignore("a\n" * 20_001, "i")
