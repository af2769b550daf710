"""The host's side of networks: bridges, their settings, the ports in them, and what the host routes already.

The functions of `HostLinks` block in the kernel and are called on the netlink thread only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import rtnetlink as rt
from orchestrator.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from orchestrator.kernel.rtnetlink import Link
from orchestrator.network.addressing import Ipv4Subnet, mac_for
from orchestrator.values import frozen

_FAMILY = socket.AF_INET
_NAMESPACE = "/proc/thread-self/ns/net"
_IPV4, _IPV6 = "/proc/sys/net/ipv4", "/proc/sys/net/ipv6"


@frozen
class HostNetwork:
    """A range that the host uses: by a route, or by an address of its own. `interface` "" when the route has none."""

    network: IPv4Network
    interface: str


class SubnetLock:
    """Keeps two supervisors from choosing the same subnet: flock(2) on the network namespace's own inode, which is shared
    by exactly those who could collide, and which no crash leaves behind."""

    def __init__(self) -> None:
        self._fd = os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)

    def try_lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)


def write_sysctl(path: str, value: str) -> None:
    """Set it if it is not so already. A missing file means that the kernel has no such protocol: nothing to set. Raises
    OSError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if os.read(fd, 64).strip() != value.encode():
            os.pwrite(fd, value.encode(), 0)
    finally:
        os.close(fd)


class HostLinks:
    """Links of the network namespace that the thread is in when this is made."""

    def __init__(self) -> None:
        self._sock = NetlinkSocket(NETLINK_ROUTE)
        self._deletion_group = 0x50790000 | os.getpid() & 0xFFFF

    def close(self) -> None:
        self._sock.close()

    def find(self, name: str) -> Link | None:
        return next(iter([rt.parse_link(body) for body in self._sock.ask(rt.get_link(name))]), None)

    def ports(self, bridge: Link) -> list[Link]:
        return [link for link in self._all(bridge.index) if link.master == bridge.index]

    def all(self) -> list[Link]:
        return self._all(0)

    def _all(self, master: int) -> list[Link]:
        return [rt.parse_link(body) for body in self._sock.ask(rt.get_links(master))]

    def networks(self, without: Iterable[str] = ()) -> list[HostNetwork]:
        """What the host has routes to or addresses in (all tables; default routes do not count), except by the interfaces
        named in `without`."""
        names = {link.index: link.name for link in self.all()}
        found = []
        for body in self._sock.ask(rt.get_routes(_FAMILY)):
            route = rt.parse_route(body)
            if route is not None:
                address, prefix, index = route
                found.append(HostNetwork(IPv4Network((address, prefix), strict=False), names.get(index, "")))
        for body in self._sock.ask(rt.get_addresses(_FAMILY)):
            own = rt.parse_address(body)
            found.append(HostNetwork(IPv4Network((own.ip, own.prefix), strict=False), names.get(own.index, "")))
        ignored = set(without)
        return [item for item in found if item.interface not in ignored]

    def addresses(self, link: Link) -> list[tuple[str, int]]:
        every = (rt.parse_address(body) for body in self._sock.ask(rt.get_addresses(_FAMILY)))
        return [(a.ip, a.prefix) for a in every if a.index == link.index]

    def make_bridge(self, name: str, subnet: Ipv4Subnet) -> Link:
        """The bridge `name` with the gateway's address, up. One that exists is brought to the same state. Raises OSError;
        a bridge that was begun is gone then."""
        made = self._sock.batch([rt.new_bridge(name, mac_for(str(subnet.gateway)))]) == [0]
        try:
            link = self.find(name)
            if link is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
            if link.kind != "bridge":
                raise OperationError(f'interface "{name}" exists and is not a bridge')
            self._settings(name)
            prefix = subnet.network.prefixlen
            requests = [
                rt.delete_address(_FAMILY, link.index, address, length)
                for address, length in self.addresses(link)
                if (address, length) != (str(subnet.gateway), prefix)
            ]
            requests += [
                rt.new_address(_FAMILY, link.index, str(subnet.gateway), prefix, subnet.broadcast),
                rt.link_up(link.index, name),
            ]
            self._sock.batch(requests)
            return link
        except BaseException:
            if made:
                self._sock.batch([rt.delete_link(name)])
            raise

    def _settings(self, name: str) -> None:
        # Before the link is up. Without IPv6 a container's router advertisements cannot reach the host (CVE-2020-13401).
        write_sysctl(f"{_IPV6}/conf/{name}/accept_ra", "0")
        write_sysctl(f"{_IPV6}/conf/{name}/disable_ipv6", "1")
        # Packets from 127.0.0.1 to a published port are translated and leave by the bridge; see firewall.py, "early".
        write_sysctl(f"{_IPV4}/conf/{name}/route_localnet", "1")
        # Left on afterwards, as Docker does: by then others may rely on it.
        write_sysctl(f"{_IPV4}/ip_forward", "1")

    def delete(self, names: Sequence[str]) -> None:
        """Delete links; those that are gone already do not matter. Several are deleted as one group."""
        if len(names) == 1:
            self._sock.batch([rt.delete_link(names[0])])
        elif names:
            self._sock.batch(
                [*(rt.set_group(name, self._deletion_group) for name in names), rt.delete_group(self._deletion_group)]
            )

    def new_veth(self, name: str, mac: str, bridge_index: int, peer: str, peer_mac: str, netns_fd: int) -> bool:
        """False if `name` exists here, or `peer` there. Raises OSError."""
        return self._sock.batch([rt.new_veth(name, bridge_index, peer, peer_mac, netns_fd, mac)]) == [0]

    def set_hairpin(self, name: str) -> None:
        self._sock.batch([rt.set_hairpin(name)])


def refused(exc: OSError, what: str) -> HostError:
    """`exc` as an error for the user."""
    if exc.errno in (errno.EPERM, errno.EACCES):
        return HostError(f"{what}: permission denied", hint="networks need root (CAP_NET_ADMIN)")
    if exc.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        hint = "the kernel needs bridge, veth and nf_tables (modules bridge, veth, nf_tables, nft_chain_nat, nft_fib_ipv4)"
        return HostError(f"{what}: {exc.strerror}", hint=hint)
    name = f": {exc.filename}" if exc.filename else ""
    return HostError(f"{what}{name}: {exc.strerror or exc}")
