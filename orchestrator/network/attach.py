"""Connecting one container: veth pairs from the bridges into its network namespace, or interfaces on one of the host's
(macvlan, ipvlan), addresses, the default route.

Hot path: one message per network on the host, then one batch inside. A namespace that is connected already (adoption) is
recognised: the host's end exists, and the interface inside is its peer. Called on the netlink thread only.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Interface

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.errors import HostError
from orchestrator.kernel import rtnetlink as rt
from orchestrator.kernel.netlink import NETLINK_ROUTE, NetlinkSocket, Request
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Network
from orchestrator.model.network_options import NetworkOptions, parse_options
from orchestrator.network.addressing import family_of
from orchestrator.network.bridge import READY_POLL_S, READY_S, HostLinks, write_sysctl
from orchestrator.network.endpoints import ways_out
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.veths import VethOwner
from orchestrator.values import frozen

_IPV6 = "/proc/sys/net/ipv6/conf"
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@frozen
class VethPair:
    """A pair to be made for one endpoint: the host's end in the bridge with index `bridge_index`. `hairpin`: the container
    can reach its own published ports; not for all, since it also hears its own broadcasts then. `isolated`: from others of
    the bridge that are isolated. `mtu` 0: the kernel's default. `guarded`: what the container sends must be its own.
    `mark`: whose it is, where the bridge does not say so."""

    owner: VethOwner
    bridge_index: int
    endpoint: Endpoint
    hairpin: bool = False
    isolated: bool = False
    mtu: int = 0
    guarded: bool = True
    mark: str = ""


@frozen
class Child:
    """An interface on `parent`, one of the host's, to be made for one endpoint. It has no end on the host, so no port that
    is guarded, and nothing to mark. `kind`: the driver, ``macvlan`` or ``ipvlan``."""

    endpoint: Endpoint
    kind: str
    parent: Link
    options: NetworkOptions

    @property
    def mac(self) -> str:
        """"": the parent's."""
        return self.endpoint.mac if self.kind == "macvlan" and self.options.mode != "passthru" else ""


Plug = VethPair | Child


def plug(
    network: Network,
    link: Link,
    owner: VethOwner,
    endpoint: Endpoint,
    *,
    hairpin: bool = False,
    isolated: bool = False,
    guarded: bool = True,
    mark: str = "",
) -> Plug:
    """How `endpoint` gets on `network`, whose bridge or parent is `link`; the rest as `VethPair` has it. `isolated`: as far
    as the network says so."""
    options = parse_options(network.driver, network.options)
    if network.driver == "bridge":
        apart = isolated and not options.icc
        return VethPair(owner, link.index, endpoint, hairpin, apart, options.mtu, guarded, mark)
    return Child(endpoint, network.driver, link, options)


def pairs_of(plugs: Iterable[Plug]) -> list[VethPair]:
    return [each for each in plugs if isinstance(each, VethPair)]


def connect(
    thread: NetlinkThread,
    links: HostLinks,
    netns_fd: int,
    plugs: Sequence[Plug],
    made_known: Callable[[tuple[str, ...]], None] | None = None,
) -> tuple[str, ...]:
    """Connect the namespace; returns the names of the host's ends, of `pairs_of(plugs)`. `made_known` is told them before
    an interface that is new carries anything: others may run in that namespace already. Idempotent. Raises OSError or
    HostError, also those of `made_known`; nothing that was made here is left then."""
    with thread.inside(netns_fd):
        # Interfaces made from here on have no IPv6 until they are told to (`_enable_ipv6`); ::1 on lo stays. No container
        # believes what another one says about routers (CVE-2020-13401).
        write_sysctl(f"{_IPV6}/default/accept_ra", "0")
        write_sysctl(f"{_IPV6}/default/disable_ipv6", "1")
        inside = NetlinkSocket(NETLINK_ROUTE)
    made: list[str] = []
    children: list[str] = []
    endpoints = [each.endpoint for each in plugs]
    with inside:
        try:
            for each in plugs:
                if isinstance(each, Child):
                    _make_child(links, inside, netns_fd, each, children)
            names = tuple(_make_pair(links, inside, netns_fd, pair, made) for pair in pairs_of(plugs))
            if made_known is not None:
                made_known(names)
            _enable_ipv6(thread, netns_fd, endpoints)
            _configure(inside, endpoints)
            links.await_carrier(names)
            _await_addresses(inside, endpoints)
        except BaseException:
            links.delete(made)
            inside.batch([rt.delete_link(name) for name in children])
            raise
    return names


@frozen
class Standing:
    """What a namespace has. `veths`: the names of the host's ends of those pairs that are as they should be. `strays`: the
    names inside of those of our children that are not."""

    veths: frozenset[str]
    strays: tuple[str, ...]


def standing(thread: NetlinkThread, links: HostLinks, netns_fd: int, plugs: Sequence[Plug]) -> Standing:
    """What of `plugs` is there, with just the addresses that it should have."""
    with thread.inside(netns_fd):
        inside = NetlinkSocket(NETLINK_ROUTE)
    veths, children = set(), set()
    with inside:
        every = [rt.parse_address(body) for family in _FAMILIES for body in inside.ask(rt.get_addresses(family))]
        present = {link.name: link for link in map(rt.parse_link, inside.ask(rt.get_links()))}
    for each in plugs:
        inner = present.get(each.endpoint.interface)
        if inner is None:
            continue
        wanted = {(a.ip, a.prefix) for a in each.endpoint.addresses if not _is_made(a.ip)}
        if wanted != {(a.ip, a.prefix) for a in every if a.index == inner.index and not _is_made(a.ip)}:
            continue
        if isinstance(each, Child):
            children |= {inner.name} if _is_child(inner, each) else set()
            continue
        for name in each.owner.names():
            outer = links.find(name)
            if outer and each.owner.owns(outer) and _is_pair(outer, inner, each):
                veths.add(name)
    # One that the container has made is on an interface of its own.
    made = [link.name for link in present.values() if link.kind in rt.CHILD_MODES and link.away]
    return Standing(frozenset(veths), tuple(name for name in made if name not in children))


def _is_made(ip: str) -> bool:
    """By the kernel: a link-local address of IPv6. Those that the stack writes are not told from them, and do not count."""
    return ip.startswith("fe80:")


def unplug(thread: NetlinkThread, netns_fd: int, interfaces: Sequence[str]) -> None:
    """Take children away, by their names inside; what is gone already does not matter. Raises OSError."""
    if not interfaces:
        return
    with thread.inside(netns_fd):
        inside = NetlinkSocket(NETLINK_ROUTE)
    with inside:
        inside.batch([rt.delete_link(name) for name in interfaces])


def _make_child(links: HostLinks, inside: NetlinkSocket, netns_fd: int, child: Child, made: list[str]) -> None:
    endpoint, found = child.endpoint, _find(inside, child.endpoint.interface)
    if found is not None and found.kind == child.kind:
        if _is_child(found, child):
            return
        inside.batch([rt.delete_link(found.name)])
    if not links.new_child(child.kind, child.parent, child.options, endpoint.interface, child.mac, netns_fd):
        raise HostError(f'the network namespace has an interface "{endpoint.interface}" already')
    made.append(endpoint.interface)


def _is_child(inner: Link, child: Child) -> bool:
    own = child.mac in ("", inner.mac)
    return own and inner.kind == child.kind and inner.peer == child.parent.index and inner.away


def _enable_ipv6(thread: NetlinkThread, netns_fd: int, endpoints: Sequence[Endpoint]) -> None:
    wanted = [e.interface for e in endpoints if any(family_of(a.ip) == socket.AF_INET6 for a in e.addresses)]
    if wanted:
        with thread.inside(netns_fd):
            for interface in wanted:
                write_sysctl(f"{_IPV6}/{interface}/accept_redirects", "0")
                # Nobody asks whether an address is free: that takes a second, and we know it.
                write_sysctl(f"{_IPV6}/{interface}/accept_dad", "0")
                write_sysctl(f"{_IPV6}/{interface}/disable_ipv6", "0")


def _make_pair(links: HostLinks, inside: NetlinkSocket, netns_fd: int, pair: VethPair, made: list[str]) -> str:
    """The name of the host's end, under the first name that nobody else has."""
    for name in pair.owner.names():
        if not _new(links, name, pair, netns_fd):
            outer = links.find(name)
            inner = _find(inside, pair.endpoint.interface)
            if outer is not None and inner is not None and _is_pair(outer, inner, pair):
                return name
            if outer is None or not pair.owner.owns(outer):
                continue  # that name is another container's, or our interface inside is the end of a later name
            # The other end is in a namespace that is dying, or is not as the record says.
            links.delete([name])
            if not _new(links, name, pair, netns_fd):
                continue
        made.append(name)
        if pair.hairpin or pair.isolated:
            links.set_port(name, pair.hairpin, pair.isolated)
        if pair.mark:
            links.mark(name, pair.mark)
        return name
    interface = pair.endpoint.interface
    raise HostError(
        f'no interface "{interface}" can be made for container "{pair.owner.container}"',
        hint="all names for it are taken by other interfaces, or its network namespace has one of that name already",
    )


def _new(links: HostLinks, name: str, pair: VethPair, netns_fd: int) -> bool:
    endpoint = pair.endpoint
    return links.new_veth(name, pair.owner.mac, pair.bridge_index, endpoint.interface, endpoint.mac, netns_fd, pair.mtu)


def _is_pair(outer: Link, inner: Link, pair: VethPair) -> bool:
    """Indexes are unique within a namespace only, so both directions and the MAC must agree."""
    return (
        outer.master == pair.bridge_index
        and inner.mac == pair.endpoint.mac
        and inner.peer == outer.index
        and outer.peer == inner.index
    )


def _find(sock: NetlinkSocket, name: str) -> Link | None:
    return next(iter([rt.parse_link(body) for body in sock.ask(rt.get_link(name))]), None)


def _configure(inside: NetlinkSocket, endpoints: Sequence[Endpoint]) -> None:
    requests: list[Request] = [rt.link_up(rt.LOOPBACK_INDEX, "lo")]
    indexes: dict[NetworkName, int] = {}
    for endpoint in endpoints:
        link = _find(inside, endpoint.interface)
        if link is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), endpoint.interface)
        requests += [_new_address(link.index, address) for address in endpoint.addresses]
        requests.append(rt.link_up(link.index, endpoint.interface))
        indexes[endpoint.network] = link.index
    for family in _FAMILIES:
        if (way := ways_out(endpoints, family)) is not None:
            out, address = way
            requests.append(rt.new_default_route(family, address.gateway, indexes[out.network]))
    last = time.monotonic() + READY_S
    while True:
        try:
            inside.batch(requests)
            return
        except OSError as exc:
            # A child goes up when no other one of its parent has the MAC (drivers/net/macvlan.c, macvlan_open), and the one
            # before us may be in a namespace that the kernel is about to take away.
            if exc.errno != errno.EADDRINUSE or time.monotonic() > last:
                raise
        time.sleep(READY_POLL_S)


def _await_addresses(inside: NetlinkSocket, endpoints: Sequence[Endpoint]) -> None:
    """Until packets to them are taken: the kernel makes the route to an IPv6 address of ours in a work item of its own
    (net/ipv6/addrconf.c, addrconf_dad_work), though nobody is asked whether the address is free."""
    wanted = [a.ip for endpoint in endpoints for a in endpoint.addresses if family_of(a.ip) == socket.AF_INET6]
    last = time.monotonic() + READY_S
    for ip in wanted:
        while not any(map(rt.is_local, inside.ask(rt.get_route_to(socket.AF_INET6, ip)))) and time.monotonic() < last:
            time.sleep(READY_POLL_S)


def _new_address(index: int, address: Address) -> Request:
    family = family_of(address.ip)
    broadcast = ""
    if family == socket.AF_INET:
        broadcast = str(IPv4Interface(f"{address.ip}/{address.prefix}").network.broadcast_address)
    return rt.new_address(family, index, address.ip, address.prefix, broadcast)
