"""The small parser: what is right and frequent, from the table, without click.

`parse` reads the command line as click would (cli.clicked, which is made from the same table), or gives None for
whatever it does not know, whatever is wrong, and verbs that are not hot: click then finds the words for it. A property
test holds the two together.
"""

from __future__ import annotations

from orchestrator.cli.table import GLOBALS, VERBS
from orchestrator.cli.table.shapes import CHOICE, COUNT, FLAG, INTEGER, LINES, PART, SECONDS, Group, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.cli.table.shapes import Argument, Option


class Invocation:
    """A command line, understood: the global options, the verb, and its options and arguments by name."""

    __slots__ = ("settings", "values", "verb")

    def __init__(self, verb: Verb, settings: dict[str, Any], values: dict[str, Any]) -> None:
        self.verb, self.settings, self.values = verb, settings, values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Invocation) and self.verb == other.verb and repr(self) == repr(other)

    def __repr__(self) -> str:
        return f"Invocation({self.verb.name}, {sorted(self.settings.items())}, {sorted(self.values.items())})"


class _Unclear(Exception):
    """This is click's."""


def parse(words: Sequence[str], environ: Mapping[str, str]) -> Invocation | None:
    """What `words` (without the program's name) ask for, or None when click has to look at them."""
    if "_PYSTACK_COMPLETE" in environ:  # The shell wants a completion.
        return None
    try:
        settings, rest = _options(GLOBALS, words, environ, interspersed=False)
        if not rest and settings["version"]:
            rest = ["version"]
        verb = VERBS.get(rest[0]) if rest else None
        if isinstance(verb, Group) and len(rest) > 1:
            verb, rest = verb.verbs.get(rest[1]), rest[1:]
        if not isinstance(verb, Verb) or not verb.hot:
            return None
        values, arguments = _options(verb.options, rest[1:], environ, interspersed=not verb.rest)
        return Invocation(verb, settings, values | _arguments(verb.arguments, arguments))
    except _Unclear:
        return None


def convert(option: Option, text: str) -> Any:
    """The value that `text` gives the option. Raises ValueError when it gives none."""
    if option.kind == SECONDS:
        seconds = float(text)
        if not seconds >= 0:
            raise ValueError(text)
        return seconds
    if option.kind == COUNT:
        count = int(text)
        if count < 0:
            raise ValueError(text)
        return count
    if option.kind == INTEGER:
        return int(text)
    if option.kind == LINES:
        return lines(text)
    if option.kind == CHOICE and text not in option.choices:
        raise ValueError(text)
    return text


def lines(text: str) -> int:
    """A number of lines; -1 for ``all``. Raises ValueError."""
    if text in ("all", "-1"):
        return -1
    if not text.isdecimal():
        raise ValueError(f'"{text}" is neither a number of lines nor "all"')
    return int(text)


_TRUE = frozenset({"1", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "n", "no"})


def truth(text: str) -> bool:
    """Of ``--flag=TEXT``, and of variables that stand for flags. Raises ValueError."""
    word = text.strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise ValueError(f'"{text}" is neither true nor false')
    return word in _TRUE


def without_valued_flags(
    options: Sequence[Option], words: Sequence[str], *, interspersed: bool
) -> tuple[list[str], dict[str, bool]]:
    """`words` without those like ``--flag=false``, and what these say: click has no such flags. Raises ValueError."""
    by_flag = {flag: option for option in options for flag in option.flags.split()}
    kept: list[str] = []
    told: dict[str, bool] = {}
    queue = list(reversed(words))
    while queue:
        word = queue.pop()
        if word == "--" or (not interspersed and (len(word) < 2 or word[0] != "-")):
            kept.append(word)
            break
        flag, given, value = word.partition("=")
        option = by_flag.get(flag) if word[:2] == "--" else _last_of_bundle(by_flag, word)
        if option is not None and option.kind == FLAG and given and word[:2] == "--":
            told[option.name] = truth(value)
            continue
        kept.append(word)
        if option is not None and option.takes_value and not (given and word[:2] == "--") and queue:
            kept.append(queue.pop())
    return [*kept, *reversed(queue)], told


def _last_of_bundle(by_flag: Mapping[str, Option], word: str) -> Option | None:
    """The option in a word like ``-dt`` that takes the next word as its value; None when none does."""
    if word[:1] == "-":
        for at in range(1, len(word)):
            option = by_flag.get(f"-{word[at]}")
            if option is None or option.takes_value:
                return option if at == len(word) - 1 else None
    return None


def _options(
    options: Sequence[Option], words: Sequence[str], environ: Mapping[str, str], *, interspersed: bool
) -> tuple[dict[str, Any], list[str]]:
    """The options among `words`, and the other words: all that follow the first of those unless `interspersed`."""
    by_flag = {flag: option for option in options for flag in option.flags.split()}
    found: dict[str, Any] = {}
    others: list[str] = []
    queue = list(reversed(words))
    while queue:
        word = queue.pop()
        if word == "--":
            break
        if len(word) < 2 or word[0] != "-":
            if interspersed:
                others.append(word)
                continue
            queue.append(word)
            break
        if word[1] == "-":
            flag, given, value = word.partition("=")
            _take(by_flag, flag, value if given else None, queue, found)
        else:
            _bundle(by_flag, word, queue, found)
    others += reversed(queue)
    for option in options:
        if option.name not in found:
            text = environ.get(option.variable) if option.variable else None
            found[option.name] = _converted(option, text) if text else option.value_when_absent
        elif option.many:
            found[option.name] = tuple(found[option.name])
    return found, others


def _bundle(by_flag: Mapping[str, Option], word: str, queue: list[str], found: dict[str, Any]) -> None:
    """``-dT``, ``-n5``: one-letter options in one word; the first that takes a value takes the rest of it."""
    for at in range(1, len(word)):
        option = by_flag.get(f"-{word[at]}")
        if option is None:
            raise _Unclear
        if option.takes_value:
            _take(by_flag, f"-{word[at]}", word[at + 1 :] or None, queue, found)
            return
        _take(by_flag, f"-{word[at]}", None, queue, found)


def _take(
    by_flag: Mapping[str, Option], flag: str, value: str | None, queue: list[str], found: dict[str, Any]
) -> None:
    option = by_flag.get(flag)
    if option is None:
        raise _Unclear
    if option.kind == PART:
        if value is not None:
            raise _Unclear
        found[option.name] = flag.lstrip("-")
        return
    if option.kind == FLAG:
        if found.get(option.name) is False or (value is not None and option.name in found):
            raise _Unclear  # Said twice.
        found[option.name] = True if value is None else _truth(value)
        return
    if value is None:
        if not queue:
            raise _Unclear
        value = queue.pop()
    if option.many:
        found.setdefault(option.name, []).append(_converted(option, value))
    else:
        found[option.name] = _converted(option, value)


def _truth(text: str) -> bool:
    try:
        return truth(text)
    except ValueError:
        raise _Unclear from None


def _converted(option: Option, text: str) -> Any:
    try:
        return convert(option, text)
    except ValueError:
        raise _Unclear from None


def _arguments(arguments: Sequence[Argument], words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for argument in arguments:
        if argument.many:
            found[argument.name] = tuple(words)
            taken = words
            words = []
        else:
            taken, words = words[:1], words[1:]
            found[argument.name] = taken[0] if taken else argument.default
        if argument.required and not taken:
            raise _Unclear
    if words:
        raise _Unclear
    return found
