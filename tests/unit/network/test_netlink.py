"""Packing and parsing of netlink messages, against bytes from the specifications and against each other."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel import netlink as nl
from orchestrator.network import nftables as nft
from orchestrator.network.firewall import Bridge, Translation, table_requests


def test_an_attribute_is_length_type_payload_and_padding() -> None:
    assert nl.attr(3, b"lo\0") == b"\x07\x00\x03\x00lo\x00\x00"
    assert nl.attr_text(3, "eth0") == struct.pack("=HH", 9, 3) + b"eth0\0\0\0\0"
    assert nl.nest(18, nl.attr(1, b"veth"))[2:4] == struct.pack("=H", 18 | 0x8000)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=50)), max_size=10))
def test_attributes_come_back_as_they_were_packed(items: list[tuple[int, bytes]]) -> None:
    assert list(nl.attributes(b"".join(nl.attr(kind, payload) for kind, payload in items))) == items


@given(st.binary(max_size=200))
def test_malformed_data_raises_nothing_but_value_errors(data: bytes) -> None:
    for parse in (nl.attributes, nl.messages):
        with contextlib.suppress(ValueError):
            list(parse(data))


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=50)), min_size=1, max_size=5))
def test_messages_come_back_as_they_were_packed(items: list[tuple[int, bytes]]) -> None:
    packed = b"".join(nl.pack(nl.Request(kind, 0, body, "x"), seq) for seq, (kind, body) in enumerate(items))
    assert [(m.kind, m.body, m.seq) for m in nl.messages(packed)] == [
        (kind, body, seq) for seq, (kind, body) in enumerate(items)
    ]


def test_a_link_is_read_from_its_attributes() -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, nl.IFF_UP, 0)
    body += nl.attr_text(nl.IFLA_IFNAME, "psv1") + nl.attr(nl.IFLA_ADDRESS, bytes(range(6)))
    body += nl.attr_u32(nl.IFLA_MASTER, 3) + nl.attr_u32(nl.IFLA_LINK, 9)
    body += nl.nest(nl.IFLA_LINKINFO, nl.attr(nl.IFLA_INFO_KIND, b"veth\0"))
    assert nl.parse_link(body) == nl.Link(7, "psv1", "00:01:02:03:04:05", 3, 9, True, "veth")


@pytest.mark.parametrize(
    ("prefix", "kind", "destination", "expected"),
    [
        (8, 1, "0a000000", ("10.0.0.0", 8, 2)),
        (8, 6, "0a000000", ("10.0.0.0", 8, 2)),
        (0, 1, "", None),
        (32, 2, "0a000001", None),
        (32, 3, "0a0000ff", None),
    ],
)
def test_only_routes_to_networks_count(
    prefix: int, kind: int, destination: str, expected: tuple[str, int, int] | None
) -> None:
    body = struct.pack("=BBBBBBBBI", 2, prefix, 0, 0, 254, 0, 0, kind, 0) + nl.attr_u32(nl.RTA_OIF, 2)
    if destination:
        body += nl.attr(nl.RTA_DST, bytes.fromhex(destination))
    assert nl.parse_route(body) == expected


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_map_keys_come_back_as_they_were_packed(address: object, port: int) -> None:
    assert nft.unpack_address_port(nft.pack_address_port(str(address), port)) == (str(address), port)


def test_elements_come_back_as_they_were_packed() -> None:
    element = (nft.pack_port(8080), nft.pack_address_port("10.0.0.2", 80))
    assert nft.parse_elements(nft.new_elements("t", "m", [element, element]).body) == [element, element]
    assert nft.parse_table(nft.new_table("pystack_1").body) == "pystack_1"


def test_a_port_on_all_addresses_and_on_one_are_in_different_maps() -> None:
    everywhere = Translation("tcp", "0.0.0.0", 8080, "10.0.0.2", 80)
    local = Translation("tcp", "127.0.0.1", 8080, "10.0.0.2", 80)
    assert (everywhere.map_name, everywhere.key) == ("tcp_any", b"\x1f\x90")
    assert (local.map_name, local.key) == ("tcp_at", b"\x7f\0\0\1\x1f\x90\0\0")
    assert everywhere.value == local.value == b"\x0a\0\0\2\0\x50\0\0"


def test_rules_of_internal_networks_come_first_whatever_their_order() -> None:
    opened, closed = Bridge("psb1", "10.0.0.0", 20), Bridge("psb2", "10.1.0.0", 20, internal=True)
    assert table_requests("t", [opened, closed]) == table_requests("t", [closed, opened])
