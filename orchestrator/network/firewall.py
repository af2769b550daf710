"""The project's nft table: which packets may pass, and where published ports lead (docs/networking.md, "Firewall").

All rules are replaced in one transaction whenever the set of networks changes; a published port is one element in one of
four maps. `Firewall` keeps a mirror of the elements: it is the only writer of its table, and can put everything back
when somebody flushed it. Its methods block in the kernel and are called on the netlink thread only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterable, Sequence

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket, Request
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.nftables import Table
from orchestrator.values import frozen

ANY_ADDRESS = "0.0.0.0"
FAMILY = socket.AF_INET
"""Of all tables: networks are IPv4."""
_PROTOCOLS = {"tcp": 6, "udp": 17}


@frozen
class Bridge:
    """What the rules need to know of one network."""

    interface: str
    network: str
    prefix: int
    internal: bool = False


@frozen(order=True)
class Translation:
    """`host_ip`:`host_port` leads to `address`:`target`."""

    protocol: str
    host_ip: str
    host_port: int
    address: str
    target: int

    @property
    def map_name(self) -> str:
        return f"{self.protocol}_{'any' if self.host_ip == ANY_ADDRESS else 'at'}"

    @property
    def key(self) -> bytes:
        if self.host_ip == ANY_ADDRESS:
            return nft.pack_port(self.host_port)
        return nft.pack_address_port(FAMILY, self.host_ip, self.host_port)

    @property
    def is_own(self) -> bool:
        """It leads to another port of the same address: the DNS server's."""
        return self.address == self.host_ip

    @property
    def value(self) -> bytes:
        return nft.pack_address_port(FAMILY, self.address, self.target)


def table_requests(table: Table, bridges: Iterable[Bridge]) -> list[Request]:
    """The whole table except the maps' elements: right for a table that is new and for one that exists."""
    requests = [
        nft.new_table(table),
        nft.new_base_chain(table, "early", "filter", nft.HOOK_PREROUTING, -300),
        nft.new_base_chain(table, "inbound", "nat", nft.HOOK_PREROUTING, -100),
        nft.new_base_chain(table, "local", "nat", nft.HOOK_OUTPUT, -100),
        nft.new_base_chain(table, "outbound", "nat", nft.HOOK_POSTROUTING, 100),
        nft.new_base_chain(table, "between", "filter", nft.HOOK_FORWARD, 0),
        nft.flush_rules(table),
    ]
    pair = (nft.type_address_port(table.family), nft.bytes_address_port(table.family))
    for number, protocol in enumerate(_PROTOCOLS, start=1):
        requests.append(nft.new_map(table, f"{protocol}_at", 2 * number, *pair))
        requests.append(nft.new_map(table, f"{protocol}_any", 2 * number + 1, nft.TYPE_PORT, 2))

    def rule(chain: str, *parts: list[nft.Expression]) -> None:
        requests.append(nft.new_rule(table, chain, [e for part in parts for e in part]))

    rule("early", nfx.not_from_loopback(), nfx.to_subnet(FAMILY, "127.0.0.0", 8), nfx.drop())
    rule("early", nfx.not_from_loopback(), nfx.from_subnet(FAMILY, "127.0.0.0", 8), nfx.drop())
    for chain in ("inbound", "local"):
        for by, suffix in ((nfx.translate_by_address_and_port, "at"), (nfx.translate_by_port, "any")):
            for protocol, number in _PROTOCOLS.items():
                rule(chain, nfx.to_local_address(), nfx.l4_protocol(number), by(table.family, f"{protocol}_{suffix}"))
    rule("between", nfx.established(), nfx.accept())
    # Internal networks first: what leaves one must not be accepted as a published port of another.
    for bridge in sorted(bridges, key=lambda b: (not b.internal, b.interface)):
        _bridge_rules(rule, bridge)
    return requests


def _bridge_rules(rule: Callable[..., None], bridge: Bridge) -> None:
    name = bridge.interface
    ours = nfx.from_subnet(FAMILY, bridge.network, bridge.prefix)
    entering, leaving = nfx.input_interface(name), nfx.output_interface(name)
    # What is addressed to a container comes from its own bridge, or is a published port, which is not translated yet here.
    rule(
        "early",
        nfx.input_interface(name, equal=False),
        nfx.not_from_loopback(),
        nfx.to_subnet(FAMILY, bridge.network, bridge.prefix),
        nfx.drop(),
    )
    rule("outbound", nfx.from_subnet(FAMILY, "127.0.0.0", 8), leaving, nfx.masquerade())
    rule("between", entering, leaving, nfx.accept())
    if bridge.internal:
        # Containers there have no route out: whoever reaches one by a published port must look like the bridge.
        rule("outbound", leaving, nfx.destination_translated(), nfx.masquerade())
        rule("between", entering, nfx.drop())
    else:
        # Hairpin: the answer must come back through us, not straight over the bridge.
        rule("outbound", ours, leaving, nfx.destination_translated(), nfx.masquerade())
        rule("outbound", ours, nfx.output_interface(name, equal=False), nfx.masquerade())
        rule("between", leaving, nfx.destination_translated(), nfx.accept())
    rule("between", leaving, nfx.drop())


class Firewall:
    """The table `table` of the network namespace that the thread is in when this is made."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._sock = NetlinkSocket(NETLINK_NETFILTER)
        self._bridges: tuple[Bridge, ...] = ()
        self._elements: dict[tuple[str, bytes], Translation] = {}
        self._made = False

    def close(self) -> None:
        self._sock.close()

    @property
    def made(self) -> bool:
        """Whether the table should exist."""
        return self._made

    @property
    def elements(self) -> Collection[Translation]:
        """What is published."""
        return self._elements.values()

    def find(self) -> None:
        """Learn what the maps of an existing table hold (adoption); of one that is not there, nothing."""
        self._elements = {}
        if not self.exists():
            return
        for protocol in _PROTOCOLS:
            for kind in ("at", "any"):
                for body in self._sock.ask(nft.get_elements(self._table, f"{protocol}_{kind}")):
                    for key, value in nft.parse_elements(body):
                        if kind == "any":
                            host_ip, host_port = ANY_ADDRESS, int.from_bytes(key, "big")
                        else:
                            host_ip, host_port = nft.unpack_address_port(FAMILY, key)
                        found = Translation(protocol, host_ip, host_port, *nft.unpack_address_port(FAMILY, value))
                        self._elements[found.map_name, found.key] = found

    def set_bridges(self, bridges: Iterable[Bridge]) -> None:
        """Make or replace all rules. Raises OSError; the rules are as before then."""
        wanted = tuple(bridges)
        nft.commit(self._sock, table_requests(self._table, wanted))
        self._bridges, self._made = wanted, True

    def add(self, translations: Sequence[Translation]) -> None:
        """Publish all or none. An element that leads elsewhere, left by a container that died, is replaced: the caller
        holds the host port."""
        new = [t for t in translations if self._elements.get((t.map_name, t.key)) != t]
        stale = [self._elements[t.map_name, t.key] for t in new if (t.map_name, t.key) in self._elements]
        requests = [nft.delete_elements(self._table, t.map_name, [t.key]) for t in stale]
        requests += [nft.new_elements(self._table, t.map_name, [(t.key, t.value)]) for t in new]
        self._commit(requests)
        self._elements.update({(t.map_name, t.key): t for t in new})

    def discard(self, translations: Iterable[Translation]) -> None:
        """Withdraw those that are published."""
        old = [t for t in translations if self._elements.get((t.map_name, t.key)) == t]
        self._commit([nft.delete_elements(self._table, t.map_name, [t.key]) for t in old])
        for translation in old:
            del self._elements[translation.map_name, translation.key]

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
        return any(nft.parse_table(body) == self._table.name for body in self._sock.ask(nft.get_tables(self._table.family)))

    def put_back(self) -> None:
        """Make the table as the mirror says, whatever is there now, in one transaction."""
        replace = [nft.new_table(self._table), nft.delete_table(self._table)]
        replace += table_requests(self._table, self._bridges)
        replace += [nft.new_elements(self._table, t.map_name, [(t.key, t.value)]) for t in self._elements.values()]
        nft.commit(self._sock, replace)

    def remove(self) -> None:
        """Delete the table; nothing happens if it is gone."""
        delete_table(self._sock, self._table)
        self._elements, self._bridges, self._made = {}, (), False


def delete_table(sock: NetlinkSocket, table: Table) -> None:
    try:
        nft.commit(sock, [nft.delete_table(table)])
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise
