"""Packing and parsing of netlink messages, against bytes from the specifications and against each other."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_pton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.network import conntrack
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.firewall import Bridge, Translation, table_requests

TABLE = nft.Table("t")


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
    body = struct.pack("=BxHiII", 0, 1, 7, rt.IFF_UP, 0)
    body += nl.attr_text(rt.IFLA_IFNAME, "psv1") + nl.attr(rt.IFLA_ADDRESS, bytes(range(6)))
    body += nl.attr_u32(rt.IFLA_MASTER, 3) + nl.attr_u32(rt.IFLA_LINK, 9)
    body += nl.nest(rt.IFLA_LINKINFO, nl.attr(rt.IFLA_INFO_KIND, b"veth\0"))
    assert rt.parse_link(body) == rt.Link(7, "psv1", "00:01:02:03:04:05", 3, 9, True, "veth")


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
    body = struct.pack("=BBBBBBBBI", 2, prefix, 0, 0, 254, 0, 0, kind, 0) + nl.attr_u32(rt.RTA_OIF, 2)
    if destination:
        body += nl.attr(rt.RTA_DST, bytes.fromhex(destination))
    assert rt.parse_route(body) == expected


FAMILIES = pytest.mark.parametrize(
    ("family", "subnet"), [(AF_INET, "10.9.0.0/20"), (AF_INET6, "fd09:8:7::/60")], ids=["IPv4", "IPv6"]
)


@FAMILIES
@given(data=st.data(), port=st.integers(0, 65535))
def test_map_keys_come_back_as_they_were_packed(family: int, subnet: str, data: st.DataObject, port: int) -> None:
    ip = str(data.draw(st.ip_addresses(network=subnet)))
    packed = nft.pack_address_port(family, ip, port)
    assert len(packed) == nft.bytes_address_port(family)
    assert nft.unpack_address_port(family, packed) == (ip, port)


@FAMILIES
@given(data=st.data(), prefix=st.integers(1, 32))
def test_addresses_and_routes_come_back_as_they_were_packed(
    family: int, subnet: str, data: st.DataObject, prefix: int
) -> None:
    ip = str(data.draw(st.ip_addresses(network=subnet)))
    body = rt.new_address(family, 7, ip, prefix).body
    assert rt.parse_address(body) == rt.InterfaceAddress(7, ip, prefix)
    assert rt.delete_address(family, 7, ip, prefix).body[0] == body[0] == family
    assert rt.get_addresses(family).body[0] == rt.get_routes(family).body[0] == family
    route = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, 254, 0, 0, 1, 0) + nl.attr_u32(rt.RTA_OIF, 2)
    route += nl.attr(rt.RTA_DST, inet_pton(family, ip))
    assert rt.parse_route(route) == (ip, prefix, 2)
    way_out = rt.new_default_route(family, ip, 3).body
    assert dict(nl.attributes(way_out[12:])) == {rt.RTA_GATEWAY: inet_pton(family, ip), rt.RTA_OIF: struct.pack("=I", 3)}
    assert rt.parse_route(way_out) is None


def _payloads(expressions: list[bytes]) -> list[tuple[int, int]]:
    """(offset, length) of each load of a packet's bytes."""
    found = []
    for expression in expressions:
        fields = dict(nl.attributes(dict(nl.attributes(expression))[1]))
        if fields[1] == b"payload\0":
            numbers = {kind: int.from_bytes(value, "big") for kind, value in nl.attributes(fields[2])}
            found.append((numbers[3], numbers[4]))
    return found


def test_rules_look_where_the_header_of_their_family_has_its_addresses() -> None:
    assert _payloads(nfx.from_subnet(AF_INET, "10.0.0.0", 8)) == [(12, 1)]
    assert _payloads(nfx.to_subnet(AF_INET, "10.9.0.0", 20)) == [(16, 4)]
    assert _payloads(nfx.from_subnet(AF_INET6, "fd09:8:7::", 48)) == [(8, 6)]
    assert _payloads(nfx.to_subnet(AF_INET6, "fd09:8:7::", 60)) == [(24, 16)]
    assert _payloads(nfx.translate_by_address_and_port(AF_INET, "m")) == [(16, 4), (2, 2)]
    assert _payloads(nfx.translate_by_address_and_port(AF_INET6, "m")) == [(24, 16), (2, 2)]


@FAMILIES
def test_tables_and_connections_are_asked_for_by_family(family: int, subnet: str) -> None:
    table, ip = nft.Table("t", family), str(ip_network(subnet)[3])
    requests = [nft.new_table(table), nft.delete_table(table), nft.get_tables(family), nft.get_elements(table, "m")]
    requests += [conntrack.udp_to_port(family, 53), conntrack.answered_by(family, ip)]
    assert {request.body[0] for request in requests} == {family}
    assert inet_pton(family, ip) in requests[-1].body


def test_elements_come_back_as_they_were_packed() -> None:
    element = (nft.pack_port(8080), nft.pack_address_port(AF_INET, "10.0.0.2", 80))
    assert nft.parse_elements(nft.new_elements(TABLE, "m", [element, element]).body) == [element, element]
    assert nft.parse_table(nft.new_table(nft.Table("pystack_1")).body) == "pystack_1"


def test_a_port_on_all_addresses_and_on_one_are_in_different_maps() -> None:
    everywhere = Translation("tcp", "0.0.0.0", 8080, "10.0.0.2", 80)
    local = Translation("tcp", "127.0.0.1", 8080, "10.0.0.2", 80)
    assert (everywhere.map_name, everywhere.key) == ("tcp_any", b"\x1f\x90")
    assert (local.map_name, local.key) == ("tcp_at", b"\x7f\0\0\1\x1f\x90\0\0")
    assert everywhere.value == local.value == b"\x0a\0\0\2\0\x50\0\0"


def test_rules_of_internal_networks_come_first_whatever_their_order() -> None:
    opened, closed = Bridge("psb1", "10.0.0.0", 20), Bridge("psb2", "10.1.0.0", 20, internal=True)
    assert table_requests(TABLE, [opened, closed]) == table_requests(TABLE, [closed, opened])
