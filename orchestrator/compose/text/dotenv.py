"""``.env`` and ``env_file``: the dialect of compose-go, which differs from python-dotenv's.

``KEY=value`` and ``KEY: value``; a bare ``KEY`` inherits from the environment; ``export KEY=value``; ``#`` comments, also
after a value when a space precedes them. Single quotes are literal, double quotes know escapes (``\\n``, ``\\$``) and
variables, and both may span lines. Unquoted and double-quoted values are interpolated. ``format: raw`` does none of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from orchestrator.compose.text.interpolate import InterpolationError, substitute

Lookup = Callable[[str], "str | None"]

_SPACES = "\t\v\f\r \x85\xa0"
_ESCAPE = re.compile(r"\\(?:[abcfnrtv$\"\\]|0[0-9]{0,3})")
_PLAIN_ESCAPES = {
    r"\a": "\a",
    r"\b": "\b",
    r"\f": "\f",
    r"\n": "\n",
    r"\r": "\r",
    r"\t": "\t",
    r"\v": "\v",
    r"\\": "\\",
    r"\"": '"',
    r"\$": "$$",
}


class DotenvError(ValueError):
    """A line that is not of the dialect. `line` counts from 1."""

    def __init__(self, line: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


def parse(
    text: str,
    lookup: Lookup,
    known: Mapping[str, str] | None = None,
    unset: Callable[[str, int], None] | None = None,
) -> dict[str, str]:
    """The variables `text` sets. `lookup` (the environment) wins over `known` and over earlier lines in ``$V``. `unset` is
    told the name of a variable that nobody sets, and the line (from 1) that wants it.

    Raises DotenvError.
    """
    return _Parser(text.removeprefix("\ufeff").replace("\r\n", "\n"), lookup, dict(known or {}), unset).parse()


def parse_raw(text: str, lookup: Lookup) -> dict[str, str]:
    """``format: raw``: a line is ``KEY=value`` to its end, taken as it is. Raises DotenvError."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"), 1):
        stripped = line.lstrip(_SPACES)
        if not stripped or stripped.startswith("#"):
            continue
        key, separator, value = stripped.partition("=")
        if not key or any(c in key for c in " \t"):
            raise DotenvError(number, f'"{key}" is not a variable name')
        if separator:
            found[key] = value
        elif (inherited := lookup(key)) is not None:
            found[key] = inherited
    return found


class _Parser:
    def __init__(self, text: str, lookup: Lookup, known: dict[str, str], unset: Callable[[str, int], None] | None) -> None:
        self.text = text
        self.at = 0
        self.lookup = lookup
        self.known = known
        self.found: dict[str, str] = {}
        self.unset = unset or (lambda name, line: None)

    def parse(self) -> dict[str, str]:
        while self._next_statement():
            start = self.at
            key, inherited = self._key()
            if " " in key:
                raise self._error(f'"{key}" is not a variable name: it has a space in it', at=start)
            if inherited:
                if (value := self.lookup(key)) is not None:
                    self.found[key] = value
                continue
            self.found[key] = self._value()
        return self.found

    def _error(self, message: str, hint: str | None = None, at: int | None = None) -> DotenvError:
        return DotenvError(self.text.count("\n", 0, self.at if at is None else at) + 1, message, hint)

    def _next_statement(self) -> bool:
        text = self.text
        while self.at < len(text):
            if text[self.at].isspace():
                self.at += 1
            elif text[self.at] == "#":
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            else:
                return True
        return False

    def _skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _SPACES:
            self.at += 1

    def _key(self) -> tuple[str, bool]:
        text = self.text
        if re.match(r"export\s+", text[self.at : self.at + 40]):
            self.at += len("export")
            self._skip_spaces()
        start = self.at
        while self.at < len(text):
            char = text[self.at]
            if char in "=:\n":
                key = text[start : self.at].rstrip()
                self.at += 1
                self._skip_spaces()
                return key, char == "\n"
            if not (char in _SPACES or char in "_.-[]" or char.isalpha() or char.isnumeric()):
                line = text[start:].split("\n")[0]
                raise self._error(
                    f'unexpected character "{char}" in the variable name of "{line[:60]}"',
                    "each line is NAME=value; a value of several lines must be quoted",
                )
            self.at += 1
        return text[start:].rstrip(), True

    def _value(self) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote in ('"', "'") and quote:
            return self._quoted(quote)
        start = self.at
        end = self.text.find("\n", start)
        if end < 0:
            end = len(self.text)
        self.at = min(end + 1, len(self.text))
        value = self.text[start:end].split(" #", 1)[0].rstrip()
        return self._expand(value, start)

    def _quoted(self, quote: str) -> str:
        start = self.at
        chars: list[str] = []
        escaped = False
        for at in range(start + 1, len(self.text)):
            char = self.text[at]
            if char == quote and not escaped:
                self.at = at + 1
                value = "".join(chars)
                return self._expand(_ESCAPE.sub(_unescape, value), start) if quote == '"' else value
            if char == quote:
                chars.append(char)
                escaped = False
            elif char == "\\" and not escaped:
                escaped = True
            else:
                if escaped:
                    chars.append("\\")
                    escaped = False
                chars.append(char)
        raise self._error("a quoted value is not closed: " + self.text[start : start + 40].split("\n")[0], at=start)

    def _expand(self, value: str, start: int) -> str:
        if "$" not in value:
            return value

        def lookup(name: str) -> str | None:
            outer = self.lookup(name)
            if outer is not None:
                return outer
            return self.found.get(name, self.known.get(name))

        try:
            return substitute(value, lookup, lambda name: self.unset(name, self.text.count("\n", 0, start) + 1))
        except InterpolationError as exc:
            raise self._error(str(exc), exc.hint, at=start) from None


def _unescape(match: re.Match[str]) -> str:
    text = match[0]
    if text in _PLAIN_ESCAPES:
        return _PLAIN_ESCAPES[text]
    digits = text[2:]
    if len(digits) == 3 and all(c in "01234567" for c in digits) and int(digits, 8) < 256:
        return chr(int(digits, 8))
    return text
