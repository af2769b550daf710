"""Connections that the kernel tracks: what it knows, and forgetting what would keep packets from where they should go now.

A UDP flow that is busy never ends for the kernel, so packets go on being translated to a container that is dead, or go on
past a mapping that is new. ctnetlink deletes by filter in the kernel (CTA_FILTER, Linux 5.8), and walks its whole table for
each deletion: for more than a few ports it is cheaper to read the table once, and to delete what is there.
Numbers are from linux/netfilter/nfnetlink_conntrack.h, filter flags from net/netfilter/nf_conntrack_netlink. Netlink thread
only.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Iterator

from orchestrator.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_DUMP,
    NetlinkSocket,
    Request,
    attr,
    attr_u32,
    attributes,
    nest,
)
from orchestrator.plan.edges import Flow
from orchestrator.values import frozen

_SUBSYSTEM, _GET, _DELETE = 1, 1, 2
_TUPLE_ORIGINAL, _TUPLE_REPLY, _FILTER = 1, 2, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_NAMES = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
_IP_SOURCE: dict[int, int] = {socket.AF_INET: 1, socket.AF_INET6: 3}
_PROTOCOL_NUMBER, _DESTINATION_PORT = 1, 3
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_IP_SOURCE, _BY_PROTOCOL, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
_UNSUPPORTED = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)
"""ENOENT: nothing matched. Without the filter (old kernel) or without ctnetlink stale entries time out by themselves."""

_A_FEW = 8
"""Ports: about as long as it takes to read a table of ordinary size."""


def _delete(family: int, body: bytes, what: str) -> Request:
    header = struct.pack("=BBH", family, 0, 0)
    return Request(_SUBSYSTEM << 8 | _DELETE, 0, header + body, what, _UNSUPPORTED)


def udp_to_port(family: int, port: int) -> Request:
    """Flows that were sent to this UDP port, whatever became of them."""
    protocol = nest(
        _TUPLE_PROTOCOL, attr(_PROTOCOL_NUMBER, bytes([17])), attr(_DESTINATION_PORT, struct.pack(">H", port))
    )
    flags = attr_u32(_FILTER_ORIGINAL, _BY_PROTOCOL | _BY_DESTINATION_PORT)
    return _delete(family, nest(_TUPLE_ORIGINAL, protocol) + nest(_FILTER, flags), f"connections to port {port}/udp")


def answered_by(family: int, ip: str) -> Request:
    """Connections whose other end is the container with the address `ip`."""
    source = nest(_TUPLE_IP, attr(_IP_SOURCE[family], socket.inet_pton(family, ip)))
    flags = attr_u32(_FILTER_REPLY, _BY_IP_SOURCE)
    return _delete(family, nest(_TUPLE_REPLY, source) + nest(_FILTER, flags), f"connections to {ip}")


def _udp_port(body: bytes) -> int | None:
    """Where the UDP flow of one entry was sent to; None for one of another protocol."""
    original = dict(attributes(body[4:])).get(_TUPLE_ORIGINAL, b"")
    protocol = dict(attributes(dict(attributes(original)).get(_TUPLE_PROTOCOL, b"")))
    if protocol.get(_PROTOCOL_NUMBER) != bytes([socket.IPPROTO_UDP]):
        return None
    return int.from_bytes(protocol.get(_DESTINATION_PORT, b""), "big")


def parse_flow(body: bytes) -> Flow | None:
    """One entry: who asked, who answers, and by which port of the latter; where only the port is translated, by that which
    was asked for. None for what is neither TCP nor UDP."""
    family = body[0]
    if family not in _IP_SOURCE:
        return None
    fields = dict(attributes(body[4:]))
    asked, answer = (_ends(family, fields.get(kind, b"")) for kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY))
    if asked is None or answer is None:
        return None
    port = asked.ports[1] if asked.target == answer.source else answer.ports[0]
    return Flow(asked.source, answer.source, asked.protocol, port, now=1)


@frozen
class _Ends:
    """One direction of a connection. `ports`: source, destination."""

    source: str
    target: str
    protocol: str
    ports: tuple[int, int]


def _ends(family: int, data: bytes) -> _Ends | None:
    parts = dict(attributes(data))
    ip, protocol = (dict(attributes(parts.get(kind, b""))) for kind in (_TUPLE_IP, _TUPLE_PROTOCOL))
    source, number = _IP_SOURCE[family], protocol.get(_PROTOCOL_NUMBER, b"\0")[0]
    if number not in _NAMES or source not in ip:
        return None
    ends = (socket.inet_ntop(family, ip[kind]) for kind in (source, source + 1))
    ports = (int.from_bytes(protocol.get(kind, b""), "big") for kind in (_DESTINATION_PORT - 1, _DESTINATION_PORT))
    return _Ends(next(ends), next(ends), _NAMES[number], (next(ports), next(ports)))


class Conntrack:
    """The connections of the network namespace that the thread is in when this is made."""

    def __init__(self) -> None:
        self._sock = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        self._sock.close()

    def forget(self, requests: Iterable[Request]) -> None:
        # One at a time: the nfnetlink core takes only the first message of a datagram that is no transaction.
        for request in requests:
            self._sock.batch([request])

    def forget_udp(self, family: int, ports: Collection[int]) -> None:
        """Flows that were sent to any of these UDP ports."""
        if len(ports) > _A_FEW:
            ports = set(ports) & self._udp_ports(family)
        self.forget(udp_to_port(family, port) for port in ports)

    def flows(self) -> Iterator[Flow]:
        """All that are tracked now, of both families."""
        for family in _IP_SOURCE:
            header = struct.pack("=BBH", family, 0, 0)
            for body in self._sock.ask(Request(_SUBSYSTEM << 8 | _GET, NLM_F_DUMP, header, "connections", _UNSUPPORTED)):
                if (flow := parse_flow(body)) is not None:
                    yield flow

    def _udp_ports(self, family: int) -> set[int]:
        header = struct.pack("=BBH", family, 0, 0)
        found = self._sock.ask(Request(_SUBSYSTEM << 8 | _GET, NLM_F_DUMP, header, "connections", _UNSUPPORTED))
        return {port for body in found if (port := _udp_port(body)) is not None}
