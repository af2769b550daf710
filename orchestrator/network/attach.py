"""Wiring one container: veth pairs from the bridges into its network namespace, addresses, the default route.

Hot path: one message per network on the host, then one batch inside. A namespace that is wired already (adoption) is
recognised: the host's end exists, and the interface inside is its peer. Called on the netlink thread only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from ipaddress import IPv4Interface

from orchestrator.contracts.network import Endpoint
from orchestrator.errors import HostError
from orchestrator.kernel import netlink as nl
from orchestrator.kernel.netlink import Link, NetlinkSocket
from orchestrator.network.bridge import HostLinks, write_sysctl
from orchestrator.network.thread import NetlinkThread
from orchestrator.values import frozen

_NEW_INTERFACES = "/proc/sys/net/ipv6/conf/default"


@frozen
class Cable:
    """One endpoint to be wired: the host's end `veth`, in the bridge with index `bridge_index`. `hairpin`: the container
    can reach its own published ports; not for all, since it also hears its own broadcasts then."""

    veth: str
    bridge_index: int
    endpoint: Endpoint
    hairpin: bool = False


def wire(thread: NetlinkThread, links: HostLinks, netns_fd: int, cables: Sequence[Cable]) -> None:
    """Connect the namespace. Idempotent. Raises OSError or HostError; no veth that was made here is left then."""
    with thread.inside(netns_fd):
        # Our networks are IPv4: interfaces made from here on have no IPv6, so no autoconfiguration and no router
        # advertisements (CVE-2020-13401) either; ::1 on lo stays.
        write_sysctl(f"{_NEW_INTERFACES}/accept_ra", "0")
        write_sysctl(f"{_NEW_INTERFACES}/disable_ipv6", "1")
        inside = NetlinkSocket(nl.NETLINK_ROUTE)
    made: list[str] = []
    with inside:
        try:
            for cable in cables:
                _plug(links, inside, netns_fd, cable, made)
            _configure(inside, [cable.endpoint for cable in cables])
        except BaseException:
            links.delete(made)
            raise


def _plug(links: HostLinks, inside: NetlinkSocket, netns_fd: int, cable: Cable, made: list[str]) -> None:
    endpoint = cable.endpoint
    if not _new(links, cable, netns_fd):
        outer = links.find(cable.veth)
        inner = _find(inside, endpoint.interface)
        if outer is not None and inner is not None and _is_pair(outer, inner, endpoint, cable):
            return
        # The other end is in a namespace that is dying, or is not as the record says.
        links.delete([cable.veth])
        if not _new(links, cable, netns_fd):
            raise HostError(f'interface "{cable.veth}" exists and cannot be replaced')
    made.append(cable.veth)
    if cable.hairpin:
        links.set_hairpin(cable.veth)


def _new(links: HostLinks, cable: Cable, netns_fd: int) -> bool:
    endpoint = cable.endpoint
    return links.new_veth(cable.veth, cable.bridge_index, endpoint.interface, endpoint.mac, netns_fd)


def _is_pair(outer: Link, inner: Link, endpoint: Endpoint, cable: Cable) -> bool:
    """Indexes are unique within a namespace only, so both directions and the MAC must agree."""
    return (
        outer.master == cable.bridge_index
        and inner.mac == endpoint.mac
        and inner.peer == outer.index
        and outer.peer == inner.index
    )


def _find(sock: NetlinkSocket, name: str) -> Link | None:
    return next(iter([nl.parse_link(body) for body in sock.ask(nl.get_link(name))]), None)


def _configure(inside: NetlinkSocket, endpoints: Sequence[Endpoint]) -> None:
    requests = [nl.link_up(nl.LOOPBACK_INDEX, "lo")]
    way_out: nl.Request | None = None
    for endpoint in endpoints:
        link = _find(inside, endpoint.interface)
        if link is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), endpoint.interface)
        broadcast = str(IPv4Interface(f"{endpoint.address}/{endpoint.prefix}").network.broadcast_address)
        requests.append(nl.new_address(link.index, endpoint.address, endpoint.prefix, broadcast))
        requests.append(nl.link_up(link.index, endpoint.interface))
        if way_out is None and not endpoint.internal:
            way_out = nl.new_default_route(endpoint.gateway, link.index)
    inside.batch([*requests, way_out] if way_out is not None else requests)
