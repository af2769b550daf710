"""What nft rules are made of: expressions, packed by hand (linux/netfilter/nf_tables.h).

A rule is a list of expressions working on registers: each loads (payload, meta, ct, fib), compares, or acts. The 32-bit
registers R0, R1, ... lie side by side, so a concatenation ``ip daddr . tcp dport`` is two loads into neighbours: an IPv4
address fills one register, an IPv6 address four. What looks into the packet's IP header takes the `family` of the table.
"""

from __future__ import annotations

import socket
import struct

from orchestrator.kernel.netlink import attr, attr_text, nest
from orchestrator.network.nftables import Expression, be32
from orchestrator.values import frozen

R0 = 8
_VERDICT = 0
_DROP, _ACCEPT, _GOTO = 0, 1, -4


@frozen
class _Header:
    """Where addresses are in an IP header, in bytes (RFC 791, RFC 8200)."""

    source: int
    destination: int
    address_bytes: int


_HEADERS: dict[int, _Header] = {socket.AF_INET: _Header(12, 16, 4), socket.AF_INET6: _Header(8, 24, 16)}


_ETHER_TYPES: dict[int, int] = {socket.AF_INET: 0x0800, socket.AF_INET6: 0x86DD}
_IN_10000 = 10_000


def _expression(name: str, *children: bytes) -> Expression:
    return nest(1, attr_text(1, name), nest(2, *children))


def _compare(register: int, value: bytes, equal: bool = True) -> Expression:
    return _ordered(register, 0 if equal else 1, value)


def _ordered(register: int, operator: int, value: bytes) -> Expression:
    """Compared as numbers in network byte order."""
    return _expression("cmp", be32(1, register), be32(2, operator), nest(3, attr(1, value)))


def _meta(key: int, register: int = R0) -> Expression:
    return _expression("meta", be32(1, register), be32(2, key))


def _payload(base: int, offset: int, length: int, register: int) -> Expression:
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, length))


def _masked(mask: bytes) -> Expression:
    return _expression(
        "bitwise",
        be32(1, R0),
        be32(2, R0),
        be32(3, len(mask)),
        nest(4, attr(1, mask)),
        nest(5, attr(1, bytes(len(mask)))),
    )


def _interface_name(name: str) -> bytes:
    ifnamsiz = 16
    return name.encode().ljust(ifnamsiz, b"\0")


def input_interface(name: str, equal: bool = True) -> list[Expression]:
    """``iifname NAME``"""
    return [_meta(6), _compare(R0, _interface_name(name), equal)]


def output_interface(name: str, equal: bool = True) -> list[Expression]:
    """``oifname NAME``"""
    return [_meta(7), _compare(R0, _interface_name(name), equal)]


@frozen
class Field:
    """A part of a packet. `base`: the header that `offset` counts from (NFT_PAYLOAD_LL_HEADER, _NETWORK_, _TRANSPORT_)."""

    base: int
    offset: int
    length: int


def by_port_and(name: str, *fields: Field) -> list[Expression]:
    """``iifname . FIELD . ... @NAME``: the port that it came in by, and what it says of itself, are in a set."""
    loads, register = [_meta(6, R0)], R0 + 4
    for field in fields:
        loads.append(_payload(field.base, field.offset, field.length, register))
        register += (field.length + 3) // 4
    return [*loads, _expression("lookup", attr_text(1, name), be32(2, R0))]


def pair(family: int, answer: bool = False) -> list[Expression]:
    """``ip saddr . ip daddr . meta l4proto . th dport``, as it is in the registers; of an answer, that of the question."""
    header = _HEADERS[family]
    first, second = (header.destination, header.source) if answer else (header.source, header.destination)
    middle, after = _after_address(family), 2 * _after_address(family) - R0
    ends = [_payload(1, first, header.address_bytes, R0), _payload(1, second, header.address_bytes, middle)]
    return [*ends, _meta(16, after), _payload(2, 0 if answer else 2, 2, after + 1)]


def known(name: str) -> list[Expression]:
    """What was loaded last (`pair`) is in the set `name`; if that has counters, it is counted."""
    return [_expression("lookup", attr_text(1, name), be32(2, R0))]


def count(name: str) -> list[Expression]:
    """``update @NAME { ... counter }`` by what was loaded last."""
    update, counter = 1, nest(7, attr_text(1, "counter"))
    return [_expression("dynset", attr_text(1, name), be32(3, update), be32(4, R0), counter)]


def opens_tcp() -> list[Expression]:
    """``tcp flags & (syn | ack) == syn``"""
    syn, ack = 0x02, 0x10
    flags = [_payload(2, 13, 1, R0), _masked(bytes([syn | ack])), _compare(R0, bytes([syn]))]
    return [*l4_protocol(socket.IPPROTO_TCP), *flags]


def says(field: Field, value: bytes) -> list[Expression]:
    """``FIELD == VALUE``; does not hold for a packet that ends before."""
    return [_payload(field.base, field.offset, field.length, R0), _compare(R0, value)]


def not_from_loopback() -> list[Expression]:
    """``iif != lo``: lo has index 1 in every network namespace."""
    return [_meta(4), _compare(R0, struct.pack("=I", 1), equal=False)]


def _in_subnet(family: int, offset: int, ip: str, prefix: int, equal: bool = True) -> list[Expression]:
    """A prefix of whole bytes is a shorter load; nft itself writes and reads it so."""
    packed = socket.inet_pton(family, ip)
    if prefix % 8 == 0 and prefix:
        length = prefix // 8
        return [_payload(1, offset, length, R0), _compare(R0, packed[:length], equal)]
    bits = len(packed) * 8
    mask = ((1 << bits) - (1 << (bits - prefix))).to_bytes(len(packed), "big")
    return [_payload(1, offset, len(packed), R0), _masked(mask), _compare(R0, packed, equal)]


def from_subnet(family: int, ip: str, prefix: int) -> list[Expression]:
    """``ip saddr ADDRESS/PREFIX`` (or ``ip6``)"""
    return _in_subnet(family, _HEADERS[family].source, ip, prefix)


def to_subnet(family: int, ip: str, prefix: int) -> list[Expression]:
    """``ip daddr ADDRESS/PREFIX`` (or ``ip6``)"""
    return _in_subnet(family, _HEADERS[family].destination, ip, prefix)


def _ct_bits(key: int, bits: int) -> list[Expression]:
    ct = _expression("ct", be32(1, R0), be32(2, key))
    return [ct, _masked(struct.pack("=I", bits)), _compare(R0, bytes(4), equal=False)]


def established() -> list[Expression]:
    """``ct state established,related``"""
    return _ct_bits(0, 0x2 | 0x4)


def destination_translated() -> list[Expression]:
    """``ct status dnat``"""
    return _ct_bits(2, 0x20)


def to_local_address() -> list[Expression]:
    """``fib daddr type local``"""
    result_address_type, flag_daddr, rtn_local = 3, 0x2, 2
    fib = _expression("fib", be32(1, R0), be32(2, result_address_type), be32(3, flag_daddr))
    return [fib, _compare(R0, struct.pack("=I", rtn_local))]


def l4_protocol(number: int) -> list[Expression]:
    """``meta l4proto NUMBER``"""
    return [_meta(16), _compare(R0, bytes([number]))]


def ether_type(family: int) -> list[Expression]:
    """``meta protocol ip`` (or ``ip6``): for tables of both families."""
    return [_meta(1), _compare(R0, struct.pack(">H", _ETHER_TYPES[family]))]


def from_any_of(family: int, name: str, positive: bool = True) -> list[Expression]:
    """``ip saddr @NAME`` (or ``ip6``), or ``!=``."""
    return _in_set(family, _HEADERS[family].source, name, positive)


def to_any_of(family: int, name: str, positive: bool = True) -> list[Expression]:
    """``ip daddr @NAME`` (or ``ip6``), or ``!=``."""
    return _in_set(family, _HEADERS[family].destination, name, positive)


def _in_set(family: int, offset: int, name: str, positive: bool) -> list[Expression]:
    inverted = [] if positive else [be32(5, 1)]
    return [
        _payload(1, offset, _HEADERS[family].address_bytes, R0),
        _expression("lookup", attr_text(1, name), be32(2, R0), *inverted),
    ]


def not_in_subnet(family: int, ip: str, prefix: int, *, source: bool) -> list[Expression]:
    """``ip saddr != ADDRESS/PREFIX``, or ``daddr`` (or ``ip6``)."""
    header = _HEADERS[family]
    return _in_subnet(family, header.source if source else header.destination, ip, prefix, equal=False)


def port_of(number: int, *, source: bool) -> list[Expression]:
    """``th sport NUMBER``, or ``dport``."""
    return [_payload(2, 0 if source else 2, 2, R0), _compare(R0, struct.pack(">H", number))]


def tcp_to_udp() -> list[Expression]:
    """``meta l4proto tcp-udp``: 6 to 17. What is in between has not been seen for decades (RFC 790)."""
    ends = [nest(3, attr(1, bytes([socket.IPPROTO_TCP]))), nest(4, attr(1, bytes([socket.IPPROTO_UDP])))]
    return [_meta(16), _expression("range", be32(1, R0), be32(2, 0), *ends)]


def set_local_port(number: int, *, source: bool) -> list[Expression]:
    """``udp sport set NUMBER`` (or ``dport``) in what leaves by lo, and for TCP too. A checksum is changed where it has
    been made, which is that of UDP in rare cases, and of TCP never: lo says that it does that, and does not
    (drivers/net/loopback.c, NETIF_F_HW_CSUM)."""
    checksum_at = 6
    value = _expression("immediate", be32(1, R0), nest(2, attr(1, struct.pack(">H", number))))
    at, internet_checksum = 0 if source else 2, 1
    where = [be32(2, 2), be32(3, at), be32(4, 2)]
    checksum = [be32(6, internet_checksum), be32(7, checksum_at), be32(8, 0)]
    return [value, _expression("payload", be32(5, R0), *where, *checksum)]


def not_to_mac(mac: str) -> list[Expression]:
    """``ether daddr != MAC``"""
    return [_payload(0, 0, 6, R0), _compare(R0, bytes.fromhex(mac.replace(":", "")), equal=False)]


def neighbour_discovery() -> list[Expression]:
    """``icmpv6 type 133-137``: what addresses are resolved by (RFC 4861)."""
    less_or_equal, greater_or_equal = 3, 5
    return [
        *l4_protocol(58),
        _payload(2, 0, 1, R0),
        _ordered(R0, greater_or_equal, bytes([133])),
        _ordered(R0, less_or_equal, bytes([137])),
    ]


def one_in(share: float) -> list[Expression]:
    """``numgen random mod 10000 < SHARE``: holds with that probability. 1.0: always."""
    if share >= 1.0:
        return []
    less, random, host_to_network = 2, 1, 1
    number = _expression("numgen", be32(1, R0), be32(2, _IN_10000), be32(3, random))
    swapped = _expression(
        "byteorder", be32(1, R0), be32(2, R0), be32(3, host_to_network), be32(4, 4), be32(5, 4)
    )
    return [number, swapped, _ordered(R0, less, struct.pack(">I", round(share * _IN_10000)))]


def translate_by_port(family: int, name: str) -> list[Expression]:
    """``dnat ip to th dport map @NAME``; goes on with the next rule when the port is not in the map."""
    return [_payload(2, 2, 2, R0), *_translate(family, name)]


def translate_by_address_and_port(family: int, name: str) -> list[Expression]:
    """``dnat ip to ip daddr . th dport map @NAME``"""
    header = _HEADERS[family]
    address = _payload(1, header.destination, header.address_bytes, R0)
    return [address, _payload(2, 2, 2, _after_address(family)), *_translate(family, name)]


def _after_address(family: int) -> int:
    """The register behind an address in R0 and up."""
    return R0 + _HEADERS[family].address_bytes // 4


def _translate(family: int, name: str) -> list[Expression]:
    lookup = _expression("lookup", attr_text(1, name), be32(2, R0), be32(3, R0))
    dnat = _expression("nat", be32(1, 1), be32(2, family), be32(3, R0), be32(5, _after_address(family)))
    return [lookup, dnat]


def masquerade() -> list[Expression]:
    return [_expression("masq")]


def _verdict(code: int) -> Expression:
    return _expression("immediate", be32(1, _VERDICT), nest(2, nest(2, be32(1, code))))


def go_to(chain: str) -> list[Expression]:
    """``goto CHAIN``: after its last rule the policy decides."""
    verdict = be32(1, _GOTO) + attr_text(2, chain)
    return [_expression("immediate", be32(1, _VERDICT), nest(2, nest(2, verdict)))]


def accept() -> list[Expression]:
    return [_verdict(_ACCEPT)]


def drop() -> list[Expression]:
    return [_verdict(_DROP)]
