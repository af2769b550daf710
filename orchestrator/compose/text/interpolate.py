"""Variables in text: ``$V ${V} ${V:-d} ${V-d} ${V:+a} ${V+a} ${V:?e} ${V?e}``, nested to any depth; ``$$`` is ``$``.

The first operator wins; the text after it is substituted only when it is used, so a variable named in a default that is
not needed neither warns nor fails. A ``$`` that starts none of these stays as it is. Source: compose-spec,
"Interpolation".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.values import frozen

Lookup = Callable[[str], "str | None"]
Unset = Callable[[str], None]

MAX_NESTING = 50
MAX_LENGTH = 1_000_000

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-+?]")


class InterpolationError(ValueError):
    """A template is malformed, or a required variable is missing. `offset` is where in the text (from 0)."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.hint = hint


@frozen
class Variable:
    """One use of a variable in a template, for ``config --variables``."""

    name: str
    default: str = ""
    alternate: str = ""
    required: bool = False


def substitute(text: str, lookup: Lookup, unset: Unset) -> str:
    """`text` with its variables replaced. `unset` is told of each variable without value and default.

    Raises InterpolationError.
    """
    at = text.find("$")
    if at < 0:
        return text
    return _substitute(text, lookup, unset, 0, 0)


def _substitute(text: str, lookup: Lookup, unset: Unset, base: int, depth: int) -> str:
    if depth > MAX_NESTING:
        raise InterpolationError(f"variables nested more than {MAX_NESTING} deep", base)
    parts: list[str] = []
    at = 0
    length = 0
    while True:
        dollar = text.find("$", at)
        if dollar < 0:
            parts.append(text[at:])
            return "".join(parts)
        parts.append(text[at:dollar])
        follow = text[dollar + 1 : dollar + 2]
        if follow == "$":
            parts.append("$")
            at = dollar + 2
        elif follow == "{":
            close, name, operator, argument = _braced(text, dollar, base)
            argument_at = base + dollar + 2 + len(name) + len(operator)
            value = _apply(name, operator, argument, lookup, unset, argument_at, base + dollar, depth)
            parts.append(value)
            length += len(value)
            at = close + 1
        elif (match := _NAME.match(text, dollar + 1)) is not None:
            value = _value(match[0], lookup, unset)
            parts.append(value)
            length += len(value)
            at = match.end()
        else:
            parts.append("$")
            at = dollar + 1
        if length > MAX_LENGTH:
            raise InterpolationError(f"the result is longer than {MAX_LENGTH:,} characters", base + dollar)


def _braced(text: str, dollar: int, base: int) -> tuple[int, str, str, str]:
    """(index of the closing brace, name, operator or nothing, text after the operator)."""
    name = _NAME.match(text, dollar + 2)
    invalid = InterpolationError(
        "not a variable: " + text[dollar : dollar + 40].split("\n")[0],
        base + dollar,
        "write ${NAME}, ${NAME:-default} or ${NAME:?message}; write $$ for a dollar sign",
    )
    if name is None:
        raise invalid
    if text.startswith("}", name.end()):
        return name.end(), name[0], "", ""
    operator = _OPERATOR.match(text, name.end())
    if operator is None:
        raise invalid
    end_of_line = text.find("\n", dollar)
    close = _closing(text, dollar, len(text) if end_of_line < 0 else end_of_line)
    if close < operator.end():
        raise invalid
    return close, name[0], operator[0], text[operator.end() : close]


def _closing(text: str, dollar: int, end: int) -> int:
    """The brace that closes the one after `dollar`; where braces do not balance, the last one of the line."""
    depth = 0
    at = dollar
    while at < end:
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        elif text[at] == "{":
            depth += 1
        at += 1
    return text.rfind("}", dollar, end)


def _value(name: str, lookup: Lookup, unset: Unset) -> str:
    value = lookup(name)
    if value is None:
        unset(name)
        return ""
    return value


def _apply(
    name: str,
    operator: str,
    argument: str,
    lookup: Lookup,
    unset: Unset,
    argument_at: int,
    at: int,
    depth: int,
) -> str:
    if not operator:
        return _value(name, lookup, unset)
    value = lookup(name)
    present = bool(value) if operator[0] == ":" else value is not None

    def rest() -> str:
        return _substitute(argument, lookup, unset, argument_at, depth + 1)

    match operator[-1]:
        case "-":
            return (value or "") if present else rest()
        case "+":
            return rest() if present else ""
        case _:
            if present:
                return value or ""
            reason = rest()
            message = f'the required variable "{name}" is ' + ("empty" if value is not None else "not set")
            raise InterpolationError(f"{message}: {reason}" if reason else message, at, f"set {name}, or add it to .env")


def variables(text: str) -> list[Variable]:
    """The variables that `text` names, in order, defaults included; what cannot be parsed is left out."""
    found: list[Variable] = []
    at = text.find("$")
    while at >= 0:
        follow = text[at + 1 : at + 2]
        step = at + 1
        if follow == "$":
            step = at + 2
        elif follow == "{":
            try:
                step, name, operator, argument = _braced(text, at, 0)
            except InterpolationError:
                return found
            kind = operator[-1:]
            found.append(
                Variable(
                    name,
                    default=argument if kind == "-" else "",
                    alternate=argument if kind == "+" else "",
                    required=kind == "?",
                )
            )
            found.extend(variables(argument))
        elif (match := _NAME.match(text, at + 1)) is not None:
            found.append(Variable(match[0]))
            step = match.end()
        at = text.find("$", step)
    return found
