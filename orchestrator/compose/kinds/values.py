"""Casts and shows: text to values after interpolation, and values to what the canonical model holds.

A cast takes text and raises ValueError when the text is no such value. A show takes a node of the long form and gives
JSON or OMIT; what it cannot read it adds to the findings.
"""

from __future__ import annotations

import math
import struct
from decimal import Decimal

from orchestrator.compose.kinds.shapes import JSON, OMIT, Shape, describe, join
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.scalars import Timestamp
from orchestrator.compose.text.shell import ShellError, split
from orchestrator.compose.text.tree import Node, diagnostic, plain
from orchestrator.units import format_duration_go, parse_bytes, parse_duration_ns

Found = list[Diagnostic]

_TRUE = frozenset(("true", "y", "yes", "on"))
_FALSE = frozenset(("false", "n", "no", "off"))
MAX_INT = 2**63 - 1
"""Of the format: its numbers have 64 bits."""


# Casts


def cast_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f'"{text}" is not true or false')


def cast_int(text: str) -> int:
    body = text[1:] if text[:1] in ("+", "-") else text
    if not (body.isascii() and body.isdecimal()) or abs(int(body)) > MAX_INT:
        raise ValueError(f'"{text}" is not a whole number')
    return int(text)


def cast_float(text: str) -> float:
    try:
        if "_" in text or text != text.strip():
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a number') from None


# Shows


def go_text(value: object) -> str:
    """A scalar as Go's ``%v`` prints it: ``1.5``, ``1e+06``, ``true``; null is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _go_float(value)
    if isinstance(value, Timestamp):
        return value.go_text()
    return str(value)


def _go_float(value: float) -> str:
    """``%v`` of a float64: the shortest digits that read back, an exponent below -4 and from 6 on; NaN, +Inf, -Inf."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    _, figures, exponent = Decimal(repr(value)).as_tuple()
    digits = "".join(map(str, figures)).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "-0" if math.copysign(1, value) < 0 else "0"
    assert isinstance(exponent, int)
    power = exponent + len(digits) - 1
    sign = "-" if value < 0 else ""
    if not -4 <= power < 6:
        tail = f".{stripped[1:]}" if len(stripped) > 1 else ""
        return f"{sign}{stripped[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return sign + format(abs(Decimal(repr(value))), "f").removesuffix(".0")


def show(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """What the canonical model holds for `node`, by its shape."""
    if shape.show is not None:
        return shape.show(node, shape, path, found)
    if isinstance(node.value, dict):
        return show_object(node, shape, path, found) if shape.fields is not None else show_map(node, shape, path, found)
    if isinstance(node.value, list):
        return show_list(node, shape, path, found)
    return OMIT if node.value is None else plain(node)


def show_text(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A string that is left out when empty."""
    text = go_text(node.value)
    return text or OMIT


def show_any_text(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A scalar as text, empty for null: the values of labels and other string maps, elements of lists."""
    return go_text(node.value)


def show_null_text(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A scalar as text, or null: the values of ``environment`` and ``args``."""
    return None if node.value is None else go_text(node.value)


def _flag(node: Node, path: str, found: Found) -> bool | None:
    value = node.value
    if isinstance(value, str):
        try:
            return cast_bool(value) if value else False
        except ValueError as exc:
            found.append(diagnostic(node, path, str(exc)))
            return None
    return None if value is None else bool(value)


def show_flag(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """True, or left out."""
    return True if _flag(node, path, found) else OMIT


def show_either(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """True or false, where false differs from absent (``init``, ``attach``)."""
    value = _flag(node, path, found)
    return OMIT if value is None else value


def _number(node: Node, path: str, found: Found, cast: type[int] | type[float]) -> int | float | None:
    value = node.value
    if isinstance(value, str):
        try:
            return cast_int(value) if cast is int else cast_float(value)
        except ValueError as exc:
            found.append(diagnostic(node, path, str(exc)))
            return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if cast is int and isinstance(value, float):
            return int(value)
        return value
    return None


def _tidy(value: int | float | None) -> int | float | None:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def show_int(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A whole number, left out when 0."""
    return _number(node, path, found, int) or OMIT


def show_count(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A whole number, where 0 differs from absent (``scale``)."""
    value = _number(node, path, found, int)
    return OMIT if value is None else value


def show_strict_int(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A whole number, left out when 0, that text does not stand for."""
    if isinstance(node.value, str):
        found.append(diagnostic(node, path, "must be a whole number, not a string", hint="leave the quotes out"))
        return OMIT
    return show_int(node, shape, path, found)


def show_float(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A number, left out when 0."""
    return _tidy(_number(node, path, found, float)) or OMIT


def show_float32(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A number in single precision (the shortest digits that read back), left out when 0: CPUs."""
    value = _number(node, path, found, float)
    if not value:
        return OMIT
    packed = struct.pack("f", value)
    single = struct.unpack("f", packed)[0]
    candidates = (float(f"{single:.{digits}g}") for digits in range(1, 18))
    return _tidy(next(text for text in candidates if struct.pack("f", text) == packed))


def show_natural(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A whole number that is not negative, where 0 differs from absent."""
    value = _number(node, path, found, int)
    if value is not None and value < 0:
        found.append(diagnostic(node, path, "must not be negative"))
    return OMIT if value is None else value


def whole_number(node: Node) -> int:
    """A whole number of 64 bits, or its text. Raises ValueError."""
    value = node.value
    if isinstance(value, str):
        return cast_int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > MAX_INT:
        raise ValueError(f"must be a whole number of 64 bits, not {describe(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"must be a whole number, not {describe(value)}")
    return int(value)


def byte_size(node: Node) -> int:
    """The size in bytes of a number or of text (``64m``); ``-1`` stays. Raises ValueError."""
    value = node.value
    if isinstance(value, str):
        return -1 if value == "-1" else parse_bytes(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value != value or abs(value) > MAX_INT:
            raise ValueError(f"{describe(value)} is too large a size")
        return int(value)
    raise ValueError(f"must be a size, not {describe(value)}")


def show_bytes(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A byte size, as text; left out when 0 (and when it is a fraction: Docker Compose reads none)."""
    if isinstance(node.value, float):
        return OMIT
    try:
        size = byte_size(node)
    except ValueError as exc:
        found.append(diagnostic(node, path, str(exc)))
        return OMIT
    return str(size) if size else OMIT


def duration_ns(node: Node) -> int | None:
    """The duration in nanoseconds; None for null. Raises ValueError."""
    if node.value is None:
        return None
    if isinstance(node.value, str):
        return parse_duration_ns(node.value)
    raise ValueError(f"must be a duration such as 30s, not {describe(node.value)}")


def show_duration(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A duration as Go prints it; 0s stays (it differs from absent)."""
    try:
        value = duration_ns(node)
    except ValueError as exc:
        found.append(diagnostic(node, path, str(exc)))
        return OMIT
    return OMIT if value is None else format_duration_go(value)


def show_set_duration(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A duration, left out when 0s."""
    shown = show_duration(node, shape, path, found)
    return OMIT if shown == "0s" else shown


def show_object(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A mapping with fixed keys, in the order of the table; extensions do not show."""
    fields = shape.fields
    if not isinstance(node.value, dict) or fields is None:
        return OMIT if node.value is None else plain(node)
    out: dict[str, JSON] = {}
    entries = node.value
    for name, row in fields.items():
        item = entries.get(name)
        value = show(item, row.shape, f"{path}.{name}" if path else name, found) if item is not None else OMIT
        if value is OMIT:
            value = row.default
        if value is not OMIT:
            out[name] = value
    return out


def show_thing(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A network or a volume: null is one without attributes."""
    return show_object(node.new({}) if node.value is None else node, shape, path, found)


def show_map(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A mapping with free keys, sorted; left out when empty."""
    if not isinstance(node.value, dict) or not node.value:
        return OMIT
    values = shape.values
    out: dict[str, JSON] = {}
    for key, item in sorted(node.value.items()):
        value = show(item, values, join(path, key), found) if values is not None else plain(item)
        if value is not OMIT:
            out[key] = value
    return out


def show_list(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A list; left out when empty. A lone string is a list of one."""
    if isinstance(node.value, str):
        return [node.value]
    if not isinstance(node.value, list) or not node.value:
        return OMIT
    items = shape.items
    if items is None:
        return [plain(item) for item in node.value]
    shown = [show(item, items, f"{path}[{number}]", found) for number, item in enumerate(node.value)]
    return ["" if item is OMIT else item for item in shown]


def show_command(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A command as a list of words; text is split as a shell would, null stays null."""
    words = command_words(node, path, found)
    return None if words is None else words


def command_words(node: Node, path: str, found: Found) -> list[str] | None:
    """The words of a command; None for null."""
    if node.value is None:
        return None
    if isinstance(node.value, str):
        try:
            return split(node.value)
        except ShellError as exc:
            found.append(diagnostic(node, path, str(exc), hint="write the command as a list of words"))
            return []
    return [go_text(item.value) for item in node.elements()]


def show_health_test(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """``test`` as a list; text means CMD-SHELL."""
    if isinstance(node.value, str):
        return ["CMD-SHELL", node.value]
    return show_list(node, shape, path, found)


def show_opt_out(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A flag that is true unless said otherwise: only false shows."""
    return False if _flag(node, path, found) is False else OMIT


def show_octal(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A file mode as a number."""
    if isinstance(node.value, str):
        found.append(diagnostic(node, path, "must be a number, not a string", hint="leave the quotes out: mode: 0755"))
        return OMIT
    if isinstance(node.value, int | float) and node.value < 0:
        found.append(diagnostic(node, path, "must not be negative"))
    return plain(node) or OMIT
