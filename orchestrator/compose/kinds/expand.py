"""Short forms to long ones, by the table: ``8080:80`` to ``{published: "8080", target: 80}``, and so on.

With interpolation off, text that holds a variable is left as it is. The forms are in `long_forms` and `short_forms`.
"""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import JSON, Shape, Spread
from orchestrator.compose.text.diagnostics import Diagnostic, Related
from orchestrator.compose.text.tree import Node, diagnostic

MAX_SPREAD = 65_535
"""When the short forms of one list have become so many elements, no further one is read: all ports there are."""


class ExpandError(ValueError):
    """A short form that cannot be read."""

    def __init__(self, message: str, hint: str | None = None, related: tuple[Related, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.related = related


def made(at: Node, value: JSON) -> Node:
    """`value` as nodes, all at the place of `at`."""
    if isinstance(value, dict):
        return at.new({key: _entry(at, item) for key, item in value.items()})
    if isinstance(value, list):
        return at.new([item if isinstance(item, Node) else made(at, item) for item in value])
    return at.new(value)


def _entry(at: Node, item: JSON) -> Node:
    return item if isinstance(item, Node) else made(at, item)


def expand(node: Node, shape: Shape | None, path: str, found: list[Diagnostic], lenient: bool) -> Node:
    """The long form of `node` and everything below it. `lenient` leaves what cannot be read (no interpolation)."""
    if shape is None:
        return node
    if shape.expand is not None:
        try:
            node = shape.expand(node)
        except ExpandError as exc:
            if not lenient:
                found.append(diagnostic(node, path, str(exc), hint=exc.hint, related=exc.related))
            return node
    value = node.value
    if isinstance(value, dict):
        if shape.fields is None and shape.values is None:
            return node
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            below = shape.at(key)
            if below is None:
                continue
            longer = expand(item, below, f"{path}.{key}" if path else key, found, lenient)
            if longer is not item:
                changed = changed or dict(value)
                changed[key] = longer if longer.key_line else longer.under(item)
        return node if changed is None else node.kept(changed)
    if isinstance(value, list) and shape.items is not None:
        if shape.spread is not None:
            spread = _spread(value, shape.spread, path, found, lenient)
            return node if spread is None else node.kept(spread)
        items = [expand(item, shape.items, f"{path}[{n}]", found, lenient) for n, item in enumerate(value)]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return node.kept(items)
    return node


def _spread(value: list[Node], spread: Spread, path: str, found: list[Diagnostic], lenient: bool) -> list[Node] | None:
    """All elements' long forms; None when one cannot be read and that is borne."""
    out: list[Node] = []
    for number, item in enumerate(value):
        if len(out) >= MAX_SPREAD:
            found.append(diagnostic(item, f"{path}[{number}]", f"more than {MAX_SPREAD:,} ports in one service"))
            return out
        try:
            out.extend(spread(item))
        except ExpandError as exc:
            if lenient:
                return None
            else:
                found.append(diagnostic(item, f"{path}[{number}]", str(exc), hint=exc.hint))
    return out
