"""What the format allows and the runtime does not do: refused where leaving it out could surprise, else a warning.

Which attribute is which stands in the attribute table.
"""

from __future__ import annotations

from orchestrator.compose.attributes import TOP
from orchestrator.compose.diagnostics import Diagnostic
from orchestrator.compose.shapes import Shape, Support
from orchestrator.compose.tree import Node, diagnostic


def unsupported(model: Node) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """(what is refused, what is ignored), each with its place."""
    refused: list[Diagnostic] = []
    ignored: list[Diagnostic] = []
    _walk(model, TOP, "", refused, ignored)
    return refused, ignored


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
        if row.support is Support.YES or not _says_something(item) or item.value in row.harmless:
            _walk(item, row.shape, below, refused, ignored)
        elif row.support is Support.REFUSED:
            refused.append(diagnostic(item, below, "not supported yet", key=True, code="not-supported"))
        else:
            message = "not supported yet, and ignored"
            ignored.append(diagnostic(item, below, message, key=True, code="ignored"))


def _says_something(node: Node) -> bool:
    """Not merely the absence of anything: null, false, and empty text, lists and mappings say nothing."""
    return node.value not in (None, False, "") and node.value != [] and node.value != {}
