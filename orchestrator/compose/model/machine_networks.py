"""External networks that have the names of Docker's own: ``host``, ``none``, ``bridge``. They stand for a `network_mode`.

Docker has three networks that nobody makes, and a stack may name them: ``networks: {n: {external: true, name: host}}``.
There, to be on one of them is what ``network_mode`` of that name is, since Docker's engine has one field for both. So it is
here, and ``bridge`` is the project's default network. What Docker refuses of them is found when the stack is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.namespaces import DEFAULT
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic, place_of, plain

_ALONE = {"host": "the machine's own", "none": "no network at all"}
"""What takes no other network beside it."""
_BRIDGE = "bridge"
_ADDRESSES = ("ipv4_address", "ipv6_address", "link_local_ips", "mac_address")


def as_modes(model: Node, project: str, found: list[Diagnostic]) -> Node:
    """`model`, normalised, with a `network_mode` (of ``bridge``: the default network) in place of these networks. What
    excludes each other in its services and jobs is added to `found`."""
    networks = model.get("networks")
    named = {key: name for key, item in networks.items() if (name := _name(item))} if networks is not None else {}
    if networks is None or not named or not isinstance(model.value, dict):
        return model
    top = dict(model.value)
    for section in ("services", "jobs"):
        if section in top:
            each = top[section].items()
            top[section] = top[section].new({key: _service(item, f"{section}.{key}", named, found) for key, item in each})
    kept = {key: item for key, item in networks.items() if key not in named}
    if _BRIDGE in named.values() and DEFAULT not in kept:
        kept[DEFAULT] = model.new({"name": model.new(f"{project}_{DEFAULT}")})
    top["networks"] = networks.new(kept)
    return model.new(top)


def _name(network: Node) -> str:
    """``host``, ``none`` or ``bridge``; "" for any other network."""
    external, name = network.get("external"), network.get("name")
    text = go_text(name.value) if name is not None else ""
    return text if external is not None and external.value is True and (text in _ALONE or text == _BRIDGE) else ""


def _service(service: Node, path: str, named: Mapping[str, str], found: list[Diagnostic]) -> Node:
    networks = service.get("networks")
    own = dict(networks.items()) if networks is not None else {}
    if networks is None or not named.keys() & own or not isinstance(service.value, dict):
        return service
    for key in own:
        if key in named:
            _check(networks, key, named[key], path, found)
    out = dict(service.value)
    if (steps := out.get("pre_start")) is not None:
        each = enumerate(steps.elements())
        out["pre_start"] = steps.new([_step(item, path, number, named, networks, found) for number, item in each])
    alone = next((key for key in own if named.get(key) in _ALONE), None)
    if alone is not None:
        del out["networks"]
        out["network_mode"] = networks.new(named[alone]).under(own[alone] if own[alone].key_line else networks)
    else:
        kept = {DEFAULT if key in named else key: item for key, item in own.items()}
        out["networks"] = networks.new(kept)
    return service.new(out)


def _step(
    step: Node, path: str, number: int, named: Mapping[str, str], networks: Node, found: list[Diagnostic]
) -> Node:
    """What is wrong with networks that it has of its service is told of that."""
    own = step.get("networks")
    told = [] if own is None or plain(own) == plain(networks) else found
    return _service(step, f"{path}.pre_start[{number}]", named, told)


def _check(networks: Node, key: str, name: str, path: str, found: list[Diagnostic]) -> None:
    if name not in _ALONE:
        return
    place, item = f"{path}.networks.{key}", networks.get(key) or networks
    others = [(other, node) for other, node in networks.items() if other != key]
    if others:
        message = f'"{name}" is {_ALONE[name]}: there can be no other network beside it'
        related = tuple(place_of(node, f"network {other}", key=True) for other, node in others)
        found.append(diagnostic(item, place, message, hint=f"take out {key}, or the others", key=True, related=related))
    for written in _ADDRESSES:
        address = item.get(written)
        if address is not None and address.value:
            message = f'there is no {written} to be chosen on "{name}"'
            found.append(diagnostic(address, f"{place}.{written}", message, hint="take it out", key=True))
