"""The answer to a DNS question about names that a container sees."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address

from orchestrator.model.subnets import IPAddress
from orchestrator.network import wire
from orchestrator.network.names import HOST_NAMES, ProjectNames
from orchestrator.network.zones import Zone

TTL_S = 5
"""A container may have gone when the answer is used; a name server next door costs a client little."""
_REVERSE_V4, _REVERSE_V6 = ".in-addr.arpa", ".ip6.arpa"
_FAMILIES = {wire.A: (4,), wire.AAAA: (6,), wire.ANY: (4, 6)}


class Elsewhere(Enum):
    """Not answered here."""

    FORWARD = auto()
    IGNORE = auto()
    """Malformed, not a question, or one that is not to be answered."""
    LATER = auto()
    """To be asked again in a moment: who answers to the name may be taken over just now."""


def answer(names: ProjectNames, zone: Zone, data: bytes, client: str = "", stream: bool = False) -> bytes | Elsewhere:
    """The reply to the message `data` from the address `client` to the socket of `zone`, or what to do with it.
    `stream`: by TCP, any size will do."""
    question = wire.parse(data)
    if question is None:
        return Elsewhere.IGNORE
    if not question.whole:
        return wire.reply(question, wire.NOTIMP)
    if question.edns is not None and question.edns[1]:
        return wire.reply(question, wire.BADVERS)
    with names.lock:
        decided = _decide(names, zone, question, client)
    if isinstance(decided, Elsewhere):
        return decided
    rcode, found = decided
    return wire.reply(question, rcode, found, 65535 if stream else question.udp_bytes)


_Decided = tuple[int, Sequence[bytes]]


def _decide(names: ProjectNames, zone: Zone, question: wire.Question, client: str) -> _Decided | Elsewhere:
    if (failing := names.failing(zone, client, question.name)) is not None:
        return Elsewhere.IGNORE if failing.silent else (wire.SERVFAIL, ())
    zones = names.visible(zone, client)
    name = names.meant(zone, client, question.name)
    if name.endswith((_REVERSE_V4, _REVERSE_V6)):
        decided = _reverse(names, zones, name, question.kind)
    else:
        decided = _forward(names, zones, name, question.kind, client)
    if decided is not None and decided[0] == wire.NOERROR:
        return decided
    if names.expects(zone, client, name):
        return Elsewhere.LATER
    if decided is None and not all(visible.internal for visible in zones):
        return Elsewhere.FORWARD
    # "No such name" and not "refused": clients believe it at once, instead of asking again until they time out.
    return decided or (wire.NXDOMAIN, ())


def _forward(names: ProjectNames, zones: Sequence[Zone], name: str, kind: int, client: str) -> _Decided | None:
    """The addresses of `name`. None: not a name of ours."""
    families = _FAMILIES.get(kind, ())
    if names.find(zones, name) is not None:
        # Other types do not count as a turn, or two replicas would never change places for who asks for A and AAAA.
        found = (_addresses(names, zones, name, family) for family in families)
        return wire.NOERROR, [_address(address) for addresses in found for address in addresses]
    if names.claimed(name):
        return wire.NXDOMAIN, ()
    if name in HOST_NAMES and (gateways := zones[0].gateways(client)):
        return wire.NOERROR, [_address(address) for address in gateways if address.version in families]
    return None


def _addresses(names: ProjectNames, zones: Sequence[Zone], name: str, family: int) -> Sequence[IPAddress]:
    """Those on the first network on which the name has any of that family."""
    left = zones
    while (found := names.find(left, name)) is not None:
        zone, meant = found
        if addresses := zone.addresses(meant, family):
            return addresses
        left = [other for other in left if zone not in (other, other.neighbours)]
    return ()


def _address(address: IPAddress) -> bytes:
    return wire.record(wire.A if address.version == 4 else wire.AAAA, TTL_S, address.packed)


def _reverse(names: ProjectNames, zones: Sequence[Zone], name: str, kind: int) -> _Decided | None:
    address = _reversed(name)
    if address is None or not names.covers(address):
        return None
    every = (*zones, *(zone.neighbours for zone in zones if zone.neighbours is not None))
    held = ((zone, zone.holder(str(address))) for zone in every)
    holder = next((zone.name_of(found) for zone, found in held if found is not None), None)
    if holder is None:
        return wire.NXDOMAIN, ()
    if kind not in (wire.PTR, wire.ANY):
        return wire.NOERROR, ()
    try:
        return wire.NOERROR, [wire.record(wire.PTR, TTL_S, wire.encode_name(holder))]
    except ValueError:
        return wire.NOERROR, ()


def _reversed(name: str) -> IPAddress | None:
    try:
        if name.endswith(_REVERSE_V4):
            return IPv4Address(".".join(reversed(name.removesuffix(_REVERSE_V4).split("."))))
        digits = name.removesuffix(_REVERSE_V6).split(".")
        if len(digits) != 32 or any(len(digit) != 1 for digit in digits):
            return None
        return IPv6Address(int("".join(reversed(digits)), 16))
    except ValueError:
        return None


def servfail(data: bytes) -> bytes | None:
    """The reply that says that nobody could be asked; None if `data` is no question."""
    question = wire.parse(data)
    return wire.reply(question, wire.SERVFAIL) if question is not None else None


def question_bytes(data: bytes) -> bytes:
    """The question section, for telling whether a reply belongs to a question; names compare without case. Raises
    ValueError if there is none."""
    return wire.section(data)
