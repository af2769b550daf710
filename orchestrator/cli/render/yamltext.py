"""JSON-like data as YAML that every YAML reader, 1.1 or 1.2, reads back as the same data.

A text is written plain only when no reader could take it for something else; otherwise in double quotes, or as a literal
block when it has several plain lines (yaml.org/spec/1.2.2, sections 7.3.1 and 8.1.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"(?:[A-Za-z_/$]|\./)[A-Za-z0-9_./@=+ ${}?-]*(?::[A-Za-z0-9_./@=+${}?-]+)*")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|m|s|ms|us|ns))+")
_RESERVED = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])


def to_yaml(data: Mapping[str, Any]) -> str:
    """The document, with a last newline."""
    return "\n".join(_mapping(data, "")) + "\n" if data else "{}\n"


def _mapping(data: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in data.items():
        yield from _item(f"{indent}{_scalar(key)}:", value, indent)


def _sequence(data: list[Any], indent: str) -> Iterator[str]:
    for value in data:
        if isinstance(value, dict) and value:
            lines = list(_mapping(value, indent + "  "))
            yield f"{indent}- {lines[0].lstrip(' ')}"
            yield from lines[1:]
        elif isinstance(value, list) and value:
            yield f"{indent}-"
            yield from _sequence(value, indent + "  ")
        else:
            yield from _item(f"{indent}-", value, indent)


def _item(head: str, value: Any, indent: str) -> Iterator[str]:
    """`value` behind `head` (``key:`` or ``-``)."""
    if isinstance(value, dict) and value:
        yield head
        yield from _mapping(value, indent + "  ")
    elif isinstance(value, list) and value:
        yield head
        yield from _sequence(value, indent + "  ")
    elif isinstance(value, str) and _is_block(value):
        yield f"{head} |" + ("" if value.endswith("\n") else "-")
        yield from (f"{indent}  {line}" if line else "" for line in value.removesuffix("\n").split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _is_block(text: str) -> bool:
    lines = text.removesuffix("\n").split("\n")
    readable = all(line.isprintable() and not line.endswith(" ") for line in lines)
    return len(lines) > 1 and readable and lines[0][:1] not in ("", " ") and lines[-1] != ""


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) is not None and not value.endswith(" ") and value.lower() not in _RESERVED
        return value if plain or _DURATION.fullmatch(value) else f'"{"".join(map(_quoted, value))}"'
    text = json.dumps(value)
    # YAML 1.1 has no float without a point.
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "." not in text else text


def _quoted(character: str) -> str:
    """Within double quotes (yaml.org/spec/1.2.2, section 5.7)."""
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    if character == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
