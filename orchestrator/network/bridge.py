"""The host's side of networks: bridges, their settings, the ports in them, and what the host routes already.

The functions of `HostLinks` block in the kernel and are called on the netlink thread only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import rtnetlink as rt
from orchestrator.kernel.netlink import NETLINK_ROUTE, NetlinkSocket, Request
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.network_options import NetworkOptions
from orchestrator.model.subnets import AddressRange
from orchestrator.network.addressing import Occupied, family_of, mac_for

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_NAMESPACE = "/proc/thread-self/ns/net"
_IPV4, _IPV6 = "/proc/sys/net/ipv4", "/proc/sys/net/ipv6"

READY_S = 0.5
"""How long for the kernel's work items. It does not have to come: the container may have been killed meanwhile."""
READY_POLL_S = 0.001
_GONE = Link(0, "", "", 0, 0, False)

_NO_OPTIONS = NetworkOptions()


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


def has_ipv6() -> bool:
    """Whether the kernel has it at all; switched off by sysctl does not count."""
    return os.path.isdir(f"{_IPV6}/conf")


def _forward_ipv6() -> None:
    """Left on afterwards, as `ip_forward` is. A host that forwards takes no router advertisements any more unless told to
    (``accept_ra=2``), and would lose its own way out by them."""
    if _read(f"{_IPV6}/conf/all/forwarding") == "1":
        return
    for name in ["default", *os.listdir(f"{_IPV6}/conf")]:
        path = f"{_IPV6}/conf/{name}"
        if name != "all" and _read(f"{path}/accept_ra") == "1" and _read(f"{path}/forwarding") == "0":
            write_sysctl(f"{path}/accept_ra", "2")
    write_sysctl(f"{_IPV6}/conf/all/forwarding", "1")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class HostLinks:
    """Links of the network namespace that the thread is in when this is made."""

    def __init__(self) -> None:
        self._sock = NetlinkSocket(NETLINK_ROUTE)
        self._deletion_group = 0x50790000 | os.getpid() & 0xFFFF

    def close(self) -> None:
        self._sock.close()

    def find(self, name: str) -> Link | None:
        return next(iter([rt.parse_link(body) for body in self._sock.ask(rt.get_link(name))]), None)

    def await_carrier(self, names: Iterable[str]) -> None:
        """Until these, and the bridges that they are ports of, carry packets. That the other end is up is told to an
        interface and then to its bridge in work items of the kernel's own (net/core/link_watch.c), and what is sent before
        is dropped; asking about an interface runs its item at once since Linux 6.9."""
        last = time.monotonic() + READY_S
        bridges = {self._await(rt.get_link(name), last).master for name in names}
        for index in sorted(bridges - {0}):
            self._await(rt.get_link_at(index), last)

    def _await(self, question: Request, last: float) -> Link:
        while True:
            found = [rt.parse_link(body) for body in self._sock.ask(question)]
            if not found or found[0].working or time.monotonic() > last:
                return found[0] if found else _GONE
            time.sleep(READY_POLL_S)

    def ports(self, bridge: Link) -> list[Link]:
        return [link for link in self._all(bridge.index) if link.master == bridge.index]

    def all(self) -> list[Link]:
        return self._all(0)

    def _all(self, master: int) -> list[Link]:
        return [rt.parse_link(body) for body in self._sock.ask(rt.get_links(master))]

    def occupied(self, without: Iterable[str] = ()) -> list[Occupied]:
        """What the host has addresses in or routes to (all tables; default routes do not count), its addresses and its
        routers themselves, of both families, but not by the interfaces named in `without`."""
        names = {link.index: link.name for link in self.all()}
        found = []
        for family in _FAMILIES:
            for body in self._sock.ask(rt.get_addresses(family)):
                own = rt.parse_address(body)
                found.append(Occupied(ip_network((own.ip, own.prefix), strict=False), names.get(own.index, "")))
                found.append(Occupied(ip_network(own.ip), names.get(own.index, "")))
            for body in self._sock.ask(rt.get_routes(family)):
                route = rt.parse_route(body)
                if route is not None:
                    subnet = ip_network(route[:2], strict=False)
                    found.append(Occupied(subnet, names.get(route[2], ""), attached=False))
                if (router := rt.parse_gateway(body)) is not None:
                    found.append(Occupied(ip_network(router[0]), names.get(router[1], ""), attached=False))
        ignored = set(without)
        return [item for item in found if item.interface not in ignored]

    def addresses(self, link: Link) -> list[tuple[str, int]]:
        """Without link-local ones of IPv6, which the kernel makes."""
        every = [rt.parse_address(body) for family in _FAMILIES for body in self._sock.ask(rt.get_addresses(family))]
        return [(a.ip, a.prefix) for a in every if a.index == link.index and not a.ip.startswith("fe80:")]

    def make_bridge(
        self, name: str, ranges: Sequence[AddressRange], options: NetworkOptions = _NO_OPTIONS, mark: str = ""
    ) -> Link:
        """The bridge `name` with the gateways' addresses, up. One that exists is brought to the same state. `mark`: whose
        it is, for one with a name that does not say so. Raises OSError; a bridge that was begun is gone then."""
        made = self._sock.batch([rt.new_bridge(name, mac_for(str(ranges[0].gateway)), options.mtu)]) == [0]
        try:
            link = self.find(name)
            if link is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
            if link.kind != "bridge":
                raise OperationError(f'interface "{name}" exists and is not a bridge')
            self._settings(name, ipv6=any(item.version == 6 for item in ranges))
            wanted = {(str(item.gateway), int(item.network.prefixlen)): item for item in ranges}
            requests = [
                rt.delete_address(family_of(address), link.index, address, length)
                for address, length in self.addresses(link)
                if (address, length) not in wanted
            ]
            requests += [
                rt.new_address(family_of(address), link.index, address, length, item.broadcast)
                for (address, length), item in wanted.items()
            ]
            requests += [rt.set_alias(name, mark)] if mark else []
            requests += [rt.forward_groups(name), rt.link_up(link.index, name)]
            self._sock.batch(requests)
            return link
        except BaseException:
            if made:
                self._sock.batch([rt.delete_link(name)])
            raise

    def _settings(self, name: str, ipv6: bool) -> None:
        # Before the link is up. A container's router advertisements and redirects are not for the host (CVE-2020-13401).
        write_sysctl(f"{_IPV6}/conf/{name}/accept_ra", "0")
        write_sysctl(f"{_IPV6}/conf/{name}/accept_redirects", "0")
        write_sysctl(f"{_IPV4}/conf/{name}/accept_redirects", "0")
        if ipv6:
            write_sysctl(f"{_IPV6}/conf/{name}/accept_dad", "0")
            write_sysctl(f"{_IPV6}/conf/{name}/disable_ipv6", "0")
            _forward_ipv6()
        else:
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

    def new_veth(
        self, name: str, mac: str, bridge_index: int, peer: str, peer_mac: str, netns_fd: int, mtu: int = 0
    ) -> bool:
        """False if `name` exists here, or `peer` there. Raises OSError."""
        return self._sock.batch([rt.new_veth(name, bridge_index, peer, peer_mac, netns_fd, mac, mtu)]) == [0]

    def require(self, name: str, place: str) -> Link:
        """The interface; raises OperationError at `place` when there is none."""
        found = self.find(name)
        if found is None:
            hint = "`ip link` shows those that there are"
            raise OperationError(f'this machine has no interface "{name}"', hint=hint, place=place)
        return found

    def mark(self, name: str, mark: str) -> None:
        self._sock.batch([rt.set_alias(name, mark)])

    def new_child(self, kind: str, parent: Link, options: NetworkOptions, name: str, mac: str, netns_fd: int) -> bool:
        """False if `name` exists there. `mac` "": the kernel's. Raises OSError; HostError where the kernel has no
        such interfaces."""
        mode, flag = rt.CHILD_MODES[kind][options.mode], rt.CHILD_FLAGS[options.flag]
        request = rt.new_child(kind, name, parent.index, netns_fd, mode, flag, mac, options.mtu)
        try:
            return self._sock.batch([request]) == [0]
        except OSError as exc:
            if exc.errno != errno.EOPNOTSUPP:
                raise
            hint = f"it needs CONFIG_{kind.upper()}, usually as a module: `modprobe {kind}`; or use another network driver"
            raise HostError(f"this kernel has no {kind}", hint=hint) from exc

    def set_port(self, name: str, hairpin: bool, isolated: bool) -> None:
        self._sock.batch([rt.set_bridge_port(name, hairpin, isolated)])


def refused(exc: OSError, what: str) -> HostError:
    """`exc` as an error for the user."""
    if exc.errno in (errno.EPERM, errno.EACCES):
        return HostError(f"{what}: permission denied", hint="networks need root (CAP_NET_ADMIN)")
    if exc.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        hint = "the kernel needs bridge, veth and nf_tables (modules bridge, veth, nf_tables, nft_chain_nat, nft_fib_ipv4)"
        return HostError(f"{what}: {exc.strerror}", hint=hint)
    name = f": {exc.filename}" if exc.filename else ""
    return HostError(f"{what}{name}: {exc.strerror or exc}")
