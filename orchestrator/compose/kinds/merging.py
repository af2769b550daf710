"""Putting one model over another: the merge rules of the format.

The rule of a place stands in the attribute table: by default mappings merge, a list appends what the other has not, and
anything else is replaced.
Source: compose-spec, "Merge", and the measured behaviour of Docker Compose v5.6.1.
"""

from __future__ import annotations

from orchestrator.compose.kinds.shapes import Shape, describe, hardened, join
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic, place_of


def merge(base: Node, over: Node, shape: Shape | None, path: str, found: list[Diagnostic]) -> Node:
    """`over` put over `base`: null changes nothing. What cannot be merged is added to `found`."""
    if over.value is None and (shape is None or shape.merge is not replace):
        return base
    if shape is not None and shape.merge is not None:
        return shape.merge(base, over, shape, path, found)
    if isinstance(base.value, dict):
        if isinstance(over.value, dict):
            return merge_mappings(base, over, shape, path, found)
        found.append(_cannot(base, over, path))
        return base
    if isinstance(base.value, list):
        if isinstance(over.value, list):
            return over.new(_appended(base.value, over.value))
        found.append(_cannot(base, over, path))
        return base
    return over


def _appended(base: list[Node], over: list[Node]) -> list[Node]:
    """Both, without those elements of `over` that came before."""
    out = list(base)
    known = {hardened(item) for item in base}
    for item in over:
        identity = hardened(item)
        if identity not in known:
            known.add(identity)
            out.append(item)
    return out


def _cannot(base: Node, over: Node, path: str) -> Diagnostic:
    message = f"cannot put {describe(over.value)} over {describe(base.value)}"
    hint = "write the same form in both places, or use !override"
    return diagnostic(over, path, message, hint=hint, related=(place_of(base, "the other value"),))


def merge_mappings(base: Node, over: Node, shape: Shape | None, path: str, found: list[Diagnostic]) -> Node:
    """Both mappings' keys; those in both are merged by the table."""
    assert isinstance(base.value, dict)
    assert isinstance(over.value, dict)
    out = dict(base.value)
    for key, item in over.value.items():
        mine = out.get(key)
        if mine is None:
            out[key] = item
            continue
        merged = merge(mine, item, shape.at(key) if shape is not None else None, join(path, key), found)
        out[key] = merged.under(item) if merged is not mine and not merged.key_line else merged
    return base.new(out)


# Rules of the table


def replace(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """The later one, whole: command, entrypoint, healthcheck.test."""
    return over


def as_sequence(node: Node, separator: str = "=") -> list[Node]:
    """A mapping as sorted ``KEY=value`` elements, a string as a list of one."""
    value = node.value
    if isinstance(value, str):
        return [node]
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return []
    out: list[tuple[str, Node]] = []
    for key, item in value.items():
        if item.value is None:
            out.append((key, item.new(key)))
            continue
        for element in item.value if isinstance(item.value, list) else [item]:
            text = f"{key}{separator}{go_text(element.value)}"
            out.append((text, element.new(text)))
    return [item for _, item in sorted(out, key=lambda pair: pair[0])]


def append(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """Both as lists, one after the other: environment, labels and everything else that is a list or a mapping."""
    return over.new([*as_sequence(base), *as_sequence(over)])


def append_new(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """As `append`, without the elements the base has already: extra_hosts."""
    mine = as_sequence(base)
    known = {go_text(item.value) for item in mine}
    both = [*mine, *(item for item in as_sequence(over) if go_text(item.value) not in known)]
    return over.new(both if both or isinstance(base.value, list) else None)


def append_distinct(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """As lists, one after the other, each element of the later one once: label_file."""
    return over.new(_appended(as_sequence(base), as_sequence(over)))


def as_mapping(node: Node, default: dict[str, str | bool] | None) -> Node:
    """A list of names as a mapping of `default` (or null) under each."""
    if not isinstance(node.value, list):
        return node
    out: dict[str, Node] = {}
    for item in node.value:
        value = item.new(None) if default is None else item.new({key: item.new(v) for key, v in default.items()})
        value.key_line, value.key_column = item.line, item.column
        out[go_text(item.value)] = value
    return node.new(out)


_STARTED: dict[str, str | bool] = {"condition": "service_started", "required": True}


def named(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """Lists of names and mappings by name: networks, models."""
    return _by_name(base, over, shape, path, found, None)


def dependencies(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """``depends_on``: a name in a list means ``service_started`` and required."""
    return _by_name(base, over, shape, path, found, _STARTED)


def _by_name(
    base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic], default: dict[str, str | bool] | None
) -> Node:
    mine, other = as_mapping(base, default), as_mapping(over, default)
    if not isinstance(mine.value, dict):
        return other
    if not isinstance(other.value, dict):
        return mine
    return merge_mappings(mine, other, shape, path, found)


def build(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """``build: DIR`` means ``build: {context: DIR}``."""
    return merge_mappings(_build(base), _build(over), shape, path, found)


def _build(node: Node) -> Node:
    if isinstance(node.value, dict):
        return node
    return node.new({"context": node} if isinstance(node.value, str) else {})


def logging(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """Options merge only for the same driver (or where one does not say)."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    mine, other = base.value.get("driver"), over.value.get("driver")
    if mine is None or other is None or mine.value == other.value:
        return merge_mappings(base, over, shape, path, found)
    return over


def ipam(base: Node, over: Node, shape: Shape, path: str, found: list[Diagnostic]) -> Node:
    """``ipam.config``: entries of the same subnet merge."""
    out: list[Node] = []

    def subnet(node: Node) -> object:
        found = node.get("subnet")
        return None if found is None else found.value

    for mine in base.elements():
        for other in over.elements():
            if subnet(other) != subnet(mine) and all(subnet(other) != subnet(item) for item in out):
                out.append(other)
                continue
            merged = merge_mappings(mine, other, shape.items or shape, path, found)
            same = [n for n, item in enumerate(out) if subnet(item) == subnet(merged)]
            if same:
                out[same[0]] = merged
            else:
                out.append(merged)
    return over.new(out)
