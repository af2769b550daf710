"""Patterns of paths: those of ignore files and ``--exclude``, with ``**``, and those of COPY's sources, name by name.

``*`` and ``?`` stay within a name, ``[a-z]`` and ``[^a]`` are classes, a backslash takes the meaning from what follows
(Go's filepath.Match). ``**`` is any number of directories (moby/patternmatcher). Compiled so that matching does not
explode: what stands between two stars is taken where it is found first, and never looked for again (atomic groups).

Source: https://pkg.go.dev/path/filepath#Match, https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import re
from functools import lru_cache

MOST_CHARACTERS = 4096
_WILDCARDS = frozenset("*?[\\")


def has_wildcards(pattern: str) -> bool:
    return not _WILDCARDS.isdisjoint(pattern)


@lru_cache(maxsize=1024)
def path_pattern(pattern: str) -> re.Pattern[str]:
    """For whole paths, without a leading slash. Raises ValueError that says what is wrong with `pattern`."""
    rest = pattern[2:]
    if pattern.startswith("**") and not has_wildcards(rest):
        # As moby has it, ``**b`` is any path that ends so, whereas in ``a**b`` a directory ends before the b.
        return re.compile(f"(?s:.*/)?{re.escape(rest[1:])}" if rest.startswith("/") else f"(?s:.*){re.escape(rest)}")
    return re.compile(_joined(_tokens(pattern, directories=True)), re.DOTALL)


@lru_cache(maxsize=1024)
def name_pattern(pattern: str) -> re.Pattern[str]:
    """For one name of a path. Raises ValueError."""
    return re.compile(_joined(_tokens(pattern, directories=False)), re.DOTALL)


_STAR, _DIRECTORIES, _REST = "*", "**/", "**"


def _tokens(pattern: str, *, directories: bool) -> list[tuple[str, str]]:
    """("" and a regular expression of a fixed number of characters) or (a wildcard, "")."""
    if len(pattern) > MOST_CHARACTERS:
        raise ValueError(f"it has {len(pattern)} characters, more than {MOST_CHARACTERS}")
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if directories and pattern.startswith("*", at):
                at += 2 if pattern.startswith("/", at + 1) else 1
                kind = _REST if at >= len(pattern) else _DIRECTORIES
            else:
                kind = _STAR
            if tokens[-1:] != [(kind, "")]:
                tokens.append((kind, ""))
        elif character == "?":
            tokens.append(("", "[^/]"))
        elif character == "[":
            text, at = _class(pattern, at)
            tokens.append(("", text))
        else:
            if character == "\\":
                if at >= len(pattern):
                    raise ValueError("it ends in a backslash")
                character = pattern[at]
                at += 1
            tokens.append(("", re.escape(character)))
    return tokens


def _class(pattern: str, at: int) -> tuple[str, int]:
    """The class that begins before `at`, as a regular expression, and where it ends."""
    out = "["
    if pattern.startswith("^", at):
        out, at = "[^", at + 1
    empty = True
    while empty or not pattern.startswith("]", at):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        if high < low:
            raise ValueError(f"the range {low}-{high} ends before it begins")
        out += re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}"
        empty = False
    return f"{out}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("\\", at):
        at += 1
    elif pattern.startswith(("-", "]"), at):
        raise ValueError("a class in brackets is not complete")
    if at + 1 >= len(pattern):
        raise ValueError("a bracket is not closed")
    return pattern[at], at + 1


def _joined(tokens: list[tuple[str, str]]) -> str:
    chunks: list[list[tuple[str, str]]] = [[]]
    rest = ""
    for kind, text in tokens:
        if kind == _DIRECTORIES:
            chunks.append([])
        elif kind == _REST:
            rest = ".*"
        else:
            chunks[-1].append((kind, text))
    out = _chunk(chunks[0])
    for number, chunk in enumerate(chunks[1:], start=1):
        # Followed by more directories, a chunk that ends with a slash may be taken where it comes first.
        first = number + 1 < len(chunks) and chunk[-1:] == [("", "/")]
        out += f"(?>(?:.*?/)??{_chunk(chunk)})" if first else f"(?:.*/)?{_chunk(chunk)}"
    return out + rest


def _chunk(tokens: list[tuple[str, str]]) -> str:
    parts = [""]
    for kind, text in tokens:
        if kind == _STAR:
            parts.append("")
        else:
            parts[-1] += text
    if len(parts) == 1:
        return parts[0]
    middle = "".join(f"(?>[^/]*?{part})" for part in parts[1:-1])
    return f"{parts[0]}{middle}[^/]*{parts[-1]}"
