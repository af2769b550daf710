"""What is recorded of a network that exists, and what the firewall is told of it."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from orchestrator.model.network import Network
from orchestrator.model.network_options import NetworkOptions, parse_options
from orchestrator.model.subnets import AddressRange, overlap
from orchestrator.network.addressing import Occupied, family_of
from orchestrator.network.firewall import Bridge
from orchestrator.network.record import Recorded

FAMILIES: dict[int, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
"""By version of the protocol."""


def record_of(ranges: Sequence[AddressRange], network: Network, bridge: str, server: str) -> Recorded:
    return Recorded(tuple(ranges), network.internal, bridge, network.driver, network.options, server)


def options_of(item: Network | Recorded) -> NetworkOptions:
    return parse_options(item.driver, item.options)


def bridges_of(name: str, item: Recorded, shared: bool = False) -> list[Bridge]:
    """What the rules of each family need to know of a network."""
    options, found = options_of(item), []
    for version, family in FAMILIES.items():
        subnet = next((each.network for each in item.ranges if each.version == version), None)
        if subnet is None:
            found.append(Bridge(name, "", 0, item.internal, family, shared=shared))
            continue
        masquerade = options.masquerade if version == 4 else options.masquerade6
        start = str(subnet.network_address)
        server = item.resolver if item.resolver and family_of(item.resolver) == family else ""
        found.append(
            Bridge(name, start, subnet.prefixlen, item.internal, family, masquerade, options.icc, server, shared)
        )
    return found


def taken_by(wanted: AddressRange, occupied: Iterable[Occupied]) -> Occupied | None:
    """What keeps a range from being used that somebody has chosen. It may lie inside a wider one (10.0.0.0/8 by a VPN): who
    chose it knows. It may not cover what the host reaches by a route as narrow or narrower, nor be a part of another
    network of ours."""
    for item in occupied:
        wider = item.network.prefixlen < wanted.network.prefixlen and not item.interface.startswith("psb")
        if overlap(wanted.network, item.network) and not wider:
            return item
    return None
