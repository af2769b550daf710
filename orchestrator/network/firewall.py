"""The project's nft tables: which packets may pass, and where published ports lead (docs/networking.md, "Firewall").

All rules are replaced in one transaction whenever the set of networks changes; a published port is one element in one of
four maps. `Firewall` keeps a mirror of the elements: it is the only writer of its tables, and can put everything back
when somebody flushed them. What containers may say of themselves on a bridge is in a table of `guard`, which changes in the
same transactions. Its methods block in the kernel and are called on the netlink thread only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket, Request
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.guard import Guard, Port
from orchestrator.network.nftables import Table
from orchestrator.values import frozen

ANY_ADDRESS = "0.0.0.0"
FAMILY: int = socket.AF_INET
"""Of the table that is always there; that of IPv6 is while a network has IPv6."""
_FAMILIES: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)
_ANY: dict[int, str] = {socket.AF_INET: ANY_ADDRESS, socket.AF_INET6: "::"}
_PROTOCOLS = {"tcp": 6, "udp": 17}
_SOLICITED_NODE = "ff02::1:ff00:0"
"""With the last three bytes of an address: the group that is asked who has it (RFC 4291, 2.7.1)."""
_MOST_BYTES = 8 << 20
"""Of one transaction: all elements of a thousand containers on several networks."""
_NO_SUCH_FAMILY = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)


@frozen
class Bridge:
    """What the rules of one family need to know of one network. `network`: "" when it has no addresses of that family:
    then nothing of it passes. `masquerade`: what leaves looks as if it came from the host. `icc`: whether its containers
    reach each other by the host. `server`: the name server's address, if it has one in the network, of this family.
    `shared`: its rules are in a table of its own, and ours has none for it."""

    interface: str
    network: str
    prefix: int
    internal: bool = False
    family: int = FAMILY
    masquerade: bool = True
    icc: bool = True
    server: str = ""
    shared: bool = False


@frozen(order=True)
class Translation:
    """`host_ip`:`host_port` leads to `address`:`target`."""

    protocol: str
    host_ip: str
    host_port: int
    address: str
    target: int

    @property
    def family(self) -> int:
        """Of both addresses: nothing is translated from one family to the other."""
        return socket.AF_INET6 if ":" in self.host_ip else socket.AF_INET

    @property
    def map_name(self) -> str:
        return f"{self.protocol}_{'any' if self.host_ip in _ANY.values() else 'at'}"

    @property
    def key(self) -> bytes:
        if self.host_ip in _ANY.values():
            return nft.pack_port(self.host_port)
        return nft.pack_address_port(self.family, self.host_ip, self.host_port)

    @property
    def slot(self) -> tuple[int, str, bytes]:
        """Where it is: table, map and key."""
        return self.family, self.map_name, self.key

    @property
    def is_own(self) -> bool:
        """It leads to another port of the same address: the DNS server's."""
        return self.address == self.host_ip

    @property
    def value(self) -> bytes:
        return nft.pack_address_port(self.family, self.address, self.target)


def table_requests(table: Table, bridges: Iterable[Bridge], publishes: bool = True) -> list[Request]:
    """The whole table except the maps' elements: right for a table that is new and for one that exists. Of `bridges`, those
    of the table's family count. `publishes`: with the maps."""
    family = table.family
    first = 10 * _FAMILIES.index(family)
    requests = [
        nft.new_table(table),
        nft.new_base_chain(table, "early", "filter", nft.HOOK_PREROUTING, -300),
    ]
    if publishes:
        requests.append(nft.new_base_chain(table, "inbound", "nat", nft.HOOK_PREROUTING, -100))
        requests.append(nft.new_base_chain(table, "local", "nat", nft.HOOK_OUTPUT, -100))
    requests += [
        nft.new_base_chain(table, "outbound", "nat", nft.HOOK_POSTROUTING, 100),
        nft.new_base_chain(table, "between", "filter", nft.HOOK_FORWARD, 0),
        nft.flush_rules(table),
    ]
    pair = (nft.type_address_port(table.family), nft.bytes_address_port(table.family))
    for number, protocol in enumerate(_PROTOCOLS, start=1) if publishes else ():
        requests.append(nft.new_map(table, f"{protocol}_at", first + 2 * number, *pair))
        requests.append(nft.new_map(table, f"{protocol}_any", first + 2 * number + 1, nft.TYPE_PORT, 2))

    def rule(chain: str, *parts: list[nft.Expression]) -> None:
        requests.append(nft.new_rule(table, chain, [e for part in parts for e in part]))

    if family == socket.AF_INET:
        rule("early", nfx.not_from_loopback(), nfx.to_subnet(family, "127.0.0.0", 8), nfx.drop())
        rule("early", nfx.not_from_loopback(), nfx.from_subnet(family, "127.0.0.0", 8), nfx.drop())
    elif publishes:
        # The kernel routes nothing from ::1 anywhere else: that is the proxy's.
        rule("local", nfx.to_subnet(family, "::1", 128), nfx.accept())
    for chain in ("inbound", "local") if publishes else ():
        for by, suffix in ((nfx.translate_by_address_and_port, "at"), (nfx.translate_by_port, "any")):
            for protocol, number in _PROTOCOLS.items():
                rule(chain, nfx.to_local_address(), nfx.l4_protocol(number), by(table.family, f"{protocol}_{suffix}"))
    rule("between", nfx.established(), nfx.accept())
    # Internal networks first: what leaves one must not be accepted as a published port of another.
    ours = [bridge for bridge in bridges if bridge.family == family and not bridge.shared]
    for bridge in sorted(ours, key=lambda b: (not b.internal, b.interface)):
        _bridge_rules(rule, bridge)
    return requests


def _bridge_rules(rule: Callable[..., None], bridge: Bridge) -> None:
    name, family = bridge.interface, bridge.family
    entering, leaving = nfx.input_interface(name), nfx.output_interface(name)
    if not bridge.network:
        rule("between", entering, nfx.drop())
        rule("between", leaving, nfx.drop())
        return
    ours = nfx.from_subnet(family, bridge.network, bridge.prefix)
    if bridge.masquerade:
        # What is addressed to a container comes from its own bridge, or is a published port, not translated yet here,
        # or an answer, which is not translated back yet. Without masquerade, answers are: "between" drops the rest.
        elsewhere = nfx.input_interface(name, equal=False)
        ours_too = nfx.to_subnet(family, bridge.network, bridge.prefix)
        rule("early", elsewhere, nfx.not_from_loopback(), ours_too, nfx.drop())
    if family == socket.AF_INET:
        rule("outbound", nfx.from_subnet(family, "127.0.0.0", 8), leaving, nfx.masquerade())
    if bridge.icc:
        rule("between", entering, leaving, nfx.accept())
    else:
        rule("between", entering, leaving, nfx.destination_translated(), nfx.accept())
        for toward in _server_addresses(bridge):
            rule("between", entering, leaving, toward, nfx.accept())
        rule("between", entering, leaving, nfx.drop())
    if bridge.internal:
        # Containers there have no route out: whoever reaches one by a published port must look like the bridge.
        rule("outbound", leaving, nfx.destination_translated(), nfx.masquerade())
        rule("between", entering, nfx.drop())
    else:
        # Hairpin: the answer must come back through us, not straight over the bridge.
        rule("outbound", ours, leaving, nfx.destination_translated(), nfx.masquerade())
        if bridge.masquerade:
            rule("outbound", ours, nfx.output_interface(name, equal=False), nfx.masquerade())
        rule("between", leaving, nfx.destination_translated(), nfx.accept())
    rule("between", leaving, nfx.drop())


def _server_addresses(bridge: Bridge) -> list[list[nft.Expression]]:
    """What passes between the name server and containers that do not reach each other, where the host's rules see what a
    bridge carries (br_netfilter): by IPv6 the search for neighbours too, which is not tracked (RFC 4861, 7.2)."""
    if not bridge.server:
        return []
    bits = 32 if bridge.family == socket.AF_INET else 128
    found = [by(bridge.family, bridge.server, bits) for by in (nfx.to_subnet, nfx.from_subnet)]
    if bridge.family == socket.AF_INET6:
        group, own = (socket.inet_pton(bridge.family, text) for text in (_SOLICITED_NODE, bridge.server))
        found.append(nfx.to_subnet(bridge.family, socket.inet_ntop(bridge.family, group[:13] + own[13:]), bits))
    return found


class Firewall:
    """The tables `name`, one of each family that is in use, of the network namespace that the thread is in when this is
    made. Both change in one transaction. `publishes`: what is published leads through them, and there is a guard."""

    def __init__(self, name: str, publishes: bool = True) -> None:
        self.name = name
        self._publishes = publishes
        self._tables = {family: Table(name, family) for family in _FAMILIES}
        self._sock = NetlinkSocket(NETLINK_NETFILTER)
        self._sock.allow(_MOST_BYTES)
        self.guard = Guard(name)
        self.guard.supported = publishes  # A network that projects share has no containers: each project guards its own.
        self._bridges: tuple[Bridge, ...] = ()
        self._elements: dict[tuple[int, str, bytes], Translation] = {}
        self._made: tuple[int, ...] = ()

    def close(self) -> None:
        self._made = ()
        self._sock.close()

    @property
    def made(self) -> bool:
        """Whether there should be a table."""
        return bool(self._made)

    @property
    def families(self) -> Collection[int]:
        """Those that there should be tables of."""
        return self._made

    @property
    def elements(self) -> Collection[Translation]:
        """What is published."""
        return self._elements.values()

    def find(self) -> None:
        """Learn what the maps of existing tables hold (adoption); of one that is not there, nothing."""
        self._elements = {}
        for family, table in self._tables.items():
            if self._exists(table):
                self._find(family, table)
        self.guard.forget()
        if self._exists(self.guard.table):
            self.guard.find(self._sock)

    def _find(self, family: int, table: Table) -> None:
        for protocol in _PROTOCOLS:
            for kind in ("at", "any"):
                for body in self._sock.ask(nft.get_elements(table, f"{protocol}_{kind}")):
                    for key, value in nft.parse_elements(body):
                        if kind == "any":
                            host_ip, host_port = _ANY[family], int.from_bytes(key, "big")
                        else:
                            host_ip, host_port = nft.unpack_address_port(family, key)
                        found = Translation(protocol, host_ip, host_port, *nft.unpack_address_port(family, value))
                        self._elements[found.slot] = found

    def set_bridges(self, bridges: Iterable[Bridge]) -> None:
        """Make or replace all rules. Raises OSError; the rules are as before then."""
        wanted = tuple(bridges)
        families = _families_of(wanted)
        requests = [request for family in families for request in self._table(family, wanted)]
        for family, table in self._tables.items():
            if family not in families and (family in self._made or self._exists(table)):
                requests += [nft.new_table(table), nft.delete_table(table)]
        self._commit_guarded(requests)
        self._bridges, self._made = wanted, families
        self._elements = {slot: item for slot, item in self._elements.items() if item.family in families}

    def _table(self, family: int, bridges: Iterable[Bridge]) -> list[Request]:
        return table_requests(self._tables[family], bridges, self._publishes)

    def _commit_guarded(self, requests: Sequence[Request]) -> None:
        """With the rules of the guard, where the kernel has bridge tables."""
        try:
            nft.commit(self._sock, [*requests, *self.guard.rules()])
        except OSError as exc:
            if not self.guard.supported or exc.errno not in _NO_SUCH_FAMILY:
                raise
            nft.commit(self._sock, requests)
            self.guard.supported = False

    def add(self, translations: Sequence[Translation], ports: Mapping[str, Port | None] | None = None) -> None:
        """Publish, and guard these ports of bridges (None: let pass what comes by it), all or none. An element that leads
        elsewhere, left by a container that died, is replaced: the caller holds the host port."""
        ports = ports or {}
        new = [t for t in translations if self._elements.get(t.slot) != t]
        stale = [self._elements[t.slot] for t in new if t.slot in self._elements]
        requests = [nft.delete_elements(self._tables[t.family], t.map_name, [t.key]) for t in stale]
        requests += [nft.new_elements(self._tables[t.family], t.map_name, [(t.key, t.value)]) for t in new]
        self._commit([*requests, *self.guard.changes(ports)])
        self._elements.update({t.slot: t for t in new})
        self.guard.changed(ports)

    def discard(self, translations: Iterable[Translation]) -> None:
        """Withdraw those that are published."""
        old = [t for t in translations if self._elements.get(t.slot) == t]
        self._commit([nft.delete_elements(self._tables[t.family], t.map_name, [t.key]) for t in old])
        for translation in old:
            del self._elements[translation.slot]

    def forget_ports(self, names: Iterable[str]) -> None:
        """These are no ports of a bridge any more."""
        gone: dict[str, Port | None] = dict.fromkeys(self.guard.ports.intersection(names))
        self._commit(self.guard.changes(gone))
        self.guard.changed(gone)

    def _commit(self, requests: Sequence[Request]) -> None:
        try:
            nft.commit(self._sock, requests)
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
            # Somebody flushed the ruleset; the mirror knows what was there.
            self.put_back()
            nft.commit(self._sock, requests)

    def exists(self) -> bool:
        """Whether all are there that should be."""
        tables = [self._tables[family] for family in self._made or (FAMILY,)]
        return all(map(self._exists, [*tables, *([self.guard.table] if self.made and self.guard.supported else [])]))

    def _exists(self, table: Table) -> bool:
        return any(nft.parse_table(body) == table.name for body in self._sock.ask(nft.get_tables(table.family)))

    def put_back(self) -> None:
        """Make the tables as the mirror says, whatever is there now, in one transaction."""
        replace: list[Request] = []
        for family in self._made:
            table = self._tables[family]
            replace += [nft.new_table(table), nft.delete_table(table), *self._table(family, self._bridges)]
        replace += [
            nft.new_elements(self._tables[t.family], t.map_name, [(t.key, t.value)]) for t in self._elements.values()
        ]
        if self.made and self.guard.supported:
            table = self.guard.table
            replace += [nft.new_table(table), nft.delete_table(table), *self.guard.rules(), *self.guard.everything()]
        nft.commit(self._sock, replace)

    def remove(self) -> None:
        """Delete the tables; nothing happens if they are gone."""
        for table in (*self._tables.values(), self.guard.table):
            delete_table(self._sock, table)
        self.guard.forget()
        self._elements, self._bridges, self._made = {}, (), ()


def _families_of(bridges: Sequence[Bridge]) -> tuple[int, ...]:
    return tuple(
        family
        for family in _FAMILIES
        if family == FAMILY or any(bridge.network for bridge in bridges if bridge.family == family)
    )


def delete_table(sock: NetlinkSocket, table: Table) -> None:
    """Nothing happens if it is gone, or if the kernel has no tables of that family."""
    try:
        nft.commit(sock, [nft.delete_table(table)])
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, *_NO_SUCH_FAMILY):
            raise
