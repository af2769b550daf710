"""Short forms to long ones: ``8080:80`` to ``{published: "8080", target: 80}``, and so on.

Each function takes a node that has passed the format's schema and gives the long form at the same place; what is no such
form raises ExpandError. With interpolation off, text that holds a variable is left as it is.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable

from orchestrator.compose.diagnostics import Diagnostic
from orchestrator.compose.merge import as_mapping, mount_parts
from orchestrator.compose.shapes import JSON, Shape, Spread, join
from orchestrator.compose.tree import Node, diagnostic
from orchestrator.compose.values import go_text

MAX_SPREAD = 70_000
"""How many elements the short forms of one list may become (all 65,535 ports, and a few)."""


class ExpandError(ValueError):
    """A short form that cannot be read."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def made(at: Node, value: JSON) -> Node:
    """`value` as nodes, all at the place of `at`."""
    if isinstance(value, dict):
        return at.new({key: _entry(at, item) for key, item in value.items()})
    if isinstance(value, list):
        return at.new([item if isinstance(item, Node) else made(at, item) for item in value])
    return at.new(value)


def _entry(at: Node, item: JSON) -> Node:
    return item if isinstance(item, Node) else made(at, item)


def expand(node: Node, shape: Shape | None, path: str, found: list[Diagnostic], lenient: bool) -> Node:
    """The long form of `node` and everything below it. `lenient` leaves what cannot be read (no interpolation)."""
    if shape is None:
        return node
    if shape.expand is not None:
        try:
            node = shape.expand(node)
        except ExpandError as exc:
            if not lenient:
                found.append(diagnostic(node, path, str(exc), hint=exc.hint))
            return node
    value = node.value
    if isinstance(value, dict):
        if shape.fields is None and shape.values is None:
            return node
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            below = shape.at(key)
            if below is None:
                continue
            longer = expand(item, below, f"{path}.{key}" if path else key, found, lenient)
            if longer is not item:
                changed = changed or dict(value)
                changed[key] = longer if longer.key_line else longer.under(item)
        return node if changed is None else _keep(node, changed)
    if isinstance(value, list) and shape.items is not None:
        if shape.spread is not None:
            spread = _spread(value, shape.spread, path, found, lenient)
            return node if spread is None else _keep(node, spread)
        items = [expand(item, shape.items, f"{path}[{n}]", found, lenient) for n, item in enumerate(value)]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return _keep(node, items)
    return node


def _spread(value: list[Node], spread: Spread, path: str, found: list[Diagnostic], lenient: bool) -> list[Node] | None:
    """All elements' long forms; None when one cannot be read and that is borne."""
    out: list[Node] = []
    for number, item in enumerate(value):
        try:
            out.extend(spread(item))
        except ExpandError as exc:
            if lenient:
                return None
            else:
                found.append(diagnostic(item, f"{path}[{number}]", str(exc), hint=exc.hint))
        if len(out) > MAX_SPREAD:
            found.append(diagnostic(item, f"{path}[{number}]", f"more than {MAX_SPREAD:,} ports in one service"))
            return out[:MAX_SPREAD]
    return out


def _keep(node: Node, value: dict[str, Node] | list[Node]) -> Node:
    return Node(value, node.source, node.line, node.column, node.key_line, node.key_column, node.tag)


# Forms


def string_list(node: Node) -> Node:
    """A string as a list of one."""
    return node.new([node]) if isinstance(node.value, str) else node


def texts(node: Node) -> Node:
    """A string as a list of one, and no empty strings."""
    items = [node] if isinstance(node.value, str) else node.elements()
    return _keep(node, [item for item in items if item.value not in ("", None)])


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
            full = _keep(item, {**item.value, "required": item.new(True)})
            out[name] = full
        else:
            out[name] = item
    return _keep(node, out)


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
            out.append(_keep(item, {**item.value, "required": item.new(True)}))
        else:
            out.append(item)
    return _keep(node, out)


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
            raise ExpandError("name and external.name are both given, and differ", "keep name, and write external: true")
        out["name"] = inner
    return _keep(node, out)


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


# Ports


_PROTOCOLS = ("tcp", "udp", "sctp")
_PORT_HINT = "write TARGET, PUBLISHED:TARGET or IP:PUBLISHED:TARGET, with /udp if need be"


def ports(item: Node) -> list[Node]:
    """The long forms of one element of ``ports``; a range becomes several."""
    if isinstance(item.value, dict):
        return [item]
    return [made(item, port) for port in parse_port(go_text(item.value))]


def parse_port(text: str) -> list[dict[str, JSON]]:
    """The ports that a short form publishes. Raises ExpandError."""
    rest, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise ExpandError(f'"{protocol}" is not a protocol: one of tcp, udp, sctp')
    host_ip, published, target = _split_port(rest, text)
    if not target:
        raise ExpandError(f'"{text}" has no container port', _PORT_HINT)
    first, last = _range(target, text)
    if first == 0:
        raise ExpandError(f'"{text}": the container port must not be 0', _PORT_HINT)
    low, high = _range(published, text) if published else (0, 0)
    common: dict[str, JSON] = {"mode": "ingress", "protocol": protocol}
    if host_ip:
        common["host_ip"] = host_ip
    count = last - first
    if published and high - low != count:
        if count:
            raise ExpandError(f'"{text}": the two ranges differ in length', _PORT_HINT)
        return [{**common, "target": first, "published": f"{low}-{high}"}]
    out = []
    for step in range(count + 1):
        port = {**common, "target": first + step}
        if published:
            port["published"] = str(low + step)
        out.append(port)
    return sorted(out, key=lambda port: f"{port['target']}/{protocol}")


def _split_port(rest: str, text: str) -> tuple[str, str, str]:
    parts = rest.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    host = ":".join(parts[:-2])
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare:
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise ExpandError(f'"{host}" is not an IP address', _PORT_HINT) from None
    return bare, parts[-2], parts[-1]


def _range(text: str, whole: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    if not all(re.fullmatch(r"[0-9]{1,5}", part) and int(part) <= 65535 for part in (first, last)):
        raise ExpandError(f'"{whole}": "{text}" is not a port or a range of ports (0 to 65535)', _PORT_HINT)
    if int(last) < int(first):
        raise ExpandError(f'"{whole}": the range "{text}" ends before it starts', _PORT_HINT)
    return int(first), int(last)


# Volumes


_PROPAGATIONS = frozenset(("rprivate", "private", "rshared", "shared", "rslave", "slave"))


def volume(node: Node) -> Node:
    """``[SOURCE:]TARGET[:OPTIONS]``; the target without ``..`` and doubled slashes."""
    if isinstance(node.value, str):
        parsed = parse_volume(node.value)
        return made(node, {**parsed, "target": clean_path(parsed["target"])})
    if node.get("target") is None:
        raise ExpandError("a mount needs a target", "say where it is mounted: target: /path")
    return node


def clean_path(text: str) -> str:
    """Without ``.``, ``..``, doubled and trailing slashes; a dot for nothing."""
    clean = posixpath.normpath(text)
    return clean[1:] if clean.startswith("//") else clean


def parse_volume(text: str) -> dict[str, JSON]:
    """The long form of a mount. Raises ExpandError.

    A one-letter source is taken for a Windows drive (``a:/d`` is a source), as Docker Compose takes it.
    """
    if not text:
        raise ExpandError("an empty mount")
    if len(text) <= 2:
        return {"type": "volume", "target": text}
    parts = mount_parts(text)
    if any(not part for part in parts):
        raise ExpandError(f'"{text}" has an empty section between colons', "write SOURCE:TARGET or SOURCE:TARGET:ro")
    if len(parts) > 3:
        raise ExpandError(f'"{text}" has too many colons', "write SOURCE:TARGET or SOURCE:TARGET:ro")
    if len(parts) == 1:
        return {"type": "volume", "target": parts[0], "volume": {}}
    out: dict[str, JSON] = {"type": "volume", "source": parts[0], "target": parts[1]}
    bind: dict[str, JSON] = {}
    named_options: dict[str, JSON] = {}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            out["read_only"] = option == "ro"
        elif option == "nocopy":
            named_options["nocopy"] = True
        elif option in _PROPAGATIONS:
            bind["propagation"] = option
        elif option in ("z", "Z"):
            bind["selinux"] = option
    if is_host_path(parts[0]):
        out["type"] = "bind"
        out["bind"] = {**bind, "create_host_path": True}
        if named_options:
            out["volume"] = named_options
    else:
        out["volume"] = named_options
        if bind:
            out["bind"] = bind
    return out


def is_host_path(source: str) -> bool:
    """A bind mount's source, not a volume's name."""
    return source[0] in "./~" or source.startswith("\\\\") or (len(source) > 1 and source[0].isalpha() and source[1] == ":")


# Defaults, which are set once after all files are merged


def secret_mount(node: Node) -> Node:
    """Secrets are mounted below /run/secrets unless they say where."""
    if not isinstance(node.value, dict) or "target" in node.value:
        return node
    source = node.value.get("source")
    name = go_text(source.value) if source is not None else ""
    return _keep(node, {**node.value, "target": node.new(f"/run/secrets/{name}")})


def port_defaults(node: Node) -> Node:
    """Published with ``mode: ingress`` and over TCP unless it says otherwise."""
    if not isinstance(node.value, dict):
        return node
    missing = {k: node.new(v) for k, v in (("mode", "ingress"), ("protocol", "tcp")) if k not in node.value}
    return _keep(node, {**node.value, **missing}) if missing else node


def build_context(node: Node) -> Node:
    """The context is the project's folder unless it says otherwise."""
    if not isinstance(node.value, dict) or "context" in node.value:
        return node
    return _keep(node, {**node.value, "context": node.new(".")})


def device_request(node: Node) -> Node:
    """All devices unless it says how many or which."""
    if not isinstance(node.value, dict) or "count" in node.value or "device_ids" in node.value:
        return node
    return _keep(node, {**node.value, "count": node.new("all")})


def with_defaults(node: Node, shape: Shape | None, path: str = "") -> Node:
    """`node` with the defaults of its shape and of all below it."""
    if shape is None:
        return node
    if shape.default is not None:
        node = shape.default(node)
    value = node.value
    if isinstance(value, dict):
        if shape.fields is None and shape.values is None:
            return node
        changed: dict[str, Node] | None = None
        for key, item in value.items():
            if isinstance(item.value, dict | list):
                full = with_defaults(item, shape.at(key), join(path, key))
                if full is not item:
                    changed = changed or dict(value)
                    changed[key] = full
        return node if changed is None else _keep(node, changed)
    if isinstance(value, list) and shape.items is not None:
        items = [with_defaults(item, shape.items, path) for item in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return _keep(node, items)
    return node


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
