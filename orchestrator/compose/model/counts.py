"""How many containers a service has, and the signal that stops them."""

from __future__ import annotations

from orchestrator.compose.kinds.values import cast_int, go_text
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.errors import InputError
from orchestrator.units import parse_signal, signal_name

MAX_REPLICAS = 10_000
"""Of one service: more is a slip of the keyboard, and no machine holds it."""

SIGNALS = range(1, 65)


def stop_signal(read: Reader, node: Node, path: str) -> str | None:
    """The signal's name, however it is written; its number for the two that have none."""
    item = node.get("stop_signal")
    text = go_text(item.value) if item is not None else ""
    if item is None or not text:
        return None
    try:
        number = parse_signal(text)
    except InputError as exc:
        prefix = "SIG" if text.upper().startswith("SIG") else ""
        known = (prefix + signal_name(number).removeprefix("SIG") for number in SIGNALS)
        near = did_you_mean(text, known) if text[:1].isalpha() else ""
        read.error(item, f"{path}.stop_signal", f"{exc.message}{near}", exc.hint)
        return None
    name = signal_name(number)
    return name if name.startswith("SIG") else str(number)


def replicas(read: Reader, node: Node, path: str) -> int:
    """``scale``, else ``deploy.replicas`` (the rules have seen to it that they agree), else 1."""
    for keys in (("scale",), ("deploy", "replicas")):
        item = at(node, *keys)
        if item is None or item.value is None:
            continue
        place = ".".join((path, *keys))
        if isinstance(item.value, int | float):
            count = int(item.value)
        else:
            count = read.attempt(item, place, lambda n: cast_int(go_text(n.value)), 1)
        if count > MAX_REPLICAS:
            read.error(item, place, f"must be at most {MAX_REPLICAS}")
        elif count > 1:
            _check_fixed_ports(read, node, path, item, place)
            _check_fixed_address(read, node, item, place)
        return max(count, 0)
    return 1


def _check_fixed_address(read: Reader, node: Node, count: Node, place: str) -> None:
    networks = node.get("networks")
    entries = [entry for _, entry in networks.items()] if networks is not None else []
    for key in ("mac_address", "ipv4_address", "ipv6_address"):
        if any((item := entry.get(key)) is not None and item.value for entry in (node, *entries)):
            read.error(count, place, f"more than one container cannot have one {key}")


def _check_fixed_ports(read: Reader, node: Node, path: str, count: Node, place: str) -> None:
    for number, port in enumerate(read.each(node, "ports")):
        published = read.text(port, "published")
        if published is None or published == "0" or "-" in published:
            continue
        read.error(
            port,
            f"{path}.ports[{number}]",
            f"{go_text(count.value)} containers cannot all have the host port {published}",
            hint=f'write a range ("{published}-..."), or no host port',
            related=(place_of(count, place),),
        )
