"""What a shared network is in the kernel: a bridge, and nft tables of its own, beside those of the projects that are on it.

Made by whoever needs it first, and again by the next one if it is gone (after a reboot nothing is there); the rules are
those that a project has for a bridge of its own. Removed with the network only. Everything here blocks in the kernel, and
is called with the network's lock held.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import ProjectKey, bridge_mark
from orchestrator.model.network_options import parse_options
from orchestrator.model.subnets import overlap
from orchestrator.network.addressing import Occupied
from orchestrator.network.bridge import HostLinks, has_ipv6
from orchestrator.network.firewall import Bridge, Firewall
from orchestrator.network.shared_files import SharedFiles, SharedNetwork

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def rules_of(network: SharedNetwork, bridge: str, shared: bool = False) -> list[Bridge]:
    """What the rules of each family need to know of it. `shared`: as for the table of a project."""
    options, found = parse_options(network.driver, network.options), []
    subnets = {item.version: item.network for item in network.ranges}
    for version, family in _FAMILIES.items():
        subnet = subnets.get(version)
        start, length = (str(subnet.network_address), subnet.prefixlen) if subnet is not None else ("", 0)
        masquerade = options.masquerade if version == 4 else options.masquerade6
        found.append(Bridge(bridge, start, length, network.internal, family, masquerade, options.icc, shared))
    return found


def make(links: HostLinks, firewall: Firewall, files: SharedFiles, network: SharedNetwork) -> Link:
    """The bridge, up, and the rules. Raises OperationError when the machine uses its subnet or its name for something else
    by now, HostError, OSError."""
    name, mark = files.bridge(network), files.mark(network.name)
    if network.has(6) and not has_ipv6():
        raise HostError(f'network "{network.name}": this kernel has no IPv6', hint="boot it without ipv6.disable=1")
    existing = links.find(name)
    if existing is None:
        _check_free(network, links.occupied())
    elif existing.alias != mark:
        raise OperationError(
            f'network "{network.name}": there is an interface "{name}" on this machine already',
            hint=f"make it with another name: pystack network rm {network.name}, and create it again",
        )
    link = links.make_bridge(name, network.ranges, parse_options(network.driver, network.options), mark)
    if not (firewall.made and firewall.exists()):
        firewall.set_bridges(rules_of(network, name))
    return link


def _check_free(network: SharedNetwork, occupied: Iterable[Occupied]) -> None:
    for item in occupied:
        for where in network.ranges:
            wider = item.network.prefixlen < where.network.prefixlen and not item.interface.startswith("psb")
            if overlap(where.network, item.network) and not wider:
                raise OperationError(
                    f'network "{network.name}" is {where.network}, and that overlaps {item} on this host',
                    hint=f"make it with another subnet: pystack network rm {network.name}, and create it again",
                )


def remove(files: SharedFiles, name: str) -> None:
    """Bridge and tables of the network `name`, whatever its record says; nothing happens if they are gone. Raises OSError."""
    links = HostLinks()
    try:
        mark = files.mark(name)
        found = links.all()
        bridges = {link.index: link.name for link in found if link.alias == mark}
        links.delete([*(link.name for link in found if link.master in bridges), *bridges.values()])
    finally:
        links.close()
    firewall = Firewall(files.table(name), publishes=False)
    try:
        firewall.remove()
    finally:
        firewall.close()


def attached(links: HostLinks, bridge: Link, key: ProjectKey) -> list[Link]:
    """The host's ends of the project's veth pairs in the bridge."""
    return [link for link in links.ports(bridge) if link.alias == bridge_mark(key)]
