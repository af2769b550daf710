"""Whether a value is of its shape: the format's schema, with places."""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import KIND_WORDS, Shape, describe, hardened, kind_of
from orchestrator.compose.text.diagnostics import Diagnostic, nearest
from orchestrator.compose.text.tree import Node, diagnostic, place_of


def _wanted(shape: Shape) -> str:
    accepts = shape.accepts
    order = [k for k in KIND_WORDS if k in accepts and k != "timestamp" and not (k == "integer" and "number" in accepts)]
    return " or ".join(KIND_WORDS[k] for k in order)


MAX_FOUND = 1_000
"""With so many findings, looking for further ones helps nobody."""


def check(node: Node, shape: Shape, path: str, found: list[Diagnostic], limit: int = MAX_FOUND) -> None:
    """Add to `found` whatever in `node` is not of `shape` (the format's schema, with places), until there are `limit`."""
    if len(found) >= limit:
        return
    value = node.value
    kind = kind_of(value)
    accepts = shape.accepts
    if kind not in accepts and not (kind == "integer" and "number" in accepts):
        message = f"must be {_wanted(shape)}, not {describe(value)}"
        hint = None
        if kind in ("integer", "number", "boolean", "timestamp") and accepts & {"string"}:
            hint = "put the value in quotes"
        elif kind == "null" and "mapping" in accepts:
            hint = "nothing is indented below this key"
        found.append(diagnostic(node, path, message, hint=hint, key=kind == "null"))
        return
    if isinstance(value, dict):
        _check_mapping(node, value, shape, path, found, limit)
    elif isinstance(value, list):
        _check_list(value, shape, path, found, limit)
    elif kind == "string":
        _check_text(node, str(value), shape, path, found)
    elif isinstance(value, int | float) and kind != "boolean":
        if shape.minimum is not None and value < shape.minimum:
            found.append(diagnostic(node, path, f"must be at least {shape.minimum:g}"))
        if shape.maximum is not None and value > shape.maximum:
            found.append(diagnostic(node, path, f"must be at most {shape.maximum:g}"))


def prune(node: Node, shape: Shape | None) -> Node | None:
    """`node` without whatever is not of `shape`, so that the phases to come can look for further errors; None when nothing
    is left of it."""
    if shape is None:
        return node
    found: list[Diagnostic] = []
    check(node, shape, "", found, 1)
    if not found:
        return node
    value = node.value
    below: dict[str, Node] | list[Node]
    if isinstance(value, dict):
        below = {}
        for key, item in value.items():
            if shape.fields is not None and key not in shape.fields and shape.values is None and not key.startswith("x-"):
                continue
            kept = prune(item, shape.at(key))
            if kept is not None:
                below[key] = kept
    elif isinstance(value, list):
        below = [kept for item in value if (kept := prune(item, shape.items)) is not None]
    else:
        return None
    out = node.kept(below)
    found = []
    check(out, shape, "", found, 1)
    return out if not found else None


def _check_text(node: Node, text: str, shape: Shape, path: str, found: list[Diagnostic]) -> None:
    if shape.choices and text not in shape.choices:
        choices = ", ".join(shape.choices)
        near = nearest(text, shape.choices, found)
        found.append(diagnostic(node, path, f'"{text}" is not one of {choices}{near}'))
    elif shape.pattern is not None and shape.pattern.search(text) is None:
        found.append(diagnostic(node, path, f'"{text}" is not {shape.what}'))


def _check_mapping(
    node: Node, value: dict[str, Node], shape: Shape, path: str, found: list[Diagnostic], limit: int
) -> None:
    fields = shape.fields
    if fields is None and shape.values is None:
        return
    pattern = shape.key_pattern
    for key, item in value.items():
        if len(found) >= limit:
            return
        if fields is not None:
            row = fields.get(key)
            if row is not None:
                check(item, row.shape, f"{path}.{key}" if path else key, found, limit)
                continue
            if shape.extensions and key.startswith("x-"):
                continue
            if shape.values is None:
                if shape.closed:
                    near = nearest(key, fields, found)
                    hint = None if near else _moved_hint(key)
                    found.append(
                        diagnostic(item, path, f'"{key}" is not an attribute of {shape.what}{near}', hint=hint, key=True)
                    )
                continue
        if pattern is not None and pattern.search(key) is None:
            if shape.closed:
                hint = "use letters, digits, dots, dashes and underscores" if "a-zA-Z0-9" in pattern.pattern else None
                found.append(diagnostic(item, path, f'"{key}" is not a valid name', hint=hint, key=True))
            continue
        assert shape.values is not None
        check(item, shape.values, f"{path}.{key}" if path else key, found, limit)
    for name in shape.required:
        if name not in value:
            found.append(diagnostic(node, path, f'"{name}" is missing from {shape.what}', key=True))
    if shape.any_of and not any(name in value for name in shape.any_of):
        found.append(diagnostic(node, path, f"{shape.what} needs one of {', '.join(shape.any_of)}", key=True))


_MOVED = {
    "dockerfile": "it belongs under build:",
    "log_driver": "it is logging.driver now",
    "log_opt": "it is logging.options now",
    "net": "it is network_mode now",
    "volume_driver": "it is the volume's driver now",
    "replicas": "it belongs under deploy:",
    "resources": "it belongs under deploy:",
    "restart_policy": "it belongs under deploy:, or write restart:",
}


def _moved_hint(key: str) -> str | None:
    return _MOVED.get(key)


def _check_list(value: list[Node], shape: Shape, path: str, found: list[Diagnostic], limit: int) -> None:
    if shape.items is None:
        return
    for number, item in enumerate(value):
        check(item, shape.items, f"{path}[{number}]", found, limit)
    if shape.unique_items and len(value) > 1:
        seen: dict[object, int] = {}
        for number, item in enumerate(value):
            key = hardened(item)
            if key in seen:
                message = f"is the same as element {seen[key]}; each may appear once"
                related = (place_of(value[seen[key]], f"element {seen[key]}"),)
                found.append(diagnostic(item, f"{path}[{number}]", message, related=related))
            else:
                seen[key] = number
