"""``x-pystack.hooks`` of a stack (docs/hooks.md)."""

from __future__ import annotations

from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node
from orchestrator.model.host_hooks import HostHooks


def host_hooks(read: Reader, model: Node) -> HostHooks:
    """What is of another shape has been told with the rest of x-pystack, and is left out."""
    own = model.get("x-pystack")
    written = own.get("hooks") if own is not None and isinstance(own.value, dict) else None
    if written is None or not isinstance(written.value, dict):
        return HostHooks()
    return HostHooks(*(_commands(read, written, key) for key in ("before_up", "after_up", "before_down")))


def _commands(read: Reader, written: Node, key: str) -> tuple[str, ...]:
    node = written.get(key)
    if node is None:
        return ()
    several = isinstance(node.value, list)
    found = []
    for number, item in enumerate(node.elements() if several else [node]):
        place = f"x-pystack.hooks.{key}[{number}]"
        read.mark(item, place)
        if isinstance(item.value, str):
            if item.value.strip():
                found.append(item.value)
            else:
                read.error(item, place, "is empty")
    return tuple(found)
