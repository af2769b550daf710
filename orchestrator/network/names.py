"""Which names a container sees, and what the answer to a DNS question is (RFC 1035; sizes: RFC 6891).

A zone is one network. A container sees the names on the networks it is on: those of the network whose socket it asked, then
those of its others, told by the address it asks from. Names of the project never leave the machine, whether they can be
seen or not, and on internal networks no other name does: DNS would be a way out. Wire format by dnslib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network

from dnslib import PTR, QTYPE, RCODE, RR, A, DNSBuffer, DNSHeader, DNSQuestion, DNSRecord

from orchestrator.contracts.network import Endpoint
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.network.zones import Zone

TTL_S = 5
"""A container may have gone when the answer is used; a name server next door costs a client little."""
_CLASSIC_UDP_BYTES = 512
_REVERSE = ".in-addr.arpa"


class Elsewhere(Enum):
    """Not answered here."""

    FORWARD = auto()
    IGNORE = auto()
    """Malformed, or not a question."""


class ProjectNames:
    """All zones of a project, and every name that any container of it has or will have."""

    def __init__(self) -> None:
        self._zones: dict[NetworkName, Zone] = {}
        self._own: dict[ContainerId, frozenset[str]] = {}
        self._claims: Counter[str] = Counter()
        self._unready: set[ContainerId] = set()

    def open_zone(self, network: NetworkName, subnet: IPv4Network, internal: bool = False) -> Zone:
        zone = self._zones.get(network)
        if zone is None or zone.subnet != subnet:
            zone = self._zones[network] = Zone(subnet, unready=self._unready)
        zone.internal = internal
        return zone

    def close_zone(self, network: NetworkName) -> None:
        self._zones.pop(network, None)

    def claim(self, container: ContainerId, endpoints: Iterable[Endpoint]) -> None:
        """The names of `endpoints` are ours, also while the container does not run."""
        self.disclaim(container)
        own = self._own[container] = frozenset(name.lower() for endpoint in endpoints for name in endpoint.names)
        self._claims.update(own)

    def disclaim(self, container: ContainerId) -> None:
        for name in self._own.pop(container, frozenset()):
            self._claims[name] -= 1
            if not self._claims[name]:
                del self._claims[name]

    def publish(self, container: ContainerId, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            self._zones[endpoint.network].add(container, endpoint.addresses[0].ip, endpoint.names)

    def set_ready(self, container: ContainerId, ready: bool) -> None:
        """Whether a published `container` answers to shared names."""
        if ready:
            self._unready.discard(container)
        elif any(zone.has(container) for zone in self._zones.values()):
            self._unready.add(container)

    def withdraw(self, container: ContainerId) -> None:
        self._unready.discard(container)
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
        zone = next((zone for zone in zones if zone.knows(name)), None)
        if zone is None and name not in self._claims:
            return None
        reply = DNSRecord(_reply_header(header, RCODE.NXDOMAIN if zone is None else RCODE.NOERROR), q=question)
        # Other types do not count as a turn: clients ask for AAAA with every A, and two replicas would never change places.
        if zone is not None and question.qtype in (QTYPE.A, QTYPE.ANY):
            for address in zone.addresses(name):
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
