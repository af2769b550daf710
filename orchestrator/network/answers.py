"""The answer to a DNS question about names that a container sees (RFC 1035; sizes: RFC 6891). Wire format by dnslib.

Imported with the first question: dnslib takes longer to import than a container to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from ipaddress import IPv4Address

from dnslib import PTR, QTYPE, RCODE, RR, A, DNSBuffer, DNSHeader, DNSQuestion, DNSRecord

from orchestrator.network.names import ProjectNames
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


def answer(
    names: ProjectNames, zone: Zone, data: bytes, client: str = "", stream: bool = False
) -> bytes | Elsewhere:
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
    zones = names.visible(zone, client)
    name = b".".join(question.qname.label).decode("latin-1").lower()
    reply = _own_answer(names, zones, names.meant(zone, client, name), header, question)
    if reply is None:
        if not all(visible.internal for visible in zones):
            return Elsewhere.FORWARD
        # "No such name" and not "refused": clients believe it at once, instead of asking again until they time out.
        reply = DNSRecord(_reply_header(header, RCODE.NXDOMAIN), q=question)
    packed = bytes(reply.pack())
    if not stream and len(packed) > _CLASSIC_UDP_BYTES and len(packed) > _accepted_bytes(data):
        return bytes(reply.truncate().pack())
    return packed


def _own_answer(
    names: ProjectNames, zones: Sequence[Zone], name: str, header: DNSHeader, question: DNSQuestion
) -> DNSRecord | None:
    """To the question for `name`. None: not a name of ours."""
    if name.endswith(_REVERSE):
        return _reverse(names, zones, name, header, question)
    zone = next((zone for zone in zones if zone.knows(name)), None)
    if zone is None and not names.claimed(name):
        return None
    reply = DNSRecord(_reply_header(header, RCODE.NXDOMAIN if zone is None else RCODE.NOERROR), q=question)
    # Other types do not count as a turn: clients ask for AAAA with every A, and two replicas would never change places.
    if zone is not None and question.qtype in (QTYPE.A, QTYPE.ANY):
        for address in zone.addresses(name):
            reply.add_answer(RR(question.qname, QTYPE.A, rdata=A(str(address)), ttl=TTL_S))
    return reply


def _reverse(
    names: ProjectNames, zones: Sequence[Zone], name: str, header: DNSHeader, question: DNSQuestion
) -> DNSRecord | None:
    try:
        address = IPv4Address(".".join(reversed(name.removesuffix(_REVERSE).split("."))))
    except ValueError:
        return None
    if not names.covers(address):
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
    except Exception:  # see `answer`
        return None


def question_bytes(data: bytes) -> bytes:
    """The question section, for telling whether a reply belongs to a question; names compare without case. Raises
    ValueError if there is none."""
    try:
        buffer = DNSBuffer(data)
        DNSHeader.parse(buffer)
        DNSQuestion.parse(buffer)
    except Exception as exc:  # see `answer`
        raise ValueError("no DNS question") from exc
    return data[12 : buffer.offset].lower()


def _reply_header(request: DNSHeader, rcode: int) -> DNSHeader:
    return DNSHeader(id=request.id, qr=1, aa=1, ra=1, rd=request.rd, rcode=rcode)


def _accepted_bytes(data: bytes) -> int:
    """How large a UDP reply the client takes, as its OPT record says (RFC 6891, 6.2.3)."""
    try:
        options = [r for r in DNSRecord.parse(data).ar if r.rtype == QTYPE.OPT]
    except Exception:  # see `answer`
        return _CLASSIC_UDP_BYTES
    return max([_CLASSIC_UDP_BYTES, *(int(r.rclass) for r in options)])
