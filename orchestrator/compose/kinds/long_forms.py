"""The long forms of what has a short one, kind by kind: the rules that the table names.

Each function takes a node that has passed the format's schema and gives the long form at the same place; what is no such
form raises ExpandError.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.compose.kinds.expand import ExpandError, made
from orchestrator.compose.kinds.merging import as_mapping
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.tree import Node, place_of


def string_list(node: Node) -> Node:
    """A string as a list of one."""
    return node.new([node]) if isinstance(node.value, str) else node


def texts(node: Node) -> Node:
    """A string as a list of one, and no empty strings."""
    items = [node] if isinstance(node.value, str) else node.elements()
    return node.kept([item for item in items if item.value not in ("", None)])


def named(key: str) -> Callable[[Node], Node]:
    """A string as ``{key: string}``: build, extends, configs, secrets, include."""

    def form(node: Node) -> Node:
        return node.new({key: node}) if isinstance(node.value, str) else node

    return form


def names(node: Node) -> Node:
    """A list of names as a mapping of nulls: networks, models."""
    return as_mapping(node, None)


def depends_on(node: Node) -> Node:
    """A list of names as ``service_started``; ``required`` is true unless said otherwise."""
    if isinstance(node.value, list):
        return as_mapping(node, {"condition": "service_started", "required": True})
    if not isinstance(node.value, dict):
        return node
    out = {}
    for name, item in node.value.items():
        if isinstance(item.value, dict) and "required" not in item.value:
            full = item.kept({**item.value, "required": item.new(True)})
            out[name] = full
        else:
            out[name] = item
    return node.kept(out)


def env_file(node: Node) -> Node:
    """A path, a list of paths, or a list of ``{path, required, format}``."""
    if isinstance(node.value, str):
        return node.new([made(node, {"path": node.value, "required": True})])
    if not isinstance(node.value, list):
        return node
    out = []
    for item in node.value:
        if isinstance(item.value, str):
            out.append(made(item, {"path": item.value, "required": True}))
        elif isinstance(item.value, dict) and "required" not in item.value:
            out.append(item.kept({**item.value, "required": item.new(True)}))
        else:
            out.append(item)
    return node.kept(out)


def gpus(node: Node) -> Node:
    """``all`` as one request for all devices."""
    return made(node, [{"count": "all"}]) if node.value == "all" else node


def ssh(node: Node) -> Node:
    """A string, a list of ``ID[=PATH]`` or a mapping as a list of ``{id, path}``."""
    if isinstance(node.value, dict):
        return node
    out: dict[str, Node] = {}
    for item in [node] if isinstance(node.value, str) else node.elements():
        key, separator, path = go_text(item.value).partition("=")
        if not separator and key != "default":
            raise ExpandError(f'"{key}" has no path', "write ID=PATH, or default for the agent's socket")
        value = item.new(path if separator else None)
        value.key_line, value.key_column = item.line, item.column
        out[key] = value
    return node.new(out)


def device(node: Node) -> Node:
    """``SOURCE[:TARGET[:PERMISSIONS]]``, or the name of a CDI device."""
    if not isinstance(node.value, str):
        return node
    parts = node.value.split(":")
    if len(parts) > 3:
        raise ExpandError(f'"{node.value}" is not a device (write SOURCE:TARGET:PERMISSIONS)')
    source = parts[0]
    target = (parts[1] if len(parts) > 1 else "") or source
    permissions = parts[2] if len(parts) > 2 else "rwm"
    return made(node, {"source": source, "target": target, "permissions": permissions})


def external(node: Node) -> Node:
    """``external: {name: X}`` (deprecated) as ``external: true`` and ``name: X``."""
    if not isinstance(node.value, dict):
        return node
    flag = node.value.get("external")
    if flag is None or not isinstance(flag.value, dict):
        return node
    out = {**node.value, "external": flag.new(True)}
    inner = flag.value.get("name")
    if inner is not None:
        mine = node.value.get("name")
        if mine is not None and mine.value != inner.value:
            related = (place_of(mine, "name", key=True), place_of(inner, "external.name", key=True))
            message = "name and external.name are both given, and differ"
            raise ExpandError(message, "keep name, and write external: true", related)
        out["name"] = inner
    return node.kept(out)


def pairs(node: Node) -> Node:
    """A list of ``KEY=value`` as a mapping; a bare ``KEY`` has null."""
    return _pairs(node, "=")


def contexts(node: Node) -> Node:
    """As `pairs`, where every name needs a value."""
    for item in node.elements():
        if "=" not in go_text(item.value):
            raise ExpandError(f'"{go_text(item.value)}" has no context', "write NAME=CONTEXT")
    return pairs(node)


def variables(node: Node) -> Node:
    """Unchanged; a name that ends with a space is an error (``A =b`` in a list)."""
    for item in node.elements():
        name = go_text(item.value).partition("=")[0]
        if name != name.rstrip():
            raise ExpandError(f'the variable "{name}" ends with a space', "leave no space before the equals sign")
    return node


def _pairs(node: Node, separators: str) -> Node:
    if not isinstance(node.value, list):
        return node
    out: dict[str, Node] = {}
    for item in node.value:
        text = go_text(item.value)
        cut = min((at for at in (text.find(c) for c in separators) if at >= 0), default=-1)
        value = item.new(None if cut < 0 else text[cut + 1 :])
        value.key_line, value.key_column = item.line, item.column
        out[text if cut < 0 else text[:cut]] = value
    return node.new(out)


def host_pairs(node: Node) -> list[tuple[str, str]]:
    """``extra_hosts``: ``HOST: ADDRESS``, or a list of ``HOST=ADDRESS`` or ``HOST:ADDRESS``; brackets around IPv6 go."""
    out: list[tuple[str, str]] = []
    if isinstance(node.value, dict):
        for host, item in node.value.items():
            for address in item.value if isinstance(item.value, list) else [item]:
                out.append((host, _bare_address(go_text(address.value))))
        return out
    for element in node.elements():
        text = go_text(element.value)
        name, separator, rest = text.partition("=")
        if not separator:
            name, separator, rest = text.partition(":")
        if not separator:
            raise ExpandError(f'"{text}" has no address', "write HOST=ADDRESS")
        out.extend((name, _bare_address(address)) for address in rest.split(","))
    return out


def _bare_address(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
