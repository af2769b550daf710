"""Who may say what on a bridge: a container speaks for itself only (docs/networking.md, "No other's address").

A table of family ``bridge`` looks at each frame that comes in by the port of a guarded container, before the bridge learns
from it or passes it on. What such a port may say of itself is in sets whose keys begin with its name: adding and removing a
container changes elements, and no rule. A port that is in no set is not looked at: those of containers that may administer
their network, and any that somebody else puts into the bridge.

Rules let pass what is known and drop the rest: an expression that cannot be computed (a header that is cut off) does not
hold, so it must never be the one that forbids. Formats: RFC 826 (ARP), RFC 4861 (neighbour discovery), RFC 2131, RFC 8415.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.kernel.netlink import NetlinkSocket, Request
from orchestrator.kernel.rtnetlink import mac_bytes
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.addressing import family_of
from orchestrator.network.nft_expressions import Field
from orchestrator.network.nftables import Table
from orchestrator.values import frozen

_PRIORITY = -300
"""Before all others at this hook: what bridge netfilter and other people's tables see is not forged."""

_GUARDED, _ETHER, _IP4, _IP6 = "guarded", "ether_from", "ip_from", "ip6_from"
_NAME_BYTES = 16
_SETS: dict[str, tuple[int, int]] = {
    _GUARDED: (nft.TYPE_INTERFACE, _NAME_BYTES),
    _ETHER: (nft.type_of(nft.TYPE_INTERFACE, nft.TYPE_ETHER), _NAME_BYTES + 8),
    _IP4: (nft.type_of(nft.TYPE_INTERFACE, nft.TYPE_ETHER, nft.type_address(socket.AF_INET)), _NAME_BYTES + 12),
    _IP6: (nft.type_of(nft.TYPE_INTERFACE, nft.TYPE_ETHER, nft.type_address(socket.AF_INET6)), _NAME_BYTES + 24),
}
"""Data type of the key, and its size: each part starts at a 4-byte register."""

_ETHER_SOURCE, _ETHER_TYPE = Field(0, 6, 6), Field(0, 12, 2)
_ETHER_TARGET, _OF_BRIDGES = Field(0, 0, 5), b"\x01\x80\xc2\x00\x00"
"""What a frame to a group of bridges begins with (IEEE 802.1D, tables 7-10 and 12-1)."""
_ARP_KIND, _ARP_ETHER, _ARP_IP = Field(1, 0, 6), Field(1, 8, 6), Field(1, 14, 4)
_IP4_SOURCE, _IP6_SOURCE = Field(1, 12, 4), Field(1, 8, 16)
_PORTS, _ICMP6_TYPE, _ND_TARGET = Field(2, 0, 4), Field(2, 0, 1), Field(2, 8, 16)

_ARP_OF_IP4 = struct.pack(">HHBB", 1, 0x0800, 6, 4)
_VLAN, _SERVICE_VLAN = b"\x81\x00", b"\x88\xa8"
_UDP, _ICMP6 = 17, 58
_SOLICITATION, _ADVERTISEMENT = b"\x87", b"\x88"
_ROUTER_ADVERTISEMENT, _REDIRECT = b"\x86", b"\x89"
_PER_MESSAGE = 512
"""Elements: an attribute of netlink ends at 64 KiB."""


@frozen
class Port:
    """The host's end of a guarded container's interface, with what the container may say of itself."""

    name: str
    mac: str
    addresses: tuple[str, ...]

    def elements(self) -> Iterator[Element]:
        name, ether = self.name.encode().ljust(_NAME_BYTES, b"\0"), mac_bytes(self.mac) + b"\0\0"
        yield _GUARDED, name
        yield _ETHER, name + ether
        families = {family_of(address) for address in self.addresses}
        said = set(self.addresses)
        if socket.AF_INET in families:
            said.add("0.0.0.0")  # who asks whether an address is free (RFC 5227), or for one
        if socket.AF_INET6 in families:
            said |= {"::", link_local(self.mac)}
        for address in sorted(said):
            family = family_of(address)
            yield (_IP6 if family == socket.AF_INET6 else _IP4), name + ether + socket.inet_pton(family, address)


Element = tuple[str, bytes]
"""Set and key."""


def link_local(mac: str) -> str:
    """The address that Linux gives to an interface (RFC 4291, appendix A)."""
    octets = bytearray(mac_bytes(mac))
    octets[0] ^= 2
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:])


def table_requests(table: Table) -> list[Request]:
    """All but the elements: right for a table that is new and for one that exists."""
    requests = [nft.new_table(table), nft.new_base_chain(table, "guard", "filter", nft.HOOK_PREROUTING, _PRIORITY)]
    requests.append(nft.new_base_chain(table, "groups", "filter", nft.HOOK_INPUT, _PRIORITY))
    requests += [nft.new_chain(table, chain) for chain in ("sender", "arp", "ip4", "ip6")]
    requests.append(nft.flush_rules(table))
    requests += [nft.new_set(table, name, 100 + n, *shape) for n, (name, shape) in enumerate(_SETS.items())]

    def rule(chain: str, *parts: list[nft.Expression]) -> None:
        requests.append(nft.new_rule(table, chain, [e for part in parts for e in part]))

    # What is for bridges themselves. That of one group (02, slow protocols) comes by the hook "input" at once; that of the
    # others passes no hook in time, unless the bridge is to forward it (`rtnetlink.forward_groups`).
    rule("groups", nfx.says(_ETHER_TARGET, _OF_BRIDGES), nfx.by_port_and(_GUARDED), nfx.drop())
    rule("guard", nfx.says(_ETHER_TARGET, _OF_BRIDGES), nfx.by_port_and(_GUARDED), nfx.drop())
    rule("guard", nfx.by_port_and(_ETHER, _ETHER_SOURCE), nfx.go_to("sender"))
    rule("guard", nfx.by_port_and(_GUARDED), nfx.drop())
    for tag in (_VLAN, _SERVICE_VLAN):
        # What is tagged as of no VLAN (priority tags, 802.1p) is taken for what is inside.
        rule("sender", nfx.says(_ETHER_TYPE, tag), nfx.drop())
    for kind, chain in ((b"\x08\x00", "ip4"), (b"\x08\x06", "arp"), (b"\x86\xdd", "ip6")):
        rule("sender", nfx.says(_ETHER_TYPE, kind), nfx.go_to(chain))
    own_arp = nfx.by_port_and(_IP4, _ETHER_SOURCE, _ARP_IP), nfx.by_port_and(_IP4, _ARP_ETHER, _ARP_IP)
    rule("arp", nfx.says(_ARP_KIND, _ARP_OF_IP4), *own_arp, nfx.accept())
    rule("arp", nfx.drop())
    rule("ip4", nfx.l4_protocol(_UDP), nfx.says(_PORTS, struct.pack(">HH", 67, 68)), nfx.drop())
    rule("ip4", nfx.by_port_and(_IP4, _ETHER_SOURCE, _IP4_SOURCE), nfx.accept())
    rule("ip4", nfx.drop())
    _ip6_rules(rule)
    return requests


def _ip6_rules(rule: Callable[..., None]) -> None:
    """Linux takes no neighbour discovery in fragments (RFC 6980), so there is no way around these."""
    own_source = nfx.by_port_and(_IP6, _ETHER_SOURCE, _IP6_SOURCE)
    own_target = nfx.by_port_and(_IP6, _ETHER_SOURCE, _ND_TARGET)
    nowhere = nfx.says(_IP6_SOURCE, bytes(16))

    def discovery(kind: bytes, *parts: list[nft.Expression]) -> None:
        rule("ip6", nfx.l4_protocol(_ICMP6), nfx.says(_ICMP6_TYPE, kind), *parts)

    rule("ip6", nfx.l4_protocol(_UDP), nfx.says(_PORTS, struct.pack(">HH", 547, 546)), nfx.drop())
    discovery(_ROUTER_ADVERTISEMENT, nfx.drop())
    discovery(_REDIRECT, nfx.drop())
    discovery(_ADVERTISEMENT, own_source, own_target, nfx.accept())
    discovery(_ADVERTISEMENT, nfx.drop())
    discovery(_SOLICITATION, nowhere, own_target, nfx.accept())  # is this address of mine free?
    discovery(_SOLICITATION, nowhere, nfx.drop())
    rule("ip6", own_source, nfx.accept())
    rule("ip6", nfx.drop())


class Guard:
    """The table `name` of family ``bridge``, and a mirror of its elements. What it returns is for the transactions of
    `Firewall`, which says when one was done. `supported` False: this kernel has no such tables, and all is empty."""

    def __init__(self, name: str) -> None:
        self.table = Table(name, nft.BRIDGE)
        self.supported = True
        self._ports: dict[str, frozenset[Element]] = {}

    @property
    def ports(self) -> frozenset[str]:
        """The names of those that are guarded."""
        return frozenset(self._ports)

    def find(self, sock: NetlinkSocket) -> None:
        """Learn what the sets of a table that exists hold (adoption)."""
        found: dict[str, set[Element]] = {}
        for name in _SETS:
            for body in sock.ask(nft.get_elements(self.table, name)):
                for key in nft.parse_members(body):
                    found.setdefault(_port_of(key), set()).add((name, key))
        self._ports = {port: frozenset(elements) for port, elements in found.items()}

    def forget(self) -> None:
        """There is no table any more."""
        self._ports = {}

    def rules(self) -> list[Request]:
        return table_requests(self.table) if self.supported else []

    def changes(self, ports: Mapping[str, Port | None]) -> list[Request]:
        """So that these ports may say what they are given, and anything where it is None."""
        if not self.supported:
            return []
        now = [self._ports.get(name, frozenset()) for name in ports]
        wanted = [frozenset(port.elements()) if port else frozenset() for port in ports.values()]
        stale = {element for old, new in zip(now, wanted, strict=True) for element in old - new}
        fresh = {element for old, new in zip(now, wanted, strict=True) for element in new - old}
        return [*self._messages(nft.delete_elements, stale), *self._messages(nft.new_members, fresh)]

    def changed(self, ports: Mapping[str, Port | None]) -> None:
        """The transaction with `changes` was done."""
        for name, port in ports.items():
            self._ports.pop(name, None)
            if port is not None and self.supported:
                self._ports[name] = frozenset(port.elements())

    def everything(self) -> list[Request]:
        """All elements, for a table that is new."""
        return self._messages(nft.new_members, [element for elements in self._ports.values() for element in elements])

    def _messages(self, make: Callable[[Table, str, list[bytes]], Request], elements: Iterable[Element]) -> list[Request]:
        by_set: dict[str, list[bytes]] = {name: [] for name in _SETS}
        for name, key in elements:
            by_set[name].append(key)
        return [
            make(self.table, name, keys[start : start + _PER_MESSAGE])
            for name, keys in by_set.items()
            for start in range(0, len(keys), _PER_MESSAGE)
        ]


def _port_of(key: bytes) -> str:
    return key[:_NAME_BYTES].rstrip(b"\0").decode()
