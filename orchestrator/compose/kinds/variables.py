"""Variables of a document's values replaced, and text cast to what its place needs.

Keys are never interpolated. A place with a cast (``privileged``, ``replicas``) turns text into a value whether or not a
variable was in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.compose.kinds.shapes import Shape
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.interpolate import InterpolationError, substitute
from orchestrator.compose.text.tree import Node, diagnostic, diagnostic_at


def resolve(
    node: Node,
    shape: Shape | None,
    environment: Mapping[str, str] | None,
    found: list[Diagnostic],
    unset: Callable[[Node, str, str], None],
    path: str = "",
) -> Node:
    """`node` with variables replaced and text cast. `environment` None: neither is done. `unset(node, path, name)` is
    told of each variable that is neither set nor has a default."""
    value = node.value
    if isinstance(value, str):
        return _text(node, value, shape, environment, found, unset, path)
    if isinstance(value, dict):
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            below = shape.at(key) if shape is not None else None
            kind = type(item.value)
            if kind is not str and kind is not dict and kind is not list and not isinstance(item.value, str):
                continue
            resolved = resolve(item, below, environment, found, unset, f"{path}.{key}" if path else key)
            if resolved is not item:
                changed = changed or dict(value)
                changed[key] = resolved
        return node if changed is None else node.kept(changed)
    if isinstance(value, list):
        below = shape.items if shape is not None else None
        items = [resolve(item, below, environment, found, unset, f"{path}[{number}]") for number, item in enumerate(value)]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return node.kept(items)
    return node


def _text(
    node: Node,
    value: str,
    shape: Shape | None,
    environment: Mapping[str, str] | None,
    found: list[Diagnostic],
    unset: Callable[[Node, str, str], None],
    path: str,
) -> Node:
    out: str | bool | int | float | None = value
    if environment is not None and "$" in value:
        try:
            out = substitute(value, environment.get, lambda name: unset(node, path, name))
        except InterpolationError as exc:
            line, column = variable_place(node, value, exc.offset)
            found.append(diagnostic_at(node.source, line, column, path, str(exc), hint=exc.hint))
            return node
    if environment is not None and shape is not None and shape.cast is not None and isinstance(out, str):
        try:
            out = shape.cast(out)
        except ValueError as exc:
            found.append(diagnostic(node, path, str(exc)))
            return node
    if out is value:
        return node
    return node.kept(out)


def variable_place(node: Node, value: str, offset: int) -> tuple[int, int]:
    """Where the text at `offset` of a scalar stands in the file; the scalar's start when it spans lines."""
    line = node.source.line(node.line)
    if line is not None:
        wanted = value[offset : offset + 30].split("\n")[0]
        at = line.find(wanted, node.column - 1)
        if wanted and at >= 0:
            return node.line, at + 1
    return node.line, node.column
