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

from orchestrator.compose.text.diagnostics import Diagnostic, nearest
from orchestrator.compose.text.scalars import Timestamp
from orchestrator.compose.text.tree import Node, Value, diagnostic, place_of
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


_WORDS = {
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
    return _WORDS[kind]


def _wanted(shape: Shape) -> str:
    accepts = shape.accepts
    order = [k for k in _WORDS if k in accepts and k != "timestamp" and not (k == "integer" and "number" in accepts)]
    return " or ".join(_WORDS[k] for k in order)


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


MAX_FOUND = 1_000
"""With so many findings, looking for further ones helps nobody."""


def check(node: Node, shape: Shape, path: str, found: list[Diagnostic], limit: int = MAX_FOUND) -> None:
    """Add to `found` whatever in `node` is not of `shape` (the format's schema, with places), until there are `limit`."""
    if len(found) >= limit:
        return
    value = node.value
    kind = kind_of(value)
    accepts = shape.accepts
    if kind not in accepts and not (kind == "integer" and "number" in accepts):
        message = f"must be {_wanted(shape)}, not {describe(value)}"
        hint = None
        if kind in ("integer", "number", "boolean", "timestamp") and accepts & {"string"}:
            hint = "put the value in quotes"
        elif kind == "null" and "mapping" in accepts:
            hint = "nothing is indented below this key"
        found.append(diagnostic(node, path, message, hint=hint, key=kind == "null"))
        return
    if isinstance(value, dict):
        _check_mapping(node, value, shape, path, found, limit)
    elif isinstance(value, list):
        _check_list(value, shape, path, found, limit)
    elif kind == "string":
        _check_text(node, str(value), shape, path, found)
    elif isinstance(value, int | float) and kind != "boolean":
        if shape.minimum is not None and value < shape.minimum:
            found.append(diagnostic(node, path, f"must be at least {shape.minimum:g}"))
        if shape.maximum is not None and value > shape.maximum:
            found.append(diagnostic(node, path, f"must be at most {shape.maximum:g}"))


def prune(node: Node, shape: Shape | None) -> Node | None:
    """`node` without whatever is not of `shape`, so that the phases to come can look for further errors; None when nothing
    is left of it."""
    if shape is None:
        return node
    found: list[Diagnostic] = []
    check(node, shape, "", found, 1)
    if not found:
        return node
    value = node.value
    below: dict[str, Node] | list[Node]
    if isinstance(value, dict):
        below = {}
        for key, item in value.items():
            if shape.fields is not None and key not in shape.fields and shape.values is None and not key.startswith("x-"):
                continue
            kept = prune(item, shape.at(key))
            if kept is not None:
                below[key] = kept
    elif isinstance(value, list):
        below = [kept for item in value if (kept := prune(item, shape.items)) is not None]
    else:
        return None
    out = node.kept(below)
    found = []
    check(out, shape, "", found, 1)
    return out if not found else None


def _check_text(node: Node, text: str, shape: Shape, path: str, found: list[Diagnostic]) -> None:
    if shape.choices and text not in shape.choices:
        choices = ", ".join(shape.choices)
        near = nearest(text, shape.choices, found)
        found.append(diagnostic(node, path, f'"{text}" is not one of {choices}{near}'))
    elif shape.pattern is not None and shape.pattern.search(text) is None:
        found.append(diagnostic(node, path, f'"{text}" is not {shape.what}'))


def _check_mapping(
    node: Node, value: dict[str, Node], shape: Shape, path: str, found: list[Diagnostic], limit: int
) -> None:
    fields = shape.fields
    if fields is None and shape.values is None:
        return
    pattern = shape.key_pattern
    for key, item in value.items():
        if len(found) >= limit:
            return
        if fields is not None:
            row = fields.get(key)
            if row is not None:
                check(item, row.shape, f"{path}.{key}" if path else key, found, limit)
                continue
            if shape.extensions and key.startswith("x-"):
                continue
            if shape.values is None:
                if shape.closed:
                    near = nearest(key, fields, found)
                    hint = None if near else _moved_hint(key)
                    found.append(
                        diagnostic(item, path, f'"{key}" is not an attribute of {shape.what}{near}', hint=hint, key=True)
                    )
                continue
        if pattern is not None and pattern.search(key) is None:
            if shape.closed:
                hint = "use letters, digits, dots, dashes and underscores" if "a-zA-Z0-9" in pattern.pattern else None
                found.append(diagnostic(item, path, f'"{key}" is not a valid name', hint=hint, key=True))
            continue
        assert shape.values is not None
        check(item, shape.values, f"{path}.{key}" if path else key, found, limit)
    for name in shape.required:
        if name not in value:
            found.append(diagnostic(node, path, f'"{name}" is missing from {shape.what}', key=True))
    if shape.any_of and not any(name in value for name in shape.any_of):
        found.append(diagnostic(node, path, f"{shape.what} needs one of {', '.join(shape.any_of)}", key=True))


_MOVED = {
    "dockerfile": "it belongs under build:",
    "log_driver": "it is logging.driver now",
    "log_opt": "it is logging.options now",
    "net": "it is network_mode now",
    "volume_driver": "it is the volume's driver now",
    "replicas": "it belongs under deploy:",
    "resources": "it belongs under deploy:",
    "restart_policy": "it belongs under deploy:, or write restart:",
}


def _moved_hint(key: str) -> str | None:
    return _MOVED.get(key)


def _check_list(value: list[Node], shape: Shape, path: str, found: list[Diagnostic], limit: int) -> None:
    if shape.items is None:
        return
    for number, item in enumerate(value):
        check(item, shape.items, f"{path}[{number}]", found, limit)
    if shape.unique_items and len(value) > 1:
        seen: dict[object, int] = {}
        for number, item in enumerate(value):
            key = hardened(item)
            if key in seen:
                message = f"is the same as element {seen[key]}; each may appear once"
                related = (place_of(value[seen[key]], f"element {seen[key]}"),)
                found.append(diagnostic(item, f"{path}[{number}]", message, related=related))
            else:
                seen[key] = number


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
