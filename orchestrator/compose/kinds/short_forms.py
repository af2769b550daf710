"""The short forms of ports and mounts: ``IP:PUBLISHED:TARGET/PROTOCOL`` and ``SOURCE:TARGET:OPTIONS``."""

from __future__ import annotations

import ipaddress
import posixpath
import re

from orchestrator.compose.kinds.expand import ExpandError, made
from orchestrator.compose.kinds.once import mount_parts
from orchestrator.compose.kinds.shapes import JSON
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text.tree import Node

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
