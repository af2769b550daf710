"""Which names a container sees, and what the answer to a DNS question is (RFC 1035; sizes: RFC 6891).

A zone is one network. A container sees the names on the networks it is on: those of the network whose socket it asked, then
those of its others, told by the address it asks from. Names of the project never leave the machine, whether they can be
seen or not, and on internal networks no other name does: DNS would be a way out. Wire format by dnslib.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network

from dnslib import PTR, QTYPE, RCODE, RR, A, DNSBuffer, DNSHeader, DNSQuestion, DNSRecord

from orchestrator.contracts.network import Endpoint
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.values import entity, field

TTL_S = 5
"""A container may have gone when the answer is used; a name server next door costs a client little."""
_CLASSIC_UDP_BYTES = 512
_REVERSE = ".in-addr.arpa"


class Elsewhere(Enum):
    """Not answered here."""

    FORWARD = auto()
    IGNORE = auto()
    """Malformed, or not a question."""


@entity
class Zone:
    """The names on one network: name -> container -> address. `internal`: nothing is asked outside for it."""

    subnet: IPv4Network
    internal: bool = False
    _addresses: dict[str, dict[ContainerId, IPv4Address]] = field(default_factory=dict)
    _holders: dict[IPv4Address, ContainerId] = field(default_factory=dict)
    _entries: dict[ContainerId, tuple[IPv4Address, frozenset[str]]] = field(default_factory=dict)
    _turn: int = 0

    def add(self, container: ContainerId, address: str, names: Iterable[str]) -> None:
        """`container` answers for `names` from now on, and for no others."""
        self.discard(container)
        place, folded = IPv4Address(address), frozenset(name.lower() for name in names)
        self._entries[container] = (place, folded)
        self._holders[place] = container
        for name in folded:
            self._addresses.setdefault(name, {})[container] = place

    def discard(self, container: ContainerId) -> None:
        place, names = self._entries.pop(container, (None, frozenset()))
        if place is not None:
            self._holders.pop(place, None)
        for name in names:
            del self._addresses[name][container]
            if not self._addresses[name]:
                del self._addresses[name]

    def addresses(self, name: str) -> list[IPv4Address]:
        """All addresses of `name`, in turning order, so that clients that take the first share the load."""
        found = sorted(self._addresses.get(name, {}).values())
        if len(found) > 1:
            self._turn = (self._turn + 1) % len(found)
            found = found[self._turn :] + found[: self._turn]
        return found

    def holder(self, address: IPv4Address) -> ContainerId | None:
        return self._holders.get(address)

    def has(self, container: ContainerId) -> bool:
        return container in self._entries


class ProjectNames:
    """All zones of a project, and every name that any container of it has or will have."""

    def __init__(self) -> None:
        self._zones: dict[NetworkName, Zone] = {}
        self._own: dict[ContainerId, frozenset[str]] = {}

    def open_zone(self, network: NetworkName, subnet: IPv4Network, internal: bool = False) -> Zone:
        zone = self._zones.get(network)
        if zone is None or zone.subnet != subnet:
            zone = self._zones[network] = Zone(subnet)
        zone.internal = internal
        return zone

    def close_zone(self, network: NetworkName) -> None:
        self._zones.pop(network, None)

    def claim(self, container: ContainerId, endpoints: Iterable[Endpoint]) -> None:
        """The names of `endpoints` are ours, also while the container does not run."""
        self._own[container] = frozenset(name.lower() for endpoint in endpoints for name in endpoint.names)

    def disclaim(self, container: ContainerId) -> None:
        self._own.pop(container, None)

    def publish(self, container: ContainerId, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            self._zones[endpoint.network].add(container, endpoint.address, endpoint.names)

    def withdraw(self, container: ContainerId) -> None:
        for zone in self._zones.values():
            zone.discard(container)

    def answer(self, zone: Zone, data: bytes, client: str = "", stream: bool = False) -> bytes | Elsewhere:
        """The reply to the message `data` from the address `client` to the socket of `zone`, or what to do with it.
        `stream`: by TCP, any size will do."""
        try:
            buffer = DNSBuffer(data)
            header = DNSHeader.parse(buffer)
            if header.qr:
                return Elsewhere.IGNORE
            if header.opcode != 0 or header.q != 1:
                return bytes(DNSRecord(_reply_header(header, RCODE.NOTIMP)).pack())
            question = DNSQuestion.parse(buffer)
        except Exception:
            # The boundary to text from containers: dnslib has its own error, but also lets some of Python's through.
            return Elsewhere.IGNORE
        zones = self._visible(zone, client)
        reply = self._own_answer(zones, header, question)
        if reply is None:
            if not all(visible.internal for visible in zones):
                return Elsewhere.FORWARD
            # "No such name" and not "refused": clients believe it at once, instead of asking again until they time out.
            reply = DNSRecord(_reply_header(header, RCODE.NXDOMAIN), q=question)
        packed = bytes(reply.pack())
        if not stream and len(packed) > _CLASSIC_UDP_BYTES and len(packed) > _accepted_bytes(data):
            return bytes(reply.truncate().pack())
        return packed

    def _visible(self, zone: Zone, client: str) -> list[Zone]:
        container = zone.holder(IPv4Address(client)) if client else None
        if container is None:
            return [zone]
        return [zone, *(other for other in self._zones.values() if other is not zone and other.has(container))]

    def _own_answer(self, zones: Sequence[Zone], header: DNSHeader, question: DNSQuestion) -> DNSRecord | None:
        """None: not a name of ours."""
        name = b".".join(question.qname.label).decode("latin-1").lower()
        if name.endswith(_REVERSE):
            return self._reverse(zones, name, header, question)
        found = next(filter(None, (zone.addresses(name) for zone in zones)), [])
        if not found and not any(name in names for names in self._own.values()):
            return None
        reply = DNSRecord(_reply_header(header, RCODE.NOERROR if found else RCODE.NXDOMAIN), q=question)
        if question.qtype in (QTYPE.A, QTYPE.ANY):
            for address in found:
                reply.add_answer(RR(question.qname, QTYPE.A, rdata=A(str(address)), ttl=TTL_S))
        return reply

    def _reverse(
        self, zones: Sequence[Zone], name: str, header: DNSHeader, question: DNSQuestion
    ) -> DNSRecord | None:
        try:
            address = IPv4Address(".".join(reversed(name.removesuffix(_REVERSE).split("."))))
        except ValueError:
            return None
        if not any(address in other.subnet for other in self._zones.values()):
            return None
        holder = next(filter(None, (zone.holder(address) for zone in zones)), None)
        reply = DNSRecord(_reply_header(header, RCODE.NOERROR if holder else RCODE.NXDOMAIN), q=question)
        if holder and question.qtype in (QTYPE.PTR, QTYPE.ANY):
            reply.add_answer(RR(question.qname, QTYPE.PTR, rdata=PTR(holder), ttl=TTL_S))
        return reply


def servfail(data: bytes) -> bytes | None:
    """The reply that says that nobody could be asked; None if `data` is no question."""
    try:
        buffer = DNSBuffer(data)
        header = DNSHeader.parse(buffer)
        return bytes(DNSRecord(_reply_header(header, RCODE.SERVFAIL), q=DNSQuestion.parse(buffer)).pack())
    except Exception:  # see ProjectNames.answer
        return None


def question_bytes(data: bytes) -> bytes:
    """The question section, for telling whether a reply belongs to a question; names compare without case. Raises
    ValueError if there is none."""
    try:
        buffer = DNSBuffer(data)
        DNSHeader.parse(buffer)
        DNSQuestion.parse(buffer)
    except Exception as exc:  # see ProjectNames.answer
        raise ValueError("no DNS question") from exc
    return data[12 : buffer.offset].lower()


def _reply_header(request: DNSHeader, rcode: int) -> DNSHeader:
    return DNSHeader(id=request.id, qr=1, aa=1, ra=1, rd=request.rd, rcode=rcode)


def _accepted_bytes(data: bytes) -> int:
    """How large a UDP reply the client takes, as its OPT record says (RFC 6891, 6.2.3)."""
    try:
        options = [r for r in DNSRecord.parse(data).ar if r.rtype == QTYPE.OPT]
    except Exception:  # see ProjectNames.answer
        return _CLASSIC_UDP_BYTES
    return max([_CLASSIC_UDP_BYTES, *(int(r.rclass) for r in options)])
