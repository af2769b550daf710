"""``WWW-Authenticate`` (RFC 9110, 11.6.1): what a server wants to know before it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.values import field, frozen

MOST_CHALLENGES = 16
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@frozen
class Challenge:
    """`scheme` and the parameters' names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Those of all header lines, in order. What cannot be read ends its line; it is never an error: then there is simply
    no challenge that we could answer."""
    found: list[Challenge] = []
    for value in values:
        found += _Line(value).challenges()
    return found[:MOST_CHALLENGES]


def preferred(challenges: Iterable[Challenge]) -> Challenge | None:
    """Bearer with a realm before Basic: it is what gives the fewest people the password."""
    known = {each.scheme: each for each in reversed(list(challenges))}
    bearer = known.get("bearer")
    return bearer if bearer is not None and bearer.parameters.get("realm") else known.get("basic")


class _Line:
    """One header line, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def challenges(self) -> list[Challenge]:
        """A list of ``scheme SP name=value, name=value``: a comma may be followed by a parameter, or by a scheme."""
        found: list[Challenge] = []
        parameters: dict[str, str] = {}
        while True:
            self.skip(" \t,")
            word = self.token()
            if not word:
                return found
            self.skip(" \t")
            if found and self.peek() == "=":
                self.at += 1
                self.skip(" \t")
                value = self.value()
                if value is None:
                    return found
                parameters.setdefault(word.lower(), value)
            else:
                parameters = {}
                found.append(Challenge(word.lower(), parameters))

    def skip(self, characters: str) -> None:
        while self.peek() and self.peek() in characters:
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def token(self) -> str:
        begin = self.at
        while self.peek() in _TOKEN:
            self.at += 1
        return self.text[begin : self.at]

    def value(self) -> str | None:
        if self.peek() != '"':
            return self.token() or None
        self.at += 1
        pieces: list[str] = []
        while (character := self.peek()) != '"':
            if character == "\\":
                self.at += 1
                character = self.peek()
            if not character:
                return None
            pieces.append(character)
            self.at += 1
        self.at += 1
        return "".join(pieces)
