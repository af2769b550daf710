"""Relative paths to absolute ones: against the project's folder, or the folder of the file that was included or extended.

Source: the path rules of compose-go, measured: which attributes hold paths stands in the attribute table.
"""

from __future__ import annotations

import os.path
import re

from orchestrator.compose.kinds.shapes import PathRule, Shape
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.tree import Node

_WINDOWS = re.compile(r"[a-zA-Z]:[\\/]|\\\\")
_REMOTE = re.compile(r"git@|github\.com/")


def is_remote(path: str) -> bool:
    """A URL or a Git repository, as build contexts may be."""
    return _REMOTE.match(path) is not None or "://" in path


def absolute(folder: str, path: str, home: str | None, *, windows: bool = False) -> str:
    """`path` against `folder`; ``~`` is the home directory. `windows`: ``C:\\x`` is absolute too."""
    if path.startswith("~") and home is not None:
        return os.path.normpath(os.path.join(home, path[1:].lstrip("/")))
    if path.startswith("/") or (windows and _WINDOWS.match(path)):
        return path
    return os.path.normpath(os.path.join(folder, path))


def resolve(node: Node, shape: Shape | None, folder: str, home: str | None) -> Node:
    """`node` with every path in it made absolute against `folder`."""
    if shape is None:
        return node
    if shape.path is not None:
        return _apply(node, shape, shape.path, folder, home)
    return _below(node, shape, folder, home)


def _below(node: Node, shape: Shape, folder: str, home: str | None) -> Node:
    value = node.value
    if isinstance(value, dict):
        if shape.fields is None and shape.values is None:
            return node
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            resolved = resolve(item, shape.at(key), folder, home)
            if resolved is not item:
                changed = changed or dict(value)
                changed[key] = resolved if resolved.key_line else resolved.under(item)
        if changed is None:
            return node
        return node.kept(changed)
    if isinstance(value, list) and shape.items is not None:
        items = [resolve(item, shape.items, folder, home) for item in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return node.kept(items)
    return node


def _apply(node: Node, shape: Shape, rule: PathRule, folder: str, home: str | None) -> Node:
    match rule:
        case PathRule.PLAIN:
            return _path(node, folder, home)
        case PathRule.CONTEXT:
            text = node.text()
            return node if not text or is_remote(text) else _path(node, folder, home)
        case PathRule.NAMED_CONTEXT:
            text = node.text()
            if text is None or is_remote(text) or text.startswith("service:"):
                return node
            return _path(node, folder, home)
        case PathRule.MOUNT:
            return _mount(node, folder, home)
        case PathRule.VOLUME:
            return _volume(_below(node, shape, folder, home), folder, home)


def _path(node: Node, folder: str, home: str | None, *, windows: bool = False) -> Node:
    text = node.text()
    if text is None:
        return node
    path = absolute(folder, text, home, windows=windows)
    return node if path == text else node.new(path)


def _mount(node: Node, folder: str, home: str | None) -> Node:
    if not isinstance(node.value, dict):
        return node
    kind, source = node.value.get("type"), node.value.get("source")
    if kind is None or kind.value != "bind" or source is None:
        return node
    resolved = _path(source, folder, home, windows=True)
    return node if resolved is source else node.new({**node.value, "source": resolved})


def _volume(node: Node, folder: str, home: str | None) -> Node:
    options = node.get("driver_opts")
    driver = node.get("driver")
    if options is None or not isinstance(node.value, dict) or not isinstance(options.value, dict):
        return node
    if driver is None or driver.value != "local":
        return node
    device, kind = options.value.get("device"), options.value.get("o")
    if device is None or kind is None or go_text(kind.value) != "bind":
        return node
    resolved = _path(device, folder, home)
    if resolved is device:
        return node
    return node.new({**node.value, "driver_opts": options.new({**options.value, "device": resolved})})
