"""The functions of ``--format`` templates, and how Go shows a value (pkg.go.dev/text/template "Functions", pkg.go.dev/fmt,
docs.docker.com/engine/cli/formatting). What is wrong with their arguments is a ValueError with a sentence.

Values: text, bool, int, float, None, lists, mappings. A mapping may hold functions: methods, which JSON does not show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NO_VALUE = "<no value>"
_WIDEST = 1_000_000
"""Of printf, as in Go."""


def kind_of(value: object) -> str:
    """What `value` is, in an error's words."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if value is None:
        return "nothing"
    return "a mapping" if isinstance(value, Mapping) else "a list" if is_list(value) else "a method"


def is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def show(value: Any) -> str:
    """As fmt's ``%v``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show(item)}" for key, item in sorted(plain(value).items())) + "]"
    if is_list(value):
        return "[" + " ".join(map(show, value)) + "]"
    return str(value)


def truth(value: Any) -> bool:
    return bool(value)


def plain(value: Any) -> Any:
    """Without methods, and of types that JSON has."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if not callable(item)}
    return [plain(item) for item in value] if is_list(value) else value


def as_json(value: Any) -> str:
    """On one line, in ASCII."""
    from orchestrator.kernel.jsontext import dumps

    return dumps(plain(value)).replace("\x7f", "\\u007f")


def _float(value: float) -> str:
    """As few digits as tell it from its neighbours, with an exponent from 1e+06 on and below 1e-04 (strconv, "g", -1)."""
    from decimal import Decimal

    if value != value or abs(value) == float("inf"):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[repr(value)]
    number = Decimal(repr(value)).normalize()
    sign, digits, _ = number.as_tuple()
    exponent = number.adjusted()
    if number.is_zero() or -4 <= exponent < 6:
        return format(number, "f")
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    return f"{'-' if sign else ''}{first}{'.' if rest else ''}{rest}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} takes text, and this is {kind_of(value)}")
    return value


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} takes a whole number, and this is {kind_of(value)}")
    return value


def _join(items: Any, separator: Any) -> str:
    if items is None:
        return ""
    if not is_list(items):
        raise ValueError(f"join takes a list, and this is {kind_of(items)}")
    return _text(separator, "join").join(map(show, items))


def _split(text: Any, separator: Any) -> list[str]:
    separator = _text(separator, "split")
    return _text(text, "split").split(separator) if separator else list(_text(text, "split"))


def _title(text: Any) -> str:
    return re.sub(r"(?<!\w)\w", lambda found: found[0].upper(), _text(text, "title"))


def _pad(text: Any, before: Any, after: Any) -> str:
    sizes = [_whole(size, "pad") for size in (before, after)]
    if not all(0 <= size <= _WIDEST for size in sizes):
        raise ValueError("pad takes numbers of blanks")
    return _text(text, "pad") and " " * sizes[0] + text + " " * sizes[1]


def _truncate(text: Any, length: Any) -> str:
    if _whole(length, "truncate") < 0:
        raise ValueError("truncate takes a length")
    return _text(text, "truncate")[:length]


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, Mapping):
        return len(plain(value))
    if not is_list(value):
        raise ValueError(f"len takes text, a list or a mapping, and this is {kind_of(value)}")
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "" if all(isinstance(item, str) for item in value.values()) else None)
        elif is_list(value):
            if not 0 <= _whole(key, "index") < len(value):
                raise ValueError(f"there is no element {key} in a list of {len(value)}")
            value = value[key]
        elif value is not None:
            raise ValueError(f"index takes a list or a mapping, and this is {kind_of(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not (isinstance(value, str) or is_list(value)) or len(bounds) > 2:
        raise ValueError(f"slice takes text or a list and at most two numbers, and this is {kind_of(value)}")
    begin, end = (*(_whole(bound, "slice") for bound in bounds), *(0, len(value))[len(bounds) :])
    if not 0 <= begin <= end <= len(value):
        raise ValueError(f"{begin}:{end} is no part of a length of {len(value)}")
    return value[begin:end]


def _comparable(first: Any, second: Any) -> tuple[Any, Any]:
    kinds = kind_of(first), kind_of(second)
    if kinds[0] != kinds[1] or kinds[0] not in ("a number", "text"):
        raise ValueError(f"{kinds[0]} and {kinds[1]} have no order")
    return first, second


def _eq(first: Any, *others: Any) -> bool:
    for other in others:
        kinds = kind_of(first), kind_of(other)
        if {"a mapping", "a list", "a method"} & {*kinds}:
            raise ValueError(f"{kinds[0]} and {kinds[1]} cannot be compared")
        if kinds[0] != kinds[1] and "nothing" not in kinds:
            raise ValueError(f"{kinds[0]} is never equal to {kinds[1]}")
        if first == other:
            return True
    return False


def _less(first: Any, second: Any) -> bool:
    left, right = _comparable(first, second)
    return bool(left < right)


def _print(*values: Any) -> str:
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(show(value))
    return "".join(parts)


_DIRECTIVE = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?(.?)", re.DOTALL)


def _printf(template: Any, *values: Any) -> str:
    left = list(values)

    def taken() -> Any:
        if not left:
            raise ValueError(f"printf has too few values for {template!r}")
        return left.pop(0)

    def size(text: str | None) -> int | None:
        number = None if text is None else _whole(taken(), "the width of printf") if text == "*" else int(text or "0")
        if number is not None and abs(number) > _WIDEST:
            raise ValueError(f"{number} is too wide for printf")
        return number

    def one(found: re.Match[str]) -> str:
        flags, verb = found[1], found[4]
        if verb == "%":
            return "%"
        width, precision = size(found[2]), size(found[3])
        text = _formatted(verb, flags, precision, taken(), found[0])
        if width is not None and (width < 0 or "-" in flags):
            return text.ljust(abs(width))
        if width is not None and "0" in flags and verb in "dxXobfFeEgG":
            return text.zfill(width)
        return text.rjust(width or 0)

    made = _DIRECTIVE.sub(one, _text(template, "printf"))
    if left:
        raise ValueError(f"printf has more values than {template!r} shows")
    return made


def _formatted(verb: str, flags: str, precision: int | None, value: Any, written: str) -> str:
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if verb in ("v", "s"):
        text = quote(value) if verb == "v" and "#" in flags and isinstance(value, str) else show(value)
        return text if precision is None else text[:precision]
    if verb == "q":
        return quote(_text(value, written))
    if verb == "t" and isinstance(value, bool):
        return show(value)
    if verb in ("x", "X") and isinstance(value, str):
        digits = value.encode("utf-8", "surrogateescape").hex()
        return digits if verb == "x" else digits.upper()
    if verb in ("d", "x", "X", "o", "b"):
        return format(_whole(value, written), f"{sign}{'#' if '#' in flags else ''}{verb}")
    if verb == "c":
        return chr(_whole(value, written))
    if verb in tuple("fFeEgG") and not isinstance(value, bool) and isinstance(value, int | float):
        if verb in "gG" and precision is None:
            shown = sign + _float(float(value))
            return shown.upper() if verb == "G" else shown
        return format(value, f"{sign}.{6 if precision is None else precision}{verb}")
    if verb not in tuple("tfFeEgG"):
        raise ValueError(f'printf knows no "{written}"')
    raise ValueError(f"{written} does not show {kind_of(value)}")


def quote(text: str) -> str:
    """As Go writes a text."""
    short = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    parts = []
    for char in text:
        if char in '"\\':
            parts.append(f"\\{char}")
        elif char.isprintable():
            parts.append(char)
        else:
            code = ord(char)
            wide = f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
            parts.append(short.get(char, wide))
    return f'"{"".join(parts)}"'


FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int | None]] = {
    "and": (lambda *values: values[-1], 1, None),
    "or": (lambda *values: values[-1], 1, None),
    "not": (lambda value: not value, 1, 1),
    "eq": (_eq, 2, None),
    "ne": (lambda first, second: not _eq(first, second), 2, 2),
    "lt": (_less, 2, 2),
    "le": (lambda first, second: not _less(second, first), 2, 2),
    "gt": (lambda first, second: _less(second, first), 2, 2),
    "ge": (lambda first, second: not _less(first, second), 2, 2),
    "index": (_index, 1, None),
    "slice": (_slice, 1, 3),
    "len": (_len, 1, 1),
    "print": (_print, 0, None),
    "println": (lambda *values: " ".join(map(show, values)) + "\n", 0, None),
    "printf": (_printf, 1, None),
    "json": (as_json, 1, 1),
    "join": (_join, 2, 2),
    "split": (_split, 2, 2),
    "lower": (lambda text: _text(text, "lower").lower(), 1, 1),
    "upper": (lambda text: _text(text, "upper").upper(), 1, 1),
    "title": (_title, 1, 1),
    "pad": (_pad, 3, 3),
    "truncate": (_truncate, 2, 2),
}
"""By name: the function, and how few and how many arguments it takes. `and` and `or` end early (template_run)."""

OF_HEADERS = ("json", "join", "split", "lower", "upper", "title", "pad", "truncate")
"""Over a table's headers, these give their first argument back, as Docker's do."""
