"""The model as ``config --no-interpolate`` prints it, so that it reads back as the same stack."""

from __future__ import annotations

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.tree import Node


def readable(node: Node) -> Node:
    """Where a list of ``NAME=VALUE`` became a mapping, and a name has a variable in it, it is a list again: in a list that
    is put in, in a mapping's keys nothing is."""
    if isinstance(node.value, list):
        return node.kept([readable(item) for item in node.value])
    if not isinstance(node.value, dict):
        return node
    if any("$" in key and _was_in_a_list(item) for key, item in node.value.items()):
        return node.kept([item.new(_pair(key, item)) for key, item in node.value.items()])
    return node.kept({key: readable(item) for key, item in node.value.items()})


def _was_in_a_list(item: Node) -> bool:
    """Its key is where it is itself (`long_forms.pairs`); so it is after a list and a mapping were merged."""
    return item.key_line > 0 and (item.line, item.column) == (item.key_line, item.key_column)


def _pair(key: str, item: Node) -> str:
    name = key if _was_in_a_list(item) else key.replace("$", "$$")
    return name if item.value is None else f"{name}={go_text(item.value)}"
