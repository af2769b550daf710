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
    if option.kind == FLAG:
        return truth(text)
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
    """`words` without flags like ``--flag=false``, ``-d=false``, and what these say; with ``-n5`` for ``-n=5``: click has
    neither. Raises ValueError."""
    by_flag = {flag: option for option in options for flag in option.flags.split()}
    kept: list[str] = []
    told: dict[str, bool] = {}
    queue = list(reversed(words))
    while queue:
        word = queue.pop()
        if word == "--" or (not interspersed and (len(word) < 2 or word[0] != "-")):
            kept.append(word)
            break
        before, option, value = _last(by_flag, word)
        if option is not None and option.kind == FLAG and value is not None:
            told[option.name] = truth(value)
            kept += [before] if before else []
            continue
        attached = option is not None and value is not None and word[:2] != "--"
        kept.append(f"{before}{value}" if attached else word)
        if option is not None and option.takes_value and value is None and queue:
            kept.append(queue.pop())
    return [*kept, *reversed(queue)], told


def _last(by_flag: Mapping[str, Option], word: str) -> tuple[str, Option | None, str | None]:
    """Of the last option in `word` (``--tail=3``, ``-dt5``, ``-dt=5``): what stands before its value, or before a flag that
    has one; the option, None when there is none or the word is none that we know; and its value, None when it has none
    in this word."""
    if word[:2] == "--":
        flag, given, value = word.partition("=")
        return "", by_flag.get(flag), value if given else None
    for at in range(1, len(word) if word[0:1] == "-" else 0):
        option = by_flag.get(f"-{word[at]}")
        if option is None:
            break
        rest = word[at + 1 :]
        if option.takes_value:
            return word[: at + 1], option, _attached(rest) if rest else None
        if option.kind == FLAG and rest[:1] == "=":
            return word[:at] if at > 1 else "", option, rest[1:]
    return "", None, None


def _attached(rest: str) -> str:
    """The value in what follows a letter: ``5`` of ``-n5``, and of ``-n=5``."""
    return rest[1:] if len(rest) > 1 and rest[0] == "=" else rest


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
    """``-dT``, ``-n5``, ``-n=5``, ``-d=false``: one-letter options in one word; the first with a value takes the rest."""
    for at in range(1, len(word)):
        option = by_flag.get(f"-{word[at]}")
        if option is None:
            raise _Unclear
        if option.takes_value:
            _take(by_flag, f"-{word[at]}", _attached(word[at + 1 :]) or None, queue, found)
            return
        if word[at + 1 : at + 2] == "=":
            _take(by_flag, f"-{word[at]}", word[at + 2 :], queue, found)
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
