"""nf_tables messages: tables, chains, maps, rules and the expressions that rules are made of, packed by hand.

pyroute2's nftables layer has no maps and compiled a /20 to a wrong mask; libnftables is a library that need not be there.
Names and numbers are those of linux/netfilter/nf_tables.h; integers in attributes are big-endian. A rule is a list of
expressions working on registers: each loads (payload, meta, ct, fib), compares, or acts. The 32-bit registers R0, R1, ...
lie side by side, so a concatenation ``ip daddr . tcp dport`` is two loads into neighbours. All tables are of family ``ip``.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence

from orchestrator.kernel.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NetlinkSocket,
    Request,
    attr,
    attr_text,
    attributes,
    nest,
    text,
)

SUBSYSTEM = 10
GROUP_NOTIFICATIONS = 7
"""NFNLGRP_NFTABLES: every change of any table."""

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN = 0, 1, 2, 3
_NEWRULE, _DELRULE, _NEWSET = 6, 8, 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14

R0, R1, R2 = 8, 9, 10
_VERDICT = 0
_DROP, _ACCEPT = 0, 1

HOOK_PREROUTING, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 2, 3, 4

TYPE_ADDRESS, TYPE_PORT = 7, 13
TYPE_ADDRESS_PORT = TYPE_ADDRESS << 6 | TYPE_PORT
"""Data types only tell ``nft list`` how to print; a concatenation is written with six bits each."""

Expression = bytes


def _message(kind: int, flags: int, body: bytes, what: str, tolerate: tuple[int, ...] = ()) -> Request:
    return Request(SUBSYSTEM << 8 | kind, flags, struct.pack("=BBH", socket.AF_INET, 0, 0) + body, what, tolerate)


def _be32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def commit(sock: NetlinkSocket, requests: Sequence[Request]) -> None:
    """Apply all of `requests` or none. Raises OSError."""
    if not requests:
        return
    frame = struct.pack("=BB", 0, 0) + struct.pack(">H", SUBSYSTEM)
    begin = Request(_BATCH_BEGIN, 0, frame, "nf_tables")
    sock.transaction(begin, requests, Request(_BATCH_END, 0, frame, "nf_tables"))


# -- tables, chains, maps, rules --------------------------------------------------------------------------------------


def new_table(table: str) -> Request:
    return _message(_NEWTABLE, NLM_F_CREATE, attr_text(1, table), f"nft table {table}")


def delete_table(table: str) -> Request:
    return _message(_DELTABLE, 0, attr_text(1, table), f"nft table {table}")


def get_tables() -> Request:
    return _message(_GETTABLE, NLM_F_DUMP, b"", "nft tables")


def parse_table(body: bytes) -> str:
    """The name of the table that a GETTABLE answer or a table notification (its body) is about."""
    return next((text(payload) for kind, payload in attributes(body[4:]) if kind == 1), "")


def is_deleted_table(kind: int) -> bool:
    return kind == (SUBSYSTEM << 8 | _DELTABLE)


def new_base_chain(table: str, chain: str, kind: str, hook: int, priority: int) -> Request:
    """A chain of type `kind` (``filter``, ``nat``) at a hook, policy accept."""
    body = (
        attr_text(1, table)
        + attr_text(3, chain)
        + nest(4, _be32(1, hook), _be32(2, priority))
        + _be32(5, _ACCEPT)
        + attr_text(7, kind)
    )
    return _message(_NEWCHAIN, NLM_F_CREATE, body, f"nft chain {table} {chain}")


def new_map(table: str, name: str, number: int, key_type: int, key_bytes: int) -> Request:
    """A map from `key_type` to ``address . port``. `number` is unique within the transaction."""
    map_flag = 0x8
    body = (
        attr_text(1, table)
        + attr_text(2, name)
        + _be32(3, map_flag)
        + _be32(4, key_type)
        + _be32(5, key_bytes)
        + _be32(6, TYPE_ADDRESS_PORT)
        + _be32(7, 8)
        + _be32(10, number)
    )
    return _message(_NEWSET, NLM_F_CREATE, body, f"nft map {table} {name}")


def flush_rules(table: str) -> Request:
    """Delete the rules of all chains of the table."""
    return _message(_DELRULE, 0, attr_text(1, table), f"nft table {table}")


def new_rule(table: str, chain: str, expressions: Sequence[Expression]) -> Request:
    body = attr_text(1, table) + attr_text(2, chain) + nest(4, *expressions)
    return _message(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, f"nft rule in {table} {chain}")


Element = tuple[bytes, bytes]
"""Key and value of a map element, as they are in the registers."""


def new_elements(table: str, name: str, elements: Sequence[Element]) -> Request:
    entries = [nest(1, nest(1, attr(1, key)), nest(2, attr(1, value))) for key, value in elements]
    body = attr_text(1, table) + attr_text(2, name) + nest(3, *entries)
    return _message(_NEWSETELEM, NLM_F_CREATE, body, f"nft map {table} {name}")


def delete_elements(table: str, name: str, keys: Sequence[bytes]) -> Request:
    body = attr_text(1, table) + attr_text(2, name) + nest(3, *[nest(1, nest(1, attr(1, key))) for key in keys])
    return _message(_DELSETELEM, 0, body, f"nft map {table} {name}")


def get_elements(table: str, name: str) -> Request:
    body = attr_text(1, table) + attr_text(2, name)
    return _message(_GETSETELEM, NLM_F_DUMP, body, f"nft map {table} {name}", (errno.ENOENT,))


def parse_elements(body: bytes) -> list[Element]:
    found: list[Element] = []
    for kind, entries in attributes(body[4:]):
        if kind != 3:
            continue
        for _, entry in attributes(entries):
            fields = dict(attributes(entry))
            if 1 in fields and 2 in fields:
                found.append((dict(attributes(fields[1]))[1], dict(attributes(fields[2]))[1]))
    return found


def pack_port(port: int) -> bytes:
    """A port as a key of its own."""
    return struct.pack(">H", port)


def pack_address_port(address: str, port: int) -> bytes:
    """``address . port``: each part of a concatenation starts at a 4-byte register."""
    return socket.inet_aton(address) + struct.pack(">Hxx", port)


def unpack_address_port(data: bytes) -> tuple[str, int]:
    return socket.inet_ntoa(data[:4]), int(struct.unpack_from(">H", data, 4)[0])


# -- expressions ------------------------------------------------------------------------------------------------------


def _expression(name: str, *children: bytes) -> Expression:
    return nest(1, attr_text(1, name), nest(2, *children))


def _compare(register: int, value: bytes, equal: bool = True) -> Expression:
    return _expression("cmp", _be32(1, register), _be32(2, 0 if equal else 1), nest(3, attr(1, value)))


def _meta(key: int, register: int = R0) -> Expression:
    return _expression("meta", _be32(1, register), _be32(2, key))


def _payload(base: int, offset: int, length: int, register: int) -> Expression:
    return _expression("payload", _be32(1, register), _be32(2, base), _be32(3, offset), _be32(4, length))


def _masked(mask: bytes) -> Expression:
    return _expression(
        "bitwise",
        _be32(1, R0),
        _be32(2, R0),
        _be32(3, len(mask)),
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


def not_from_loopback() -> list[Expression]:
    """``iif != lo``: lo has index 1 in every network namespace."""
    return [_meta(4), _compare(R0, struct.pack("=I", 1), equal=False)]


def _in_subnet(offset: int, address: str, prefix: int) -> list[Expression]:
    """A prefix of whole bytes is a shorter load; nft itself writes and reads it so."""
    packed = socket.inet_aton(address)
    if prefix % 8 == 0 and prefix:
        length = prefix // 8
        return [_payload(1, offset, length, R0), _compare(R0, packed[:length])]
    mask = struct.pack(">I", (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)
    return [_payload(1, offset, 4, R0), _masked(mask), _compare(R0, packed)]


def from_subnet(address: str, prefix: int) -> list[Expression]:
    """``ip saddr ADDRESS/PREFIX``"""
    return _in_subnet(12, address, prefix)


def to_subnet(address: str, prefix: int) -> list[Expression]:
    """``ip daddr ADDRESS/PREFIX``"""
    return _in_subnet(16, address, prefix)


def _ct_bits(key: int, bits: int) -> list[Expression]:
    ct = _expression("ct", _be32(1, R0), _be32(2, key))
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
    fib = _expression("fib", _be32(1, R0), _be32(2, result_address_type), _be32(3, flag_daddr))
    return [fib, _compare(R0, struct.pack("=I", rtn_local))]


def l4_protocol(number: int) -> list[Expression]:
    """``meta l4proto NUMBER``"""
    return [_meta(16), _compare(R0, bytes([number]))]


def translate_by_port(name: str) -> list[Expression]:
    """``dnat ip to th dport map @NAME``; goes on with the next rule when the port is not in the map."""
    return [_payload(2, 2, 2, R0), *_translate(name)]


def translate_by_address_and_port(name: str) -> list[Expression]:
    """``dnat ip to ip daddr . th dport map @NAME``"""
    return [_payload(1, 16, 4, R0), _payload(2, 2, 2, R1), *_translate(name)]


def _translate(name: str) -> list[Expression]:
    lookup = _expression("lookup", attr_text(1, name), _be32(2, R0), _be32(3, R0))
    dnat = _expression("nat", _be32(1, 1), _be32(2, socket.AF_INET), _be32(3, R0), _be32(5, R1))
    return [lookup, dnat]


def masquerade() -> list[Expression]:
    return [_expression("masq")]


def _verdict(code: int) -> Expression:
    return _expression("immediate", _be32(1, _VERDICT), nest(2, nest(2, _be32(1, code))))


def accept() -> list[Expression]:
    return [_verdict(_ACCEPT)]


def drop() -> list[Expression]:
    return [_verdict(_DROP)]
