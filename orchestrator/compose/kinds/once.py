"""Elements of a list that may appear once, and by what they are known."""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import Shape
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.tree import Node


def unique(node: Node, shape: Shape | None) -> Node:
    """`node` with every list thinned: of elements with the same identity the last one stays, at the first one's place."""
    if shape is None:
        return node
    value = node.value
    if isinstance(value, dict):
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            if isinstance(item.value, dict | list):
                thinned = unique(item, shape.at(key))
                if thinned is not item:
                    changed = changed or dict(value)
                    changed[key] = thinned
        return node if changed is None else node.kept(changed)
    if isinstance(value, list) and (shape.same is not None or shape.items is not None):
        return _unique_list(node, value, shape)
    return node


def _unique_list(node: Node, value: list[Node], shape: Shape) -> Node:
    items = [unique(item, shape.items) if isinstance(item.value, dict | list) else item for item in value]
    if shape.same is not None:
        places: dict[str, int] = {}
        kept: list[Node] = []
        for item in items:
            identity = shape.same(item)
            if identity is not None and identity in places:
                kept[places[identity]] = item
                continue
            if identity is not None:
                places[identity] = len(kept)
            kept.append(item)
        items = kept
    if len(items) == len(value) and all(a is b for a, b in zip(items, value, strict=True)):
        return node
    return node.kept(items)


def by_key(item: Node) -> str | None:
    """``KEY=value`` by its key, anything else by its text."""
    return go_text(item.value).split("=", 1)[0] if not isinstance(item.value, dict | list) else None


def by_text(item: Node) -> str | None:
    return go_text(item.value) if not isinstance(item.value, dict | list) else None


def by_path(item: Node) -> str | None:
    """``env_file`` entries by path."""
    path = item.get("path") if isinstance(item.value, dict) else item
    return go_text(path.value) if path is not None else None


def by_config_target(item: Node) -> str | None:
    """``configs`` entries by where they are mounted."""
    return _by_target(item, "")


def by_secret_target(item: Node) -> str | None:
    """``secrets`` entries by where they are mounted."""
    return _by_target(item, "/run/secrets")


def _by_target(item: Node, folder: str) -> str | None:
    if isinstance(item.value, dict):
        target = item.get("target")
        if target is not None:
            return go_text(target.value)
        source = item.get("source")
        return f"{folder}/{go_text(source.value) if source is not None else ''}"
    return f"{folder}/{go_text(item.value)}"


def by_device_target(item: Node) -> str | None:
    """Devices by where they appear in the container."""
    if isinstance(item.value, dict):
        target = item.get("target") or item.get("source")
        return go_text(target.value) if target is not None else None
    parts = go_text(item.value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def by_mount_target(item: Node) -> str | None:
    """Mounts by where they are mounted; what cannot be read has no identity (its error comes later)."""
    if isinstance(item.value, dict):
        target = item.get("target")
        return go_text(target.value) if target is not None else None
    text = go_text(item.value)
    if len(text) <= 2:
        return text or None
    parts = mount_parts(text)
    return parts[0] if len(parts) == 1 else parts[1]


def mount_parts(text: str) -> list[str]:
    """``SOURCE:TARGET:OPTIONS`` at its colons; one letter and a colon are a Windows drive, and no end."""
    parts: list[str] = []
    current = ""
    for char in text:
        if char == ":" and not (len(current) == 1 and current.isalpha()):
            parts.append(current)
            current = ""
        else:
            current += char
    return [*parts, current]


def by_port(item: Node) -> str | None:
    """Long ports by host address, published port (where 80 and "80" differ), target and protocol; short ones by text."""
    if not isinstance(item.value, dict):
        return go_text(item.value)

    def part(key: str, default: str) -> str:
        found = item.get(key)
        return go_text(found.value) if found is not None else default

    published = item.get("published")
    shown = "" if published is None else go_text(published.value)
    if published is not None and not isinstance(published.value, str):
        shown = f"number {shown}"
    return f"{part('host_ip', '0.0.0.0')}:{shown}:{part('target', '')}/{part('protocol', 'tcp')}"
