"""``!reset`` and ``!override``: what a file takes away from the ones before it.

Both tags remove the place from what is merged so far; ``!reset`` drops its own value too, ``!override`` keeps it. Elements
of lists have no place in what came before: there a tag concerns its own file alone.
"""

from __future__ import annotations

from orchestrator.compose.text.tree import Node, Path


def collect_resets(document: Node) -> tuple[list[Path], Node]:
    """(the tagged places, the document without the values of ``!reset``)."""
    found: list[Path] = []
    cleaned = _collect(document, (), found)
    return found, cleaned if cleaned is not None else document.new({})


def _collect(node: Node, path: Path, found: list[Path]) -> Node | None:
    if node.tag == "!reset":
        found.append(path)
        return None
    if node.tag == "!override":
        found.append(path)
    value = node.value
    if isinstance(value, dict):
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            if not item.tag and not isinstance(item.value, dict | list):
                continue
            kept = _collect(item, (*path, key), found)
            if kept is not item:
                changed = changed if changed is not None else dict(value)
                if kept is None:
                    del changed[key]
                else:
                    changed[key] = kept
        return node if changed is None else node.kept(changed)
    if isinstance(value, list):
        kept_items = [_collect(item, (*path, number), found) for number, item in enumerate(value)]
        items = [item for item in kept_items if item is not None]
        if len(items) != len(value) or any(a is not b for a, b in zip(items, value, strict=True)):
            return node.kept(items)
    return node


def remove(model: Node, places: list[Path]) -> Node:
    """`model` without what stands at `places`."""
    for place in places:
        if place:
            model = _remove(model, place) or model
    return model


def _remove(node: Node, place: Path) -> Node | None:
    step, rest = place[0], place[1:]
    value = node.value
    if isinstance(value, dict) and isinstance(step, str) and step in value:
        if not rest:
            return node.kept({key: item for key, item in value.items() if key != step})
        below = _remove(value[step], rest)
        return None if below is None else node.kept({**value, step: below})
    return None
