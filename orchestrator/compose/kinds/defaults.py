"""What the format sets where a stack says nothing, once all files are merged."""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import Shape
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.tree import Node


def secret_mount(node: Node) -> Node:
    """Secrets are mounted below /run/secrets unless they say where."""
    if not isinstance(node.value, dict) or "target" in node.value:
        return node
    source = node.value.get("source")
    name = go_text(source.value) if source is not None else ""
    return node.kept({**node.value, "target": node.new(f"/run/secrets/{name}")})


def port_defaults(node: Node) -> Node:
    """Published with ``mode: ingress`` and over TCP unless it says otherwise."""
    if not isinstance(node.value, dict):
        return node
    missing = {k: node.new(v) for k, v in (("mode", "ingress"), ("protocol", "tcp")) if k not in node.value}
    return node.kept({**node.value, **missing}) if missing else node


def build_context(node: Node) -> Node:
    """The context is the project's folder unless it says otherwise."""
    if not isinstance(node.value, dict) or "context" in node.value:
        return node
    return node.kept({**node.value, "context": node.new(".")})


def device_request(node: Node) -> Node:
    """All devices unless it says how many or which."""
    if not isinstance(node.value, dict) or "count" in node.value or "device_ids" in node.value:
        return node
    return node.kept({**node.value, "count": node.new("all")})


def with_defaults(node: Node, shape: Shape | None) -> Node:
    """`node` with the defaults of its shape and of all below it."""
    if shape is None:
        return node
    if shape.default is not None:
        node = shape.default(node)
    value = node.value
    if isinstance(value, dict):
        if shape.fields is None and shape.values is None:
            return node
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            if isinstance(item.value, dict | list):
                full = with_defaults(item, shape.at(key))
                if full is not item:
                    changed = changed or dict(value)
                    changed[key] = full
        return node if changed is None else node.kept(changed)
    if isinstance(value, list) and shape.items is not None:
        items = [with_defaults(item, shape.items) for item in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return node.kept(items)
    return node
