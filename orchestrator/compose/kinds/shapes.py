"""The language the attribute table is written in: what may stand at a place of the format, and what it means there.

A `Shape` says which kinds of values are accepted (the format's schema), how text is cast after interpolation, how two
values merge, which elements of a list count as the same, how short forms become long ones, and how the value is shown in
the canonical model. A `Row` is a named attribute: a shape, whether the runtime implements it, and its documentation line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Any, TypeAlias

from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.scalars import Timestamp
from orchestrator.compose.text.tree import Node, Value
from orchestrator.values import field, frozen, replace

JSON: TypeAlias = Any
"""What json.dumps takes; the canonical model is made of it."""

Cast = Callable[[str], "bool | int | float | str | None"]
Merge = Callable[[Node, Node, "Shape", str, "list[Diagnostic]"], Node]
Identity = Callable[[Node], "str | None"]
Expand = Callable[[Node], Node]
Spread = Callable[[Node], "list[Node]"]
Show = Callable[[Node, "Shape", str, "list[Diagnostic]"], JSON]


class Omit(Enum):
    """Shown by nothing: the key is left out of the canonical model."""

    OMIT = "omit"


OMIT = Omit.OMIT


class Support(Enum):
    """What ``up`` does with an attribute."""

    YES = "yes"
    """The runtime implements it."""
    IGNORED = "ignored"
    """Accepted and without effect here, which cannot surprise: ``up`` warns."""
    REFUSED = "refused"
    """Leaving it out could surprise (isolation, data, security): ``up`` refuses."""


class PathRule(Enum):
    """How the text at a place becomes a path."""

    PLAIN = auto()
    """A path on this machine."""
    CONTEXT = auto()
    """A path, or a URL, which stays as it is: build contexts."""
    NAMED_CONTEXT = auto()
    """As CONTEXT, but also ``service:NAME``: additional contexts."""
    MOUNT = auto()
    """A mapping with ``type: bind`` and a ``source``."""
    VOLUME = auto()
    """A volume with the driver options of a bind mount (``o: bind``, ``device``)."""


@frozen
class Shape:
    """What may stand at one place. `accepts` holds JSON Schema's type names; `fields` are the attributes of a mapping
    with fixed keys, `values` what every key of any other mapping holds, `items` the elements of a list."""

    what: str
    accepts: frozenset[str]
    fields: Mapping[str, Row] | None = None
    values: Shape | None = None
    items: Shape | None = None
    required: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    closed: bool = True
    extensions: bool = True
    key_pattern: re.Pattern[str] | None = None
    unique_items: bool = False
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    minimum: float | None = None
    maximum: float | None = None
    cast: Cast | None = None
    merge: Merge | None = None
    same: Identity | None = None
    expand: Expand | None = None
    spread: Spread | None = None
    default: Expand | None = None
    path: PathRule | None = None
    show: Show | None = None

    def at(self, key: str) -> Shape | None:
        """The shape under `key` of a mapping, or None where anything goes (``x-`` keys, unknown keys)."""
        if self.fields is not None:
            row = self.fields.get(key)
            if row is not None:
                return row.shape
            if self.extensions and key.startswith("x-"):
                return None
        return self.values

    def with_(self, **changes: Any) -> Shape:
        return replace(self, **changes)


@frozen
class Row:
    """One attribute. `doc` is its line in docs/compose.md; `note` says more (why it is refused, what we do beyond)."""

    name: str
    shape: Shape
    doc: str
    support: Support = Support.YES
    note: str = ""
    default: JSON = field(default=OMIT)
    """What the canonical model shows when the attribute is absent."""
    harmless: tuple[str, ...] = ("false", "0")
    """Scalars, as text, that ask for nothing beyond what happens anyway: ``privileged: false``, ``scale: 1``."""


def kind_of(value: Value) -> str:
    """JSON Schema's name for the type of `value`."""
    if isinstance(value, str):
        return "timestamp" if isinstance(value, Timestamp) else "string"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    return "list" if isinstance(value, list) else "mapping"


KIND_WORDS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "list": "a list",
    "mapping": "a mapping",
    "timestamp": "a timestamp",
}


def describe(value: Value) -> str:
    """What `value` is, for a message: ``a list``, ``the number 3``."""
    kind = kind_of(value)
    if kind in ("integer", "number"):
        return f"the number {value:g}" if isinstance(value, float) else f"the number {value}"
    if kind == "boolean":
        return "true" if value else "false"
    if value == "":
        return "an empty string"
    return KIND_WORDS[kind]


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def hardened(node: Node) -> object:
    """A hashable stand-in for the value, for comparisons; 1 and true differ, 1 and 1.0 do not."""
    value = node.value
    if isinstance(value, dict):
        return ("mapping", frozenset((key, hardened(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(hardened(item) for item in value))
    return (isinstance(value, bool), isinstance(value, str), value)


def rows(entries: Iterable[Row]) -> dict[str, Row]:
    """The rows by name."""
    return {row.name: row for row in entries}
