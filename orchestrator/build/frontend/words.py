"""Docker's shell words: quotes, escapes and variables (``$X ${X} ${X:-d} ${X-d} ${X:+a} ${X+a} ${X:?e} ${X?e}
${X#p} ${X##p} ${X%p} ${X%%p} ${X/p/r} ${X//p/r}``), and what the expanded words of some instructions must be.

A variable that is not set is empty; `undefined` names those. Errors here have no place: `mistakes.located` gives them one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.build.frontend.syntax import lex_text, lex_word, lex_words
from orchestrator.build.instructions import Document
from orchestrator.errors import InputError
from orchestrator.units import parse_signal

PROTOCOLS = ("tcp", "udp", "sctp")
_PLAIN = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """One word. Raises InputError."""
    return lex_word(word, variables, escape)


def words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Expanded, and split at blanks outside quotes. Raises InputError."""
    return lex_words(text, variables, escape)


def expand_document(document: Document, variables: Mapping[str, str]) -> str:
    """The content that a COPY or ADD writes. Raises InputError."""
    return lex_text(document.content, variables) if document.expand else document.content


class _Recorder(dict[str, str]):
    """An environment that notes which names were looked up in vain."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        self.missed: list[str] = []

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        if key not in self and key not in self.missed:
            self.missed.append(key)
        return super().get(key, default)


def undefined(word: str, variables: Iterable[str], escape: str = "\\") -> tuple[str, ...]:
    """Names that `word` uses and `variables` lack, in order, without those for which it has an answer (``${X:-d}``)."""
    if "$" not in word:
        return ()
    recorder = _Recorder(dict.fromkeys(variables, "x"))
    try:
        lex_word(word, recorder, escape)
    except InputError:
        return ()
    plain = {match[1] or match[2] for match in _PLAIN.finditer(word)}
    return tuple(name for name in recorder.missed if name in plain)


def exposed(ports: Sequence[str]) -> tuple[str, ...]:
    """Expanded words of EXPOSE as ``PORT/PROTOCOL``, ranges one by one, in order, once each. An address or a port of the
    host in front is dropped, as Docker does. Raises InputError."""
    found: dict[str, None] = {}
    for word in ports:
        ranged, _, protocol = word.partition("/")
        protocol = protocol.lower() or "tcp"
        if protocol not in PROTOCOLS:
            raise InputError(f'EXPOSE {word}: "{protocol}" is no protocol', hint=f"one of {', '.join(PROTOCOLS)}")
        first, dash, last = ranged.rpartition(":")[2].partition("-")
        low = _port(first, word)
        high = _port(last, word) if dash else low
        if high < low:
            raise InputError(f"EXPOSE {word}: the range ends before it begins")
        found.update((f"{port}/{protocol}", None) for port in range(low, high + 1))
    return tuple(found)


def _port(text: str, word: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or int(text) > 65535:
        raise InputError(f'EXPOSE {word}: "{text}" is no port', hint="a number from 0 to 65535, or a range: 8000-8010")
    return int(text)


def signal(text: str) -> str:
    """The expanded word of STOPSIGNAL, unchanged. Raises InputError if it is no signal of Linux."""
    parse_signal(text)
    return text
