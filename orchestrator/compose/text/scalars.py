"""What a plain YAML scalar means: the YAML 1.2 core schema, as go.yaml.in reads it.

``yes``, ``on`` and ``22:22`` are strings; ``010``, ``0o10`` and ``0x8`` are 8; ``1_000`` is 1000; ``1e3`` is a float; a
date is a `Timestamp`, which is a string everywhere except under ``x-`` keys. Source: yaml.org/spec/1.2.2, section
10.3.2, and measured behaviour.
"""

from __future__ import annotations

import base64
import binascii
import math
import re

_PREFIX = "tag:yaml.org,2002:"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SPECIAL = {
    ".inf": math.inf,
    ".Inf": math.inf,
    ".INF": math.inf,
    "+.inf": math.inf,
    "+.Inf": math.inf,
    "+.INF": math.inf,
    "-.inf": -math.inf,
    "-.Inf": -math.inf,
    "-.INF": -math.inf,
    ".nan": math.nan,
    ".NaN": math.nan,
    ".NAN": math.nan,
}
_FIRST = frozenset("0123456789+-.~tTfFnN")
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(\.[0-9]*)?(?:[ \t]*(Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)?"
)
MAX_INT = 2**64


class Timestamp(str):
    """A plain scalar that YAML calls a timestamp, as RFC 3339 text."""

    __slots__ = ()

    def go_text(self) -> str:
        """As Go prints it: ``2020-01-01 00:00:00 +0000 UTC``."""
        clock, zone = (self[:-1], "Z") if self.endswith("Z") else (self[:-6], self[-6:])
        shown = "+0000 UTC" if zone == "Z" else f"{zone[:3]}{zone[4:]} {zone[:3]}{zone[4:]}"
        return f"{clock.replace('T', ' ')} {shown}"


def resolve_plain(text: str) -> bool | int | float | str | None:
    """The value of an untagged plain scalar."""
    if not text:
        return None
    if text[0] not in _FIRST:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if text in _SPECIAL:
        return _SPECIAL[text]
    number = _number(text)
    if number is not None:
        return number
    if text[0].isdigit() and "-" in text and (match := _TIME.fullmatch(text)) is not None:
        return _timestamp(match) or text
    return text


def _number(text: str) -> int | float | None:
    digits = text.replace("_", "") if "_" in text and text[0] != "_" else text
    if _INT.fullmatch(digits):
        sign = -1 if digits[0] == "-" else 1
        body = digits.lstrip("+-").lower()
        if body.startswith("0x"):
            value = int(body, 16)
        elif body.startswith("0b"):
            value = int(body, 2)
        elif body.startswith("0") and len(body) > 1:
            value = int(body.removeprefix("0o") if body.startswith("0o") else body, 8)
        elif len(body) > 30:
            return _finite(digits)
        else:
            value = int(body)
        if value < MAX_INT:
            return sign * value if value or sign > 0 else -0.0
        return _finite(digits)
    if _FLOAT.fullmatch(digits):
        return _finite(digits)
    return None


def _finite(digits: str) -> float | None:
    try:
        value = float(digits)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _timestamp(match: re.Match[str]) -> Timestamp | None:
    year, month, day = (int(match[n]) for n in (1, 2, 3))
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    if match[4] is None:
        return Timestamp(f"{year:04d}-{month:02d}-{day:02d}T00:00:00Z")
    fraction = (match[7] or "").rstrip("0").rstrip(".")
    zone = match[8] or "Z"
    if zone != "Z":
        hours, _, minutes = zone[1:].partition(":")
        zone = "Z" if not int(hours) and not int(minutes or 0) else f"{zone[0]}{int(hours):02d}:{int(minutes or 0):02d}"
    clock = f"{int(match[4]):02d}:{match[5]}:{match[6]}"
    return Timestamp(f"{year:04d}-{month:02d}-{day:02d}T{clock}{fraction}{zone}")


def construct(tag: str, text: str) -> bool | int | float | str | None:
    """The value of a scalar with an explicit tag; unknown tags leave the text. Raises ValueError when it cannot be."""
    if not tag.startswith(_PREFIX):
        return text
    name = tag.removeprefix(_PREFIX)
    if name == "binary":
        try:
            return base64.b64decode(text, validate=False).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            raise ValueError("the text of a !!binary value is not base64") from None
    value = resolve_plain(text)
    kinds: dict[str, tuple[type, ...]] = {
        "null": (type(None),),
        "bool": (bool,),
        "int": (int,),
        "float": (float, int),
        "timestamp": (Timestamp,),
    }
    wanted = kinds.get(name)
    if wanted is None:
        return text
    if isinstance(value, wanted) and not (isinstance(value, bool) and name in ("int", "float")):
        return value
    raise ValueError(f'"{text}" is not a !!{name}')
