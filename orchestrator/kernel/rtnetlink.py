"""Links, addresses and routes as messages of rtnetlink(7): requests to the kernel as values, and its answers parsed.

What differs between IPv4 and IPv6 takes a `family` (AF_INET, AF_INET6). Numbers are from linux/rtnetlink.h,
linux/if_link.h, linux/if_addr.h and linux/veth.h.
"""

from __future__ import annotations

import errno
import socket
import struct

from orchestrator.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    attr,
    attr_text,
    attr_u32,
    attributes,
    nest,
    text,
    u32,
)
from orchestrator.values import frozen

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFF_UP = 0x1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 20, 27, 28, 29, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE, IFLA_BR_GROUP_FWD_MASK = 1, 5, 9
_ALL_GROUPS = struct.pack("=H", 0xFFF8)
"""01:80:c2:00:00:03 to 0f: all that the kernel lets be chosen (BR_GROUPFWD_RESTRICTED)."""
VETH_INFO_PEER = 1
IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 1, 2
CHILD_MODES = {
    "macvlan": {"": 4, "private": 1, "vepa": 2, "bridge": 4, "passthru": 8},
    "ipvlan": {"": 0, "l2": 0, "l3": 1, "l3s": 2},
}
"""Of linux/if_link.h, by kind and Docker's word; "": Docker's default."""
CHILD_FLAGS = {"": 0, "bridge": 0, "private": 1, "vepa": 2}
IFLA_OPERSTATE, IF_OPER_UP = 16, 6
IFLA_LINK_NETNSID = 37
RTEXT_FILTER_SKIP_STATS = 8
LOOPBACK_INDEX = 1
"""lo is the first interface of every network namespace."""

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
IFA_F_NODAD = 0x2
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST = 1, 2, 3
_ROUTE_TYPES_OF_A_NETWORK = (RTN_UNICAST, 6, 7, 8)
"""Unicast, and blackhole, unreachable, prohibit: somebody decided about those destinations too."""


@frozen
class Link:
    """One interface. `peer`: index of the veth's other end, or of what it is on (in that one's own namespace), 0 if none.
    `working`: it carries packets (operational state "up" of RFC 2863), not only switched on. `away`: `peer` is in another
    namespace."""

    index: int
    name: str
    mac: str
    master: int
    peer: int
    up: bool
    kind: str = ""
    alias: str = ""
    working: bool = False
    away: bool = False


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def link_up(index: int, what: str) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP), what)


def new_bridge(name: str, mac: str, mtu: int = 0) -> Request:
    """A bridge with a fixed MAC (else it takes the lowest of its ports', and changes as they come and go), without the
    15 s forwarding delay, down (its sysctls come first). EEXIST is for the caller to look at."""
    info = nest(
        IFLA_LINKINFO,
        attr(IFLA_INFO_KIND, b"bridge"),
        nest(IFLA_INFO_DATA, attr_u32(IFLA_BR_FORWARD_DELAY, 0), attr_u32(IFLA_BR_STP_STATE, 0)),
    )
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + attr(IFLA_ADDRESS, mac_bytes(mac)) + info
    body += attr_u32(IFLA_MTU, mtu) if mtu else b""
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, name, (errno.EEXIST,))


def new_veth(
    name: str, bridge_index: int, peer: str, peer_mac: str, netns_fd: int, mac: str = "", mtu: int = 0
) -> Request:
    """A veth pair: `name` up and in the bridge, `peer` made directly in the namespace `netns_fd`, down (the kernel refuses
    a peer that is up). `mac` is that of `name`; "": the kernel makes one up. `mtu` 0: its default. One queue each: veth
    takes one per possible CPU otherwise. EEXIST is for the caller."""
    queues = attr_u32(IFLA_NUM_TX_QUEUES, 1) + attr_u32(IFLA_NUM_RX_QUEUES, 1)
    queues += attr_u32(IFLA_MTU, mtu) if mtu else b""
    other = (
        _LINK.pack(0, 0, 0, 0, 0)
        + attr_text(IFLA_IFNAME, peer)
        + attr(IFLA_ADDRESS, mac_bytes(peer_mac))
        + attr_u32(IFLA_NET_NS_FD, netns_fd)
        + queues
    )
    info = nest(
        IFLA_LINKINFO, attr(IFLA_INFO_KIND, b"veth"), nest(IFLA_INFO_DATA, nest(VETH_INFO_PEER, other))
    )
    body = (
        _LINK.pack(0, 0, 0, IFF_UP, IFF_UP)
        + attr_text(IFLA_IFNAME, name)
        + (attr(IFLA_ADDRESS, mac_bytes(mac)) if mac else b"")
        + attr_u32(IFLA_MASTER, bridge_index)
        + queues
        + info
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, name, (errno.EEXIST,))


def forward_groups(name: str) -> Request:
    """Let the bridge `name` treat frames to groups that are of bridges alone (LLDP and the like) as it does all others.
    Else it learns from them, and hands them to the host, before anybody can look at them."""
    info = nest(
        IFLA_LINKINFO,
        attr(IFLA_INFO_KIND, b"bridge"),
        nest(IFLA_INFO_DATA, attr(IFLA_BR_GROUP_FWD_MASK, _ALL_GROUPS)),
    )
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + info, name)


def new_child(
    kind: str, name: str, parent: int, netns_fd: int, mode: int, flag: int = 0, mac: str = "", mtu: int = 0
) -> Request:
    """An interface of `kind` (``macvlan``, ``ipvlan``) on the host's one with the index `parent`, made directly in the
    namespace `netns_fd`, down. `mac` "": the kernel's. EEXIST is for the caller. `mode`, `flag`: `CHILD_MODES`."""
    if kind == "macvlan":
        data = attr_u32(IFLA_MACVLAN_MODE, mode)
    else:
        data = attr(IFLA_IPVLAN_MODE, struct.pack("=H", mode)) + attr(IFLA_IPVLAN_FLAGS, struct.pack("=H", flag))
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + attr_text(IFLA_IFNAME, name)
        + attr_u32(IFLA_LINK, parent)
        + attr_u32(IFLA_NET_NS_FD, netns_fd)
        + (attr(IFLA_ADDRESS, mac_bytes(mac)) if mac else b"")
        + (attr_u32(IFLA_MTU, mtu) if mtu else b"")
        + nest(IFLA_LINKINFO, attr_text(IFLA_INFO_KIND, kind), nest(IFLA_INFO_DATA, data))
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, name, (errno.EEXIST,))


def set_bridge_port(name: str, hairpin: bool, isolated: bool) -> Request:
    """`hairpin`: let the bridge send a packet back by the port `name` that it came from. `isolated`: to no other port that
    is so too."""
    flags = {IFLA_BRPORT_MODE: hairpin, IFLA_BRPORT_ISOLATED: isolated}
    info = nest(
        IFLA_LINKINFO,
        attr(IFLA_INFO_SLAVE_KIND, b"bridge"),
        nest(IFLA_INFO_SLAVE_DATA, *(attr(key, b"\1") for key, on in flags.items() if on)),
    )
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + info, name)


def set_alias(name: str, alias: str) -> Request:
    """A text for people, and a mark: who a link with a name of its own belongs to."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + attr_text(IFLA_IFALIAS, alias)
    return Request(RTM_NEWLINK, 0, body, name)


def delete_link(name: str) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name)
    return Request(RTM_DELLINK, 0, body, name, (errno.ENODEV,))


def set_group(name: str, group: int) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_text(IFLA_IFNAME, name) + attr_u32(IFLA_GROUP, group)
    return Request(RTM_NEWLINK, 0, body, name, (errno.ENODEV,))


def delete_group(group: int) -> Request:
    """Delete all links of a group at once: one RCU grace period for all instead of one each."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_GROUP, group)
    return Request(RTM_DELLINK, 0, body, f"link group {group:#x}", (errno.ENODEV,))


def get_link(name: str) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) + attr_text(IFLA_IFNAME, name)
    return Request(RTM_GETLINK, 0, body, name, (errno.ENODEV,))


def get_link_at(index: int) -> Request:
    body = _LINK.pack(0, 0, index, 0, 0) + attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Request(RTM_GETLINK, 0, body, f"interface {index}", (errno.ENODEV,))


def get_links(master: int = 0) -> Request:
    """All links, or the ports of one bridge."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    if master:
        body += attr_u32(IFLA_MASTER, master)
    return Request(RTM_GETLINK, NLM_F_DUMP, body, "links", (errno.ENODEV,))


def parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    name = mac = kind = alias = ""
    master = peer = state = 0
    away = False
    for key, payload in attributes(body[16:]):
        if key == IFLA_IFNAME:
            name = text(payload)
        elif key == IFLA_ADDRESS:
            mac = payload.hex(":")
        elif key == IFLA_IFALIAS:
            alias = text(payload)
        elif key == IFLA_MASTER:
            master = u32(payload)
        elif key == IFLA_OPERSTATE:
            state = payload[0]
        elif key == IFLA_LINK:
            peer = u32(payload)
        elif key == IFLA_LINK_NETNSID:
            away = True
        elif key == IFLA_LINKINFO:
            kind = next((text(p) for k, p in attributes(payload) if k == IFLA_INFO_KIND), "")
    return Link(index, name, mac, master, peer, bool(flags & IFF_UP), kind, alias, state == IF_OPER_UP, away)


# -- addresses and routes ---------------------------------------------------------------------------------------------


@frozen
class InterfaceAddress:
    """An address of the interface with `index`."""

    index: int
    ip: str
    prefix: int


def new_address(family: int, index: int, ip: str, prefix: int, broadcast: str = "") -> Request:
    """`broadcast`: IPv4 only. An IPv6 address is usable at once: nobody else can have it, so nobody is asked (no DAD)."""
    packed = socket.inet_pton(family, ip)
    flags = IFA_F_NODAD if family == socket.AF_INET6 else 0
    body = _ADDRESS.pack(family, prefix, flags, 0, index) + attr(IFA_LOCAL, packed) + attr(IFA_ADDRESS, packed)
    if broadcast:
        body += attr(IFA_BROADCAST, socket.inet_pton(family, broadcast))
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"address {ip}/{prefix}", (errno.EEXIST,))


def delete_address(family: int, index: int, ip: str, prefix: int) -> Request:
    body = _ADDRESS.pack(family, prefix, 0, 0, index) + attr(IFA_LOCAL, socket.inet_pton(family, ip))
    return Request(RTM_DELADDR, 0, body, f"address {ip}/{prefix}", (errno.EADDRNOTAVAIL,))


def get_addresses(family: int) -> Request:
    return Request(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(family, 0, 0, 0, 0), "addresses")


def parse_address(body: bytes) -> InterfaceAddress:
    family, prefix, _, _, index = _ADDRESS.unpack_from(body)
    fields = dict(attributes(body[8:]))
    packed = fields[IFA_LOCAL] if IFA_LOCAL in fields else fields[IFA_ADDRESS]
    return InterfaceAddress(index, socket.inet_ntop(family, packed), prefix)


def new_default_route(family: int, gateway: str, index: int) -> Request:
    body = (
        _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0)
        + attr(RTA_GATEWAY, socket.inet_pton(family, gateway))
        + attr_u32(RTA_OIF, index)
    )
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"default route by {gateway}")


def get_routes(family: int) -> Request:
    return Request(RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "routes")


def get_route_to(family: int, ip: str) -> Request:
    """Which way a packet to `ip` would take."""
    bits = 32 if family == socket.AF_INET else 128
    body = _ROUTE.pack(family, bits, 0, 0, 0, 0, 0, 0, 0) + attr(RTA_DST, socket.inet_pton(family, ip))
    return Request(RTM_GETROUTE, 0, body, f"route to {ip}", (errno.ENETUNREACH, errno.EHOSTUNREACH))


def is_local(body: bytes) -> bool:
    """Whether a route says that the destination is here."""
    return bool(_ROUTE.unpack_from(body)[7] == RTN_LOCAL)


def parse_route(body: bytes) -> tuple[str, int, int] | None:
    """Destination, prefix length and interface index (0: none) of a route to a network, of any table; None for default
    routes and for local and broadcast ones."""
    family, prefix, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(body)
    fields = dict(attributes(body[12:]))
    if kind not in _ROUTE_TYPES_OF_A_NETWORK or prefix == 0 or RTA_DST not in fields:
        return None
    index = u32(fields[RTA_OIF]) if RTA_OIF in fields else 0
    return socket.inet_ntop(family, fields[RTA_DST]), int(prefix), index


def parse_gateway(body: bytes) -> tuple[str, int] | None:
    """The router that a route leads by, if any, and the interface's index (0: none)."""
    family = body[0]
    fields = dict(attributes(body[12:]))
    if RTA_GATEWAY not in fields:
        return None
    return socket.inet_ntop(family, fields[RTA_GATEWAY]), u32(fields[RTA_OIF]) if RTA_OIF in fields else 0
