"""How some parts of the canonical model show: the few that are not simply text, numbers, lists and mappings."""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import JSON, OMIT, Shape
from orchestrator.compose.kinds.values import cast_int, go_text, show_int, show_object
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic, plain

Found = list[Diagnostic]


def show_mode(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """Permission bits as octal text: ``0440``; text is read as octal already."""
    value = node.value
    if isinstance(value, str):
        try:
            value = int(value, 8)
        except ValueError:
            found.append(diagnostic(node, path, f'"{value}" is not a file mode (write 0440)'))
            return OMIT
    if isinstance(value, float):
        found.append(diagnostic(node, path, "a file mode has no fraction (write 0440)"))
        return OMIT
    return f"0{value:o}" if isinstance(value, int) and not isinstance(value, bool) else OMIT


def show_ulimit(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """One number, or soft and hard."""
    if isinstance(node.value, dict):
        return show_object(node, shape, path, found)
    return show_int(node, shape, path, found)


def show_ssh(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """``ID`` or ``ID=PATH`` elements."""
    out = []
    for key, item in node.items():
        out.append(key if item.value is None or item.value == "" else f"{key}={go_text(item.value)}")
    return sorted(out) or OMIT


def show_device_count(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A number of devices; ``all`` is -1."""
    if isinstance(node.value, str):
        if node.value.lower() == "all":
            return -1
        try:
            return cast_int(node.value) or OMIT
        except ValueError:
            found.append(diagnostic(node, path, f'"{node.value}" is not a number of devices (write a number or all)'))
            return OMIT
    return plain(node) or OMIT


def show_provider_options(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """Every option as a list of texts."""
    out: dict[str, JSON] = {}
    for key, item in node.items():
        elements = item.value if isinstance(item.value, list) else [item]
        out[key] = [go_text(element.value) for element in elements]
    return out or OMIT


def show_capitalised(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """blkio entries, whose keys the canonical model writes with a capital."""
    shown = show_object(node, shape, path, found)
    return {key.capitalize(): value for key, value in shown.items()} if isinstance(shown, dict) else shown


def show_watch(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A watch rule; ``x-initialSync`` is an older name of ``initial_sync``."""
    shown = show_object(node, shape, path, found)
    if isinstance(shown, dict) and shown.pop("x-initialSync", False):
        shown["initial_sync"] = True
    return shown


def show_model(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """A service's use of a model: null, or its variables."""
    if node.value is None:
        return None
    return show_object(node, shape, path, found)


def show_attachment(node: Node, shape: Shape, path: str, found: Found) -> JSON:
    """One network of a service."""
    return None if node.value is None else show_object(node, shape, path, found)
