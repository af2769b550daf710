"""Splitting a command string into words, as Compose does: quotes and escapes, but no variables and no globs.

Spaces separate; single and double quotes group, and so do back quotes and ``$( )``, which stay in the word; a backslash
takes the next character as it is (``\\n`` and ``\\t`` are a newline and a tab), except inside single quotes. An unquoted
``;``, ``&``, ``|``, ``<`` or ``>`` ends the command: the rest is silently dropped, which is why `cut_at` exists (the loader
warns). Source: the behaviour of Docker Compose v5.6.1, measured.
"""

from __future__ import annotations

_STOP = frozenset(";&|<>")
_ESCAPES = {"n": "\n", "t": "\t"}


class ShellError(ValueError):
    """The text is not a command: a quote or a parenthesis is not closed, or a backslash stands at the end."""


def split(text: str) -> list[str]:
    """The words of `text`. Raises ShellError."""
    return _split(text)[0]


def cut_at(text: str) -> int | None:
    """Where (from 0) an unquoted shell operator ends the command, or None."""
    try:
        return _split(text)[1]
    except ShellError:
        return None


def _split(text: str) -> tuple[list[str], int | None]:
    words: list[str] = []
    word: str | None = None
    """The word being read; None between words."""
    quote = ""
    """The quote that is open: ``'``, ``"``, a back quote, or ``(`` for ``$(``."""
    escaped = False
    cut: int | None = None
    for at, char in enumerate(text):
        if escaped:
            word = (word or "") + _ESCAPES.get(char, char)
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char in " \t\r\n" and not quote:
            if word is not None:
                words.append(word)
            word = None
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
            word = word or ""
        elif not quote and char in _STOP:
            if char == ">" and word and word[0].isdigit():
                word = None
            cut = at
            break
        else:
            quote = _nested(char, quote, word or "")
            word = (word or "") + char
    if quote or escaped:
        reason = "a backslash stands at the end" if escaped else f"a {_NAMES[quote]} is not closed"
        raise ShellError(f"not a command line: {reason}")
    if word is not None:
        words.append(word)
    return words, cut


_NAMES = {"'": "single quote", '"': "double quote", "`": "back quote", "(": "parenthesis"}


def _nested(char: str, quote: str, word: str) -> str:
    """The quote that is open after `char`, where back quotes and ``$( )`` are concerned."""
    if char == "`" and quote in ("", "`"):
        return "" if quote else "`"
    if char == ")" and quote in ("", "("):
        return "" if quote else "("
    if char == "(" and quote in ("", "("):
        if quote or not word.endswith("$"):
            raise ShellError("not a command line: a parenthesis must be quoted")
        return "("
    return quote
