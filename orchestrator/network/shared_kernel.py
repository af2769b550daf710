"""What a shared network is in the kernel: a bridge, and nft tables of its own, beside those of the projects that are on it.

Made by whoever needs it first, and again by the next one if it is gone (after a reboot nothing is there); the rules are
those that a project has for a bridge of its own. Removed with the network only. Everything here blocks in the kernel, and
is called with the network's lock held.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import ProjectKey, bridge_mark
from orchestrator.model.network_options import parse_options
from orchestrator.network.addressing import Occupied
from orchestrator.network.bridge import HostLinks, has_ipv6
from orchestrator.network.firewall import Bridge, Firewall
from orchestrator.network.record import Recorded
from orchestrator.network.rules import bridges_of, taken_by
from orchestrator.network.shared_files import SharedFiles, SharedNetwork


def rules_of(network: SharedNetwork, bridge: str, shared: bool = False) -> list[Bridge]:
    """What the rules of each family need to know of it. `shared`: as for the table of a project."""
    known = Recorded(network.ranges, network.internal, bridge, network.driver, network.options)
    return bridges_of(bridge, known, shared)


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
            hint=f"make it again with another name for its bridge, after: pystack network rm {network.name}",
        )
    link = links.make_bridge(name, network.ranges, parse_options(network.driver, network.options), mark)
    if not (firewall.made and firewall.exists()):
        firewall.set_bridges(rules_of(network, name))
    return link


def _check_free(network: SharedNetwork, occupied: Sequence[Occupied]) -> None:
    for where in network.ranges:
        if (item := taken_by(where, occupied)) is not None:
            raise OperationError(
                f'network "{network.name}": {where.network} overlaps {item} on this host',
                hint=f"make it again with another subnet, after: pystack network rm {network.name}",
            )


def remove(files: SharedFiles, name: str) -> None:
    """Bridge and tables of the network `name`, whatever its record says; nothing happens if they are gone. Raises
    OSError."""
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
