"""What the host's network looks like, for explanations: ``doctor`` tells which of our subnets something else claims too.

A VPN that comes up after a network was made may route the same range: then containers, or the VPN's hosts, cannot be
reached, and nothing says why. This module is the only home of pyroute2, which knows every kind of route, rule and
interface, but takes 120 ms and 25 MB to import: that is fine for ``doctor``, and the reason why choosing a subnet
(`bridge.HostLinks.networks`) and everything else that `up` waits for packs its few messages itself. pyroute2 has no types:
values are checked here.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from orchestrator.errors import HostError
from orchestrator.values import frozen


@frozen
class Route:
    """A route to a network. `table`: 254 is the main one; VPNs use others."""

    network: IPv4Network
    interface: str
    table: int


@frozen
class Conflict:
    """`subnet`, which is on our bridge, overlaps `other`."""

    bridge: str
    subnet: IPv4Network
    other: Route

    @property
    def harmless(self) -> bool:
        """The other one is wider: the bridge's own route wins, so all containers are reached, and so is what is behind the
        other one, except hosts with just these addresses. Where all ranges are behind such routes, no network is better."""
        return self.other.network.prefixlen < self.subnet.prefixlen

    def __str__(self) -> str:
        by = f" by {self.other.interface}" if self.other.interface else ""
        return f"{self.bridge}: {self.subnet} overlaps the route to {self.other.network}{by} (table {self.other.table})"


def conflicts(routes: list[Route], prefix: str = "psb") -> list[Conflict]:
    """Pure: each bridge's own subnet against all routes by other interfaces. Between two of our bridges it is told once."""
    ours = [route for route in routes if route.interface.startswith(prefix)]
    found = []
    for route in ours:
        for other in routes:
            apart = other.interface == route.interface or not route.network.overlaps(other.network)
            told = other.interface.startswith(prefix) and other.interface < route.interface
            if not apart and not told:
                found.append(Conflict(route.interface, route.network, other))
    return found


def find_conflicts() -> list[Conflict]:
    """The conflicts on this host, now. Blocks for about 150 ms. Raises HostError when the kernel refuses to tell."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        return conflicts(_routes())
    except (OSError, NetlinkError) as exc:
        raise HostError(f"the routes of this machine cannot be read: {exc}") from exc


def _routes() -> list[Route]:
    """All IPv4 routes to networks, default routes left out."""
    from pyroute2 import IPRoute

    unicast = 1
    found = []
    with IPRoute() as ip:
        names = {int(link["index"]): str(link.get("ifname", "")) for link in ip.get_links()}
        for route in ip.get_routes(family=2):
            destination, length = route.get("dst"), int(route["dst_len"])
            if int(route["type"]) == unicast and destination and length:
                network = IPv4Network(f"{str(destination).partition('/')[0]}/{length}", strict=False)
                found.append(Route(network, names.get(int(route.get("oif") or 0), ""), int(route.get("table", 0))))
    return found
