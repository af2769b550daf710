"""What is recorded of a network that exists, what the firewall is told of it, and what it cannot become."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from orchestrator.errors import OperationError
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Network
from orchestrator.model.network_options import NetworkOptions, parse_options
from orchestrator.model.subnets import AddressRange, overlap
from orchestrator.network.addressing import Occupied, family_of
from orchestrator.network.firewall import Bridge, Translation
from orchestrator.network.record import Recorded
from orchestrator.network.resolver import DNS_PORT

FAMILIES: dict[int, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
"""By version of the protocol."""


def record_of(ranges: Sequence[AddressRange], network: Network, bridge: str, server: str) -> Recorded:
    return Recorded(tuple(ranges), network.internal, bridge, network.driver, network.options, server)


def options_of(item: Network | Recorded) -> NetworkOptions:
    return parse_options(item.driver, item.options)


def is_bridged(item: Network | Recorded) -> bool:
    """This machine makes it; else its containers have interfaces on one of the host's."""
    return item.driver == "bridge"


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


def check_free(key: NetworkName, wanted: AddressRange, occupied: Iterable[Occupied]) -> None:
    """Raises OperationError, with the place, for a range of the stack's that is `taken_by` something."""
    if (item := taken_by(wanted, occupied)) is not None:
        from orchestrator.network.port_owner import project_of_bridge

        message, hint = f"{wanted.network} overlaps {item} on this host", "choose another subnet, or leave it out"
        if project := project_of_bridge(item.interface):
            message = f"{wanted.network} overlaps {item.network}, a network of pystack project {project}"
            hint = f"`pystack -p {project} down`, {hint}"
        raise OperationError(
            message,
            hint=hint,
            place=f"networks.{key}.ipam.config[0].subnet",
        )


def taken_by(wanted: AddressRange, occupied: Iterable[Occupied]) -> Occupied | None:
    """What keeps a range from being used that somebody has chosen. It may lie inside a wider one (10.0.0.0/8 by a VPN): who
    chose it knows. It may not cover what the host reaches by a route as narrow or narrower (its own addresses and its
    routers among it), nor be a part of another network of ours."""
    for item in occupied:
        wider = item.network.prefixlen < wanted.network.prefixlen and not item.interface.startswith("psb")
        if overlap(wanted.network, item.network) and not wider:
            return item
    return None


def dns_translations(ranges: Sequence[AddressRange], sockets: Sequence[socket.socket]) -> tuple[Translation, ...]:
    """To a name server with these `sockets`. Containers may publish port 53 on all addresses: questions to the bridge go
    to the server all the same."""
    gateway = str(ranges[0].gateway)
    return tuple(
        Translation(protocol, gateway, DNS_PORT, gateway, int(sock.getsockname()[1]))
        for protocol, sock in zip(("udp", "tcp"), sockets, strict=True)
    )


def shape(network: Network) -> tuple[object, ...]:
    """What a network that exists cannot have changed."""
    return network.subnets, network.ipv4, network.ipv6, network.driver, network.options


def changed_range(key: NetworkName, now: Sequence[AddressRange], network: Network) -> OperationError:
    wanted = " and ".join(
        item.subnet + (f", gateway {item.gateway}" if item.gateway else "") for item in network.subnets
    )
    is_now = " and ".join(f"{item.network}, gateway {item.gateway}" for item in now)
    return OperationError(
        f"networks.{key}: the network is {is_now}, and the stack now wants {wanted or 'one from the pool'}",
        hint="take the project down first; running containers cannot change their network",
    )
