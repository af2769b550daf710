"""Whose namespaces a service's containers are in: ``network_mode``, ``pid``, ``ipc``, ``uts``, ``cgroup``, ``userns_mode``.

Source: compose-spec, and Docker's engine, which refuses at creation what excludes each other (moby,
daemon/container/hostconfig); here that is found when the stack is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic, place_of
from orchestrator.model.names import CONTAINER_NAME, NetworkName, ServiceName
from orchestrator.model.namespaces import PRIVATE, Namespace, Namespaces, Sharing
from orchestrator.model.network import Network
from orchestrator.model.service import Service

HOST, NONE = Namespace(Sharing.HOST), Namespace(Sharing.NONE)
_OWNERS = ("service", "container")
_WORDS: Mapping[str, Mapping[str, Namespace]] = {
    "network_mode": {"host": HOST, "none": NONE, "bridge": PRIVATE, "default": PRIVATE},
    "pid": {"host": HOST},
    "ipc": {"host": HOST, "none": NONE, "private": PRIVATE, "shareable": PRIVATE},
    "uts": {"host": HOST},
    "cgroup": {"host": HOST, "private": PRIVATE},
    "userns_mode": {"host": HOST},
}
"""What may be written, besides ``service:NAME`` and ``container:NAME`` of those in `_SHARED`."""
_SHARED = frozenset({"network_mode", "pid", "ipc"})
_OF_A_RUN = frozenset({"pid", "ipc"})
"""They end with their owner's run; the network lasts as long as its container."""
_OF_A_NETWORK = {
    "ports": "the ports are published by whose network it is",
    "expose": "it is in another's network",
    "hostname": "the host name is that of whose network it is",
    "domainname": "the domain name is that of whose network it is",
    "mac_address": "the address is that of whose network it is",
    "dns": "the resolver is that of whose network it is",
    "dns_search": "the resolver is that of whose network it is",
    "dns_opt": "the resolver is that of whose network it is",
    "extra_hosts": "the hosts file is that of whose network it is",
    "links": "it is on no network of its own",
    "external_links": "it is on no network of its own",
}
"""What cannot stand beside another's network, and why."""
DEFAULT = NetworkName("default")


def namespaces(read: Reader, node: Node, path: str) -> Namespaces:
    """Those of a service; what excludes each other is found."""
    found = {key: _namespace(read, node, path, key) for key in _WORDS}
    network, uts = found["network_mode"], found["uts"]
    if network.sharing in (Sharing.SERVICE, Sharing.CONTAINER):
        for key, why in _OF_A_NETWORK.items():
            _exclude(read, node, path, key, "network_mode", why)
    if uts.sharing is Sharing.HOST:
        for key in ("hostname", "domainname"):
            _exclude(read, node, path, key, "uts", "the host name is the machine's")
    if network.sharing is Sharing.HOST:
        for key in ("links", "external_links"):
            _exclude(read, node, path, key, "network_mode", "it is on no network of its own")
    return Namespaces(
        network=network,
        pid=found["pid"],
        ipc=found["ipc"],
        uts=uts,
        cgroup=found["cgroup"],
        user=HOST if read.flag(node, path, "privileged") else found["userns_mode"],
    )


def _namespace(read: Reader, node: Node, path: str, key: str) -> Namespace:
    item = node.get(key)
    text = go_text(item.value) if item is not None else ""
    if item is None or not text:
        return PRIVATE
    if (known := _WORDS[key].get(text)) is not None:
        return known
    kind, colon, name = text.partition(":")
    place = f"{path}.{key}"
    if not (colon and kind in _OWNERS and key in _SHARED):
        *words, last = (*_WORDS[key], *(f"{owner}:NAME" for owner in _OWNERS if key in _SHARED))
        hint = f"write {', '.join(words)} or {last}" if words else f"write {last}"
        read.error(item, place, f'"{text}" is not a value of {key}', hint)
        return PRIVATE
    if kind == "service":
        if name not in services_of(read.model):  # `service_rules` says so.
            return PRIVATE
        if key in _OF_A_RUN and (wait := at(node, "depends_on", name, "condition")) is not None:
            _check_that_it_runs(read, item, place, name, wait)
        return Namespace(Sharing.SERVICE, name)
    if re.fullmatch(CONTAINER_NAME, name) is None:
        read.error(item, place, f'"{name}" is not a container name', "letters, digits, and then also . _ -")
        return PRIVATE
    return Namespace(Sharing.CONTAINER, name)


def _check_that_it_runs(read: Reader, item: Node, place: str, owner: str, condition: Node) -> None:
    if condition.value != "service_completed_successfully":
        return
    message = f'"{owner}" does not run any more when this starts: it is waited for until it has ended'
    hint = f"share that of a service that runs, or wait for {owner} with service_started or service_healthy"
    related = (place_of(condition, f"depends_on.{owner}.condition"),)
    read.error(item, place, message, hint, related=related)


def _exclude(read: Reader, node: Node, path: str, key: str, mode: str, why: str) -> None:
    item, other = node.get(key), node.get(mode)
    if item is None or not item.value or other is None:
        return
    message = f"{key} and {mode}: {go_text(other.value)} exclude each other: {why}"
    read.error(item, f"{path}.{key}", message, f"take it out, or {mode}", related=(place_of(other, mode, key=True),))


def is_on_default(node: Node) -> bool:
    """Docker's ``bridge`` is here the project's default network."""
    mode = node.get("network_mode")
    return mode is not None and go_text(mode.value) in ("bridge", "default")


def implied_networks(
    project: str, services: Mapping[ServiceName, Service], known: Mapping[NetworkName, Network]
) -> dict[NetworkName, Network]:
    """The default network, for who is on it by its ``network_mode``."""
    if DEFAULT in known or not any(DEFAULT in service.networks for service in services.values()):
        return {}
    return {DEFAULT: Network(DEFAULT, f"{project}_{DEFAULT}")}


def discarded_ports(model: Node) -> list[Diagnostic]:
    """Warnings, as Docker has them, and where Docker says nothing: on networks that have no address of the host's."""
    found = []
    for name, service in services_of(model).items():
        mode, ports = service.get("network_mode"), service.get("ports")
        text = go_text(mode.value) if mode is not None else ""
        if ports is None or not ports.value:
            continue
        drivers = _drivers(model, service)
        if text in ("host", "none"):
            message = f"published ports are discarded when using {text} network mode"
        elif not text and drivers and drivers <= {"macvlan", "ipvlan"}:
            message = f"published ports are discarded: {name} is on {' and '.join(sorted(drivers))} networks only"
        else:
            continue
        found.append(diagnostic(ports, f"services.{name}.ports", message, key=True, code="ignored"))
    return found


def _drivers(model: Node, service: Node) -> set[str]:
    """Those of the networks that a service is on."""
    joined, networks = service.get("networks"), model.get("networks")
    names = [name for name, _ in joined.items()] if joined is not None else []
    nodes = [networks.get(name) if networks is not None else None for name in names]
    drivers = [node.get("driver") if node is not None else None for node in nodes]
    return {go_text(driver.value) if driver is not None else "bridge" for driver in drivers}


def parent_cgroup(read: Reader, node: Node, path: str) -> str:
    """``cgroup_parent``: a path below the root of each cgroup hierarchy, without its slashes at both ends."""
    item = node.get("cgroup_parent")
    text = go_text(item.value) if item is not None else ""
    if item is None or not text:
        return ""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    place = f"{path}.cgroup_parent"
    if ".." in parts:
        read.error(item, place, f'"{text}" leads out of the cgroup hierarchy', "write a path below its root: /apps")
    elif not parts or any(re.fullmatch(r"[\w.@:\\-]+", part) is None or len(part) > 255 for part in parts):
        read.error(item, place, f'"{text}" is not the path of a cgroup', "write a name, or a path below the root: /apps")
    elif any(part.startswith(_CONTROL_FILES) for part in parts):
        read.error(item, place, f'"{text}" has the name of one of the kernel\'s own files', "choose another name")
    else:
        return "/".join(parts)
    return ""


_CONTROL_FILES = ("cgroup.", "memory.", "pids.", "cpu.", "cpuset.", "io.", "blkio.", "devices.", "freezer.", "hugetlb.")
