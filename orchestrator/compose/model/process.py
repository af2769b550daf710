"""What a service says of its process beyond command and user."""

from __future__ import annotations

from orchestrator.compose.kinds.values import go_text, whole_number
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node


def oom_score_adj(read: Reader, node: Node, path: str) -> int | None:
    item = node.get("oom_score_adj")
    if item is None or item.value in (None, ""):
        return None
    value = read.attempt(item, f"{path}.oom_score_adj", whole_number, 0)
    if not -1000 <= value <= 1000:
        read.error(item, f"{path}.oom_score_adj", "must be between -1000 and 1000")
    return value or None


_RUNTIMES = frozenset(("runc", "io.containerd.runc.v2", "pystack"))
"""The default of Docker, which a stack may well write down, and ours."""


def check_runtime(read: Reader, node: Node, path: str) -> None:
    item, name = node.get("runtime"), read.text(node, "runtime")
    if item is not None and name is not None and name not in _RUNTIMES:
        message = f'there is no runtime "{name}": pystack runs all containers itself'
        read.error(item, f"{path}.runtime", message, "leave it out, or write runtime: runc")


def group_add(read: Reader, node: Node, path: str) -> tuple[str, ...]:
    """Names and numbers; which names there are, the image says."""
    found = []
    for number, item in enumerate(read.each(node, "group_add")):
        text = go_text(item.value)
        if not text or ":" in text or "\0" in text or text.startswith("-"):
            hint = "write a name of the image's, or a number"
            read.error(item, f"{path}.group_add[{number}]", f'"{text}" is not a group', hint)
        else:
            found.append(text)
    return tuple(found)
