"""Putting one model over another: the merge rules of the format, and the elements that may appear once.

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


# Elements that may appear once


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
