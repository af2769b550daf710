"""The ignore file of a context: which paths are not part of it.

A path is ignored if the last pattern that matches it, or a directory above it, has no ``!``. ``DOCKERFILE.dockerignore``,
beside the Dockerfile, wins over ``.dockerignore`` in the context's root.

Source: https://docs.docker.com/build/concepts/context/#dockerignore-files, moby/patternmatcher's recorded cases.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from orchestrator.build.patterns import has_wildcards, path_pattern
from orchestrator.errors import InputError
from orchestrator.values import frozen

MOST_PATTERNS = 20_000
_MOST_REMEMBERED = 50_000


@frozen
class Pattern:
    """A line: whether it makes an exception (``!``), its names, and what it matches."""

    exception: bool
    parts: tuple[str, ...]
    matcher: re.Pattern[str]


class Ignore:
    """The patterns of one file, or of ``--exclude``. `name`: the file's, for messages; "" if there is none."""

    def __init__(self, patterns: Iterable[Pattern] = (), name: str = "") -> None:
        self.name = name
        self._patterns = tuple(patterns)
        self._exceptions = tuple(pattern for pattern in self._patterns if pattern.exception)
        self._above: dict[str, tuple[bool, ...]] = {}

    def __repr__(self) -> str:
        return f"Ignore({self.name!r}, {len(self._patterns)} patterns)"

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def ignores(self, path: str) -> bool:
        """`path`: from the root of the context."""
        if not self._patterns:
            return False
        path = path.strip("/")
        return self._match(path, self._matches_above(posixpath.dirname(path)))[0]

    def has_exceptions_below(self, directory: str) -> bool:
        """Whether there may be something in an ignored `directory` that is not ignored: else nobody needs to look."""
        names = directory.strip("/").split("/")
        return any(_reaches_below(pattern.parts, names) for pattern in self._exceptions)

    def _matches_above(self, directory: str) -> tuple[bool, ...]:
        """Which patterns match `directory` or one above it."""
        todo = []
        while directory and (found := self._above.get(directory)) is None:
            todo.append(directory)
            directory = posixpath.dirname(directory)
        found = self._above[directory] if directory else (False,) * len(self._patterns)
        if len(self._above) > _MOST_REMEMBERED:
            self._above.clear()
        for path in reversed(todo):
            found = self._above[path] = self._match(path, found)[1]
        return found

    def _match(self, path: str, above: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        ignored = False
        matches = []
        for pattern, inherited in zip(self._patterns, above):
            # One that would change nothing is not asked, and counts as no match for what is below.
            matched = inherited or (pattern.exception is ignored and pattern.matcher.fullmatch(path) is not None)
            matches.append(matched)
            if matched:
                ignored = not pattern.exception
        return ignored, tuple(matches)


def _reaches_below(parts: tuple[str, ...], names: list[str]) -> bool:
    for part, name in zip(parts, names):
        if "**" in part:
            return True
        if not has_wildcards(part) and part != name:
            return False
    return len(parts) > len(names)


def parse_ignore(text: str, name: str) -> Ignore:
    """An ignore file's text. Raises InputError with the place of a pattern that is none."""
    patterns: list[Pattern] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if line.startswith("#") or not line.strip():
            continue
        if len(patterns) >= MOST_PATTERNS:
            raise InputError(f"more than {MOST_PATTERNS} patterns", place=f"{name}:{number}")
        try:
            patterns.append(parse_pattern(line))
        except ValueError as exc:
            raise InputError(f'"{line.strip()}" is no pattern: {exc}', place=f"{name}:{number}") from exc
    return Ignore(patterns, name)


def excluding(patterns: Iterable[str]) -> Ignore:
    """``--exclude=PATTERN``. Raises InputError without a place."""
    found = []
    for text in patterns:
        try:
            found.append(parse_pattern(text))
        except ValueError as exc:
            raise InputError(f'--exclude="{text}" is no pattern: {exc}') from exc
    return Ignore(found)


def parse_pattern(text: str) -> Pattern:
    """One pattern, as a line of an ignore file has it. Raises ValueError that says what is wrong with it."""
    text = text.strip()
    exception = text.startswith("!")
    if exception:
        text = text[1:].strip()
    if not text:
        raise ValueError("there is nothing in it")
    text = posixpath.normpath(text)
    if len(text) > 1:
        text = text.lstrip("/")
    return Pattern(exception, tuple(text.split("/")), path_pattern(text))
