"""Who talks to whom on the project's bridges, counted by the kernel while somebody asked for it (``pystack net``).

Frames between two containers of one bridge are in no table of connections, unless bridge netfilter is on. A table of its
own, ``pystack_KEY_seen`` of family ``bridge``, counts them where the bridge forwards: what opens a TCP connection, and UDP
datagrams that answer nothing counted before. Its existence is the switch: while it is not there, nothing is paid. What
passes the host (published ports, the outside) is taken from the connections that are tracked now.

These functions block in the kernel, in the network namespace of the calling thread.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket, Request
from orchestrator.model.names import ProjectKey, seen_table
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.bridge import refused
from orchestrator.network.conntrack import Conntrack
from orchestrator.network.firewall import delete_table
from orchestrator.network.nft_expressions import Field
from orchestrator.network.nftables import Table
from orchestrator.plan.edges import Flow

MOST = 16384
"""Pairs that are counted, of each family; others are not while these are there."""
KEPT_S = 24 * 3600
_SETS: dict[str, tuple[int, bytes]] = {"seen": (socket.AF_INET, b"\x08\x00"), "seen6": (socket.AF_INET6, b"\x86\xdd")}
"""Family, and its type in an Ethernet header."""
_ETHER_TYPE = Field(0, 12, 2)
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


def _table(key: ProjectKey) -> Table:
    return Table(seen_table(key), nft.BRIDGE)


def observe(key: ProjectKey) -> None:
    """Count from now on; what was counted before stays. Raises HostError."""
    table = _table(key)
    requests = [nft.new_table(table), nft.new_base_chain(table, "between", "filter", nft.HOOK_FORWARD, 0)]
    requests.append(nft.flush_rules(table))
    for number, (name, (family, kind)) in enumerate(_SETS.items(), start=1):
        requests += _set_requests(table, name, number, family, kind)
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as sock:
            nft.commit(sock, requests)
    except OSError as exc:
        raise refused(exc, "cannot count who talks to whom") from exc


def _set_requests(table: Table, name: str, number: int, family: int, kind: bytes) -> Iterator[Request]:
    address = nft.type_address(family)
    key = nft.type_of(address, address, nft.TYPE_PROTOCOL, nft.TYPE_PORT), 2 * nft.bytes_address_port(family)
    yield nft.new_counters(table, name, number, key, MOST, KEPT_S)
    of_family, udp = nfx.says(_ETHER_TYPE, kind), nfx.l4_protocol(socket.IPPROTO_UDP)
    for rule in (
        [*of_family, *nfx.opens_tcp(), *nfx.pair(family), *nfx.count(name)],
        [*of_family, *udp, *nfx.pair(family, answer=True), *nfx.known(name), *nfx.accept()],
        [*of_family, *udp, *nfx.pair(family), *nfx.count(name)],
    ):
        yield nft.new_rule(table, "between", rule)


def stop_observing(key: ProjectKey) -> None:
    """What was counted is gone. Raises HostError."""
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as sock:
            delete_table(sock, _table(key))
    except OSError as exc:
        raise refused(exc, "cannot stop counting who talks to whom") from exc


def flows(key: ProjectKey) -> tuple[bool, tuple[Flow, ...]]:
    """Whether it is counted, and what was seen: by the counters, and of connections that are tracked now, of whomever.
    Raises HostError."""
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as sock:
            on = any(nft.parse_table(body) == seen_table(key) for body in sock.ask(nft.get_tables(nft.BRIDGE)))
            counted = tuple(_counted(sock, _table(key))) if on else ()
        with closing(Conntrack()) as tracked:
            return on, (*counted, *tracked.flows())
    except OSError as exc:
        raise refused(exc, "cannot look who talks to whom") from exc


def _counted(sock: NetlinkSocket, table: Table) -> Iterator[Flow]:
    for name, (family, _) in _SETS.items():
        size = nft.bytes_address_port(family) - 4
        for body in sock.ask(nft.get_elements(table, name)):
            for key, count in nft.parse_counters(body):
                source, target = (socket.inet_ntop(family, key[at : at + size]) for at in (0, size))
                protocol, (port,) = _PROTOCOLS.get(key[2 * size], ""), struct.unpack_from(">H", key, 2 * size + 4)
                if protocol:
                    yield Flow(source, target, protocol, port, count)
