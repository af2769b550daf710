"""nf_tables messages: tables, chains, maps and rules, packed by hand. What rules are made of is in `nft_expressions`.

pyroute2's nftables layer has no maps and compiled a /20 to a wrong mask; libnftables is a library that need not be there.
Names and numbers are those of linux/netfilter/nf_tables.h; integers in attributes are big-endian. A table is of one family:
``ip`` (AF_INET), ``ip6`` (AF_INET6) or ``bridge`` (BRIDGE).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from orchestrator.kernel.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NetlinkSocket,
    Request,
    attr,
    attr_text,
    attributes,
    nest,
    text,
)
from orchestrator.values import frozen

SUBSYSTEM = 10
GROUP_NOTIFICATIONS = 7
"""NFNLGRP_NFTABLES: every change of any table."""

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN = 0, 1, 2, 3
_NEWRULE, _DELRULE, _NEWSET = 6, 8, 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14

_ACCEPT = 1

INET, BRIDGE = 1, 7
"""NFPROTO_INET, NFPROTO_BRIDGE (linux/netfilter.h): the families of tables of both IPv4 and IPv6, and of what passes
bridges, seen with its Ethernet header."""

HOOK_PREROUTING, HOOK_INPUT, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 1, 2, 3, 4

TYPE_PORT, TYPE_ETHER, TYPE_INTERFACE, TYPE_PROTOCOL = 13, 9, 41, 12
_TYPE_ADDRESS: dict[int, int] = {socket.AF_INET: 7, socket.AF_INET6: 8}
"""Data types only tell ``nft list`` how to print; a concatenation is written with six bits each."""
_ADDRESS_BYTES: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}

_ELEMENTS = 1000
"""In one message: the length of an attribute has 16 bits."""

Expression = bytes


@frozen
class Table:
    """`family`: AF_INET or AF_INET6, which have the same numbers as NFPROTO_IPV4 and NFPROTO_IPV6, or BRIDGE."""

    name: str
    family: int = socket.AF_INET


def type_address(family: int) -> int:
    return _TYPE_ADDRESS[family]


def type_of(*parts: int) -> int:
    """The data type of a concatenation."""
    code = 0
    for part in parts:
        code = code << 6 | part
    return code


def type_address_port(family: int) -> int:
    """The data type ``address . port``."""
    return type_of(_TYPE_ADDRESS[family], TYPE_PORT)


def bytes_address_port(family: int) -> int:
    """Its size: each part of a concatenation starts at a 4-byte register."""
    return _ADDRESS_BYTES[family] + 4


def _message(kind: int, flags: int, family: int, body: bytes, what: str, tolerate: tuple[int, ...] = ()) -> Request:
    return Request(SUBSYSTEM << 8 | kind, flags, struct.pack("=BBH", family, 0, 0) + body, what, tolerate)


def be32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def commit(sock: NetlinkSocket, requests: Sequence[Request]) -> None:
    """Apply all of `requests` or none. Raises OSError."""
    if not requests:
        return
    frame = struct.pack("=BB", 0, 0) + struct.pack(">H", SUBSYSTEM)
    begin = Request(_BATCH_BEGIN, 0, frame, "nf_tables")
    sock.transaction(begin, requests, Request(_BATCH_END, 0, frame, "nf_tables"))


def new_table(table: Table, exclusive: bool = False) -> Request:
    """`exclusive`: EEXIST when there is one of that name."""
    flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
    return _message(_NEWTABLE, flags, table.family, attr_text(1, table.name), f"nft table {table.name}")


def delete_table(table: Table) -> Request:
    return _message(_DELTABLE, 0, table.family, attr_text(1, table.name), f"nft table {table.name}")


def get_tables(family: int) -> Request:
    return _message(_GETTABLE, NLM_F_DUMP, family, b"", "nft tables")


def parse_table(body: bytes) -> str:
    """The name of the table that a GETTABLE answer or a table notification (its body) is about."""
    return next((text(payload) for kind, payload in attributes(body[4:]) if kind == 1), "")


def is_deleted_table(kind: int) -> bool:
    return kind == (SUBSYSTEM << 8 | _DELTABLE)


def new_base_chain(table: Table, chain: str, kind: str, hook: int, priority: int) -> Request:
    """A chain of type `kind` (``filter``, ``nat``) at a hook, policy accept."""
    body = (
        attr_text(1, table.name)
        + attr_text(3, chain)
        + nest(4, be32(1, hook), be32(2, priority))
        + be32(5, _ACCEPT)
        + attr_text(7, kind)
    )
    return _message(_NEWCHAIN, NLM_F_CREATE, table.family, body, f"nft chain {table.name} {chain}")


def new_chain(table: Table, chain: str) -> Request:
    """A chain that only rules lead to."""
    body = attr_text(1, table.name) + attr_text(3, chain)
    return _message(_NEWCHAIN, NLM_F_CREATE, table.family, body, f"nft chain {table.name} {chain}")


def new_set(table: Table, name: str, number: int, key_type: int, key_bytes: int) -> Request:
    """`number` is unique within the transaction."""
    keys = be32(4, key_type) + be32(5, key_bytes)
    body = attr_text(1, table.name) + attr_text(2, name) + be32(3, 0) + keys + be32(10, number)
    if key_type == TYPE_INTERFACE:
        body += attr(13, struct.pack("=BBI", 0, 4, 1))  # for ``nft list``: not big-endian (libnftnl's udata.h)
    return _message(_NEWSET, NLM_F_CREATE, table.family, body, f"nft set {table.name} {name}")


def new_counters(table: Table, name: str, number: int, key: tuple[int, int], most: int, kept_s: int) -> Request:
    """A set that rules add to (`nft_expressions.count`). `key`: type and size. `most` elements; each goes `kept_s` after it
    was last counted."""
    evaluated, expires = 0x20, 0x10
    body = attr_text(1, table.name) + attr_text(2, name) + be32(3, evaluated | expires) + be32(4, key[0]) + be32(5, key[1])
    body += nest(9, be32(1, most)) + be32(10, number) + attr(11, struct.pack(">Q", kept_s * 1000))
    return _message(_NEWSET, NLM_F_CREATE, table.family, body, f"nft set {table.name} {name}")


def new_map(table: Table, name: str, number: int, key_type: int, key_bytes: int) -> Request:
    """A map from `key_type` to ``address . port``. `number` is unique within the transaction."""
    map_flag = 0x8
    body = (
        attr_text(1, table.name)
        + attr_text(2, name)
        + be32(3, map_flag)
        + be32(4, key_type)
        + be32(5, key_bytes)
        + be32(6, type_address_port(table.family))
        + be32(7, bytes_address_port(table.family))
        + be32(10, number)
    )
    return _message(_NEWSET, NLM_F_CREATE, table.family, body, f"nft map {table.name} {name}")


def new_address_set(table: Table, name: str, number: int, family: int, addresses: Sequence[str]) -> list[Request]:
    """A set of addresses of `family`, which does not change. `number`: as for `new_map`."""
    constant = 0x2
    what = f"nft set {table.name} {name}"
    names = attr_text(1, table.name) + attr_text(2, name)
    kind = be32(4, _TYPE_ADDRESS[family]) + be32(5, _ADDRESS_BYTES[family])
    made = _message(_NEWSET, NLM_F_CREATE, table.family, names + be32(3, constant) + kind + be32(10, number), what)
    keys = [nest(1, nest(1, attr(1, socket.inet_pton(family, address)))) for address in addresses]
    parts = [keys[at : at + _ELEMENTS] for at in range(0, len(keys), _ELEMENTS)]
    return [
        made,
        *(_message(_NEWSETELEM, NLM_F_CREATE, table.family, names + nest(3, *part), what) for part in parts),
    ]


def flush_rules(table: Table) -> Request:
    """Delete the rules of all chains of the table."""
    return _message(_DELRULE, 0, table.family, attr_text(1, table.name), f"nft table {table.name}")


def new_rule(table: Table, chain: str, expressions: Sequence[Expression]) -> Request:
    body = attr_text(1, table.name) + attr_text(2, chain) + nest(4, *expressions)
    return _message(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, table.family, body, f"nft rule in {table.name} {chain}")


Element = tuple[bytes, bytes]
"""Key and value of a map element, as they are in the registers."""


def new_elements(table: Table, name: str, elements: Sequence[Element]) -> Request:
    entries = [nest(1, nest(1, attr(1, key)), nest(2, attr(1, value))) for key, value in elements]
    body = attr_text(1, table.name) + attr_text(2, name) + nest(3, *entries)
    return _message(_NEWSETELEM, NLM_F_CREATE, table.family, body, f"nft map {table.name} {name}")


def new_members(table: Table, name: str, keys: Sequence[bytes]) -> Request:
    """As `new_elements`, of a set: a message of 64 KiB at most."""
    body = attr_text(1, table.name) + attr_text(2, name) + nest(3, *[nest(1, nest(1, attr(1, key))) for key in keys])
    return _message(_NEWSETELEM, NLM_F_CREATE, table.family, body, f"nft set {table.name} {name}")


def delete_elements(table: Table, name: str, keys: Sequence[bytes]) -> Request:
    body = attr_text(1, table.name) + attr_text(2, name) + nest(3, *[nest(1, nest(1, attr(1, key))) for key in keys])
    return _message(_DELSETELEM, 0, table.family, body, f"nft map {table.name} {name}")


def get_elements(table: Table, name: str) -> Request:
    body = attr_text(1, table.name) + attr_text(2, name)
    return _message(_GETSETELEM, NLM_F_DUMP, table.family, body, f"nft map {table.name} {name}", (errno.ENOENT,))


def parse_elements(body: bytes) -> list[Element]:
    """Those of a map."""
    return [
        (dict(attributes(fields[1]))[1], dict(attributes(fields[2]))[1])
        for fields in _entries(body)
        if 1 in fields and 2 in fields
    ]


def parse_members(body: bytes) -> list[bytes]:
    """The keys of a set."""
    return [dict(attributes(fields[1]))[1] for fields in _entries(body) if 1 in fields]


def parse_counters(body: bytes) -> list[tuple[bytes, int]]:
    """The keys of a set with what each was counted, in packets."""
    found = []
    for fields in _entries(body):
        if 1 in fields and 7 in fields:
            counter = dict(attributes(dict(attributes(fields[7])).get(2, b"")))
            found.append((dict(attributes(fields[1]))[1], int.from_bytes(counter.get(2, b""), "big")))
    return found


def _entries(body: bytes) -> Iterator[dict[int, bytes]]:
    for kind, entries in attributes(body[4:]):
        if kind == 3:
            for _, entry in attributes(entries):
                yield dict(attributes(entry))


def pack_port(port: int) -> bytes:
    """A port as a key of its own."""
    return struct.pack(">H", port)


def pack_address_port(family: int, ip: str, port: int) -> bytes:
    """``address . port``."""
    return socket.inet_pton(family, ip) + struct.pack(">Hxx", port)


def unpack_address_port(family: int, data: bytes) -> tuple[str, int]:
    size = _ADDRESS_BYTES[family]
    return socket.inet_ntop(family, data[:size]), int(struct.unpack_from(">H", data, size)[0])
