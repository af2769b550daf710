"""The building blocks of the attribute table: kinds of values that many attributes share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from orchestrator.compose.kinds import expand, long_forms, merging, once, values
from orchestrator.compose.kinds.shapes import JSON, OMIT, Row, Shape, Support, rows
from orchestrator.compose.text.tree import diagnostic

NAME_PATTERN = re.compile(r"^[a-zA-Z0-9._-]+$")
_ANY_KEY = re.compile(r".+")


def _shape(what: str, accepts: str, **more: Any) -> Shape:
    return Shape(what, frozenset(accepts.split()), **more)


TEXT = _shape("text", "string", show=values.show_text)
"""A string; empty and absent are the same."""
ITEM = _shape("text", "string", show=values.show_any_text)
"""A string that stays when it is empty: an element of a list."""
NULL_TEXT = _shape("text or null", "string null", show=values.show_text)
ANY_TEXT = _shape("text", "string number", show=values.show_any_text)
FLAG = _shape("true or false", "boolean string", cast=values.cast_bool, show=values.show_flag)
BOOL = _shape("true or false", "boolean", show=values.show_flag)
"""A flag that text cannot stand for."""
EITHER = FLAG.with_(show=values.show_either)
"""A flag where false differs from absent."""
INT = _shape("a whole number", "integer string", cast=values.cast_int, show=values.show_int)
COUNT = INT.with_(show=values.show_count)
"""A whole number where 0 differs from absent."""
ORDER = _shape("a number", "number", show=values.show_int)
"""A number that text cannot stand for, not even through a variable."""
WEIGHT = INT.with_(cast=None, show=values.show_strict_int)
WHOLE = _shape("a whole number", "number string", cast=values.cast_int, show=values.show_int)
REAL = _shape("a number", "number string", cast=values.cast_float, show=values.show_float)
CPUS = REAL.with_(what="a number of CPUs", show=values.show_float32)
NATURAL = _shape("a whole number", "integer string", cast=values.cast_int, show=values.show_natural)
"""As COUNT, but not negative."""
BYTES = _shape("a size", "number string", show=values.show_bytes)
DURATION = _shape("a duration", "string", show=values.show_duration)
MODE = _shape("a file mode", "number string", show=values.show_text)
COMMAND = _shape("a command", "null string list", items=ITEM, merge=merging.replace, show=values.show_command)


def choice(*choices: str) -> Shape:
    return TEXT.with_(choices=choices)


def list_of(items: Shape, what: str = "a list", *, unique: bool = False, **more: Any) -> Shape:
    return _shape(what, "list", items=items, unique_items=unique, show=values.show_list, **more)


def object_of(what: str, fields: Iterable[Row], *, accepts: str = "mapping", **more: Any) -> Shape:
    """A mapping with fixed keys (and ``x-`` ones)."""
    more.setdefault("show", values.show_object if "null" not in accepts and "string" not in accepts else None)
    return _shape(what, accepts, fields=rows(fields), **more)


def map_of(value: Shape, what: str = "a mapping", **more: Any) -> Shape:
    """A mapping with free keys."""
    more.setdefault("show", values.show_map)
    return _shape(what, "mapping", values=value, **more)


def by_name(value: Shape, what: str, **more: Any) -> Shape:
    """A mapping of names to things."""
    return map_of(value, what, key_pattern=NAME_PATTERN, **more)


STRINGS = list_of(ITEM, "a list of strings")
UNIQUE_STRINGS = list_of(ITEM, "a list of strings", unique=True)
KEYED_STRINGS = UNIQUE_STRINGS.with_(same=once.by_key)
STRING_OR_LIST = _shape(
    "a string or a list of strings",
    "string list",
    items=ITEM,
    unique_items=True,
    merge=merging.append,
    same=once.by_key,
    show=values.show_list,
)

_SCALAR = _shape(
    "a string, a number, true, false or null", "string number boolean null timestamp", show=values.show_any_text
)


def pairs(what: str, *, null: bool = False, **more: Any) -> Shape:
    """``KEY: value`` or a list of ``KEY=value``. `null`: a key without a value shows as null, not as an empty text."""
    value = _SCALAR.with_(show=values.show_null_text) if null else _SCALAR
    more.setdefault("merge", merging.append)
    return _shape(
        what,
        "mapping list",
        values=value,
        items=ITEM,
        unique_items=True,
        key_pattern=_ANY_KEY,
        same=once.by_key,
        expand=None,
        show=_show_pairs,
        **more,
    )


def _show_pairs(node: Any, shape: Shape, path: str, found: Any) -> JSON:
    return values.show_map(long_forms.pairs(node), shape, path, found)


LABELS = pairs("labels")
ENVIRONMENT = pairs("environment variables", null=True).with_(expand=long_forms.variables)

_HOST = _shape("an address or a list of addresses", "string list", items=ITEM)


def _show_hosts(node: Any, shape: Shape, path: str, found: Any) -> JSON:
    try:
        found_pairs = long_forms.host_pairs(node)
    except expand.ExpandError as exc:
        found.append(diagnostic(node, path, str(exc), hint=exc.hint))
        return OMIT
    return sorted(f"{host}={address}" for host, address in found_pairs) if node.value else OMIT


HOSTS = _shape(
    "host names",
    "mapping list",
    values=_HOST,
    items=ITEM,
    unique_items=True,
    key_pattern=_ANY_KEY,
    merge=merging.append_new,
    show=_show_hosts,
)

OPTIONS = map_of(_shape("text", "string number", show=values.show_any_text), "driver options")
OPTIONS_OR_NULL = map_of(_shape("text", "string number null", show=values.show_any_text), "driver options")

__all__ = [
    "ANY_TEXT",
    "BOOL",
    "BYTES",
    "COMMAND",
    "COUNT",
    "CPUS",
    "DURATION",
    "EITHER",
    "ENVIRONMENT",
    "FLAG",
    "HOSTS",
    "INT",
    "ITEM",
    "KEYED_STRINGS",
    "LABELS",
    "MODE",
    "NAME_PATTERN",
    "NATURAL",
    "NULL_TEXT",
    "OPTIONS",
    "OPTIONS_OR_NULL",
    "ORDER",
    "REAL",
    "STRINGS",
    "STRING_OR_LIST",
    "TEXT",
    "UNIQUE_STRINGS",
    "WEIGHT",
    "WHOLE",
    "Row",
    "Support",
    "by_name",
    "choice",
    "list_of",
    "map_of",
    "object_of",
    "pairs",
]
