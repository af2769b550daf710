"""What the format allows and the runtime does not do: refused where leaving it out could surprise, else a warning.

Which attribute is which stands in the attribute table.
"""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import Row, Shape, Support
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.schema.attributes import TOP
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic


def unsupported(model: Node) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """(what is refused, what is ignored), each with its place."""
    refused: list[Diagnostic] = []
    ignored: list[Diagnostic] = []
    _walk(model, TOP, "", refused, ignored)
    return _once(refused), _once(ignored)


def _once(found: list[Diagnostic]) -> list[Diagnostic]:
    """What containers that run before a service take from it is said of the service alone."""
    shortest: dict[tuple[str, int, int], Diagnostic] = {}
    for item in found:
        place = item.file, item.line, item.column
        if place not in shortest or len(item.path) < len(shortest[place].path):
            shortest[place] = item
    return [item for item in found if shortest[item.file, item.line, item.column] is item]


def _walk(node: Node, shape: Shape | None, path: str, refused: list[Diagnostic], ignored: list[Diagnostic]) -> None:
    if shape is None:
        return
    value = node.value
    if isinstance(value, list) and shape.items is not None:
        for number, item in enumerate(value):
            _walk(item, shape.items, f"{path}[{number}]", refused, ignored)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        below = f"{path}.{key}" if path else key
        row = shape.fields.get(key) if shape.fields is not None else None
        if row is None:
            _walk(item, shape.at(key), below, refused, ignored)
            continue
        if row.support is Support.YES or not _asks_for_something(item, row):
            _walk(item, row.shape, below, refused, ignored)
        elif row.support is Support.REFUSED:
            refused.append(diagnostic(item, below, f"not supported yet{_note(row)}", key=True, code="not-supported"))
        else:
            message = f"not supported yet, and ignored{_note(row)}"
            ignored.append(diagnostic(item, below, message, key=True, code="ignored"))


def _note(row: Row) -> str:
    return f" ({row.note})" if row.note else ""


def _asks_for_something(node: Node, row: Row) -> bool:
    """Whether leaving it out changes anything: what is empty, and the row's harmless values, do not."""
    value = node.value
    if isinstance(value, dict | list):
        return bool(value)
    return go_text(value) not in ("", *row.harmless)
