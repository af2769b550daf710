"""Subnets and addresses, as properties."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey
from orchestrator.model.network import Attachment, Subnet
from orchestrator.model.subnets import AddressRange, IPAddress
from orchestrator.network.addressing import (
    POOL,
    SUBNET_PREFIX,
    AddressBook,
    AddressBooks,
    Occupied,
    choose_range,
    choose_server,
    in_the_way,
    mac_for,
    written_range,
)

NET = NetworkName("default")
KEY = ProjectKey("0123abcd")
SUBNETS = [IPv4Network((start, SUBNET_PREFIX)) for start in POOL]


def subnets() -> st.SearchStrategy[IPv4Network]:
    return st.builds(
        lambda address, prefix: IPv4Network((address, prefix), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(1, 32),
    )


@given(st.lists(st.tuples(subnets(), st.booleans()), max_size=8), st.text(min_size=1, max_size=8))
def test_a_chosen_subnet_is_free_or_else_a_part_of_wider_routes(taken: list[tuple[IPv4Network, bool]], name: str) -> None:
    occupied = [Occupied(network, "tun0", attached) for network, attached in taken]
    try:
        found, cover = choose_range(KEY, NetworkName(name), 4, occupied)
    except OperationError:
        assert all(in_the_way(candidate, occupied) for candidate in SUBNETS)
        return
    assert found.network in SUBNETS
    assert in_the_way(found.network, occupied) is None
    assert found.gateway == found.network[1]
    assert choose_range(KEY, NetworkName(name), 4, occupied) == (found, cover)
    if cover is None:
        assert not any(found.network.overlaps(network) for network, _ in taken)
    else:
        assert not cover.attached
        assert all(any(candidate.overlaps(network) for network, _ in taken) for candidate in SUBNETS)


@pytest.mark.parametrize(
    "routes",
    [
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"],
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    ],
)
def test_routes_to_everything_leave_a_subnet_as_a_last_resort(routes: list[str]) -> None:
    occupied = [Occupied(IPv4Network(route), "tun0", attached=False) for route in routes]
    found, cover = choose_range(KEY, NET, 4, occupied)
    assert cover in occupied
    assert in_the_way(found.network, occupied) is None


def test_of_ranges_behind_routes_one_behind_the_widest_is_taken() -> None:
    texts = ["0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "172.16.0.0/12"]
    found, cover = choose_range(KEY, NET, 4, [Occupied(IPv4Network(text), "", attached=False) for text in texts])
    assert found.network.overlaps(IPv4Network("192.168.0.0/16"))
    assert str(cover) == "128.0.0.0/1"


def test_what_the_host_has_an_address_in_is_never_taken() -> None:
    texts = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    with pytest.raises(OperationError, match="no free IPv4 subnet in the pool"):
        choose_range(KEY, NET, 4, [Occupied(IPv4Network(text), "eth0") for text in texts])


def test_ipv6_networks_are_in_one_prefix_of_the_project() -> None:
    names = [NetworkName(f"n{n}") for n in range(20)]
    found = [choose_range(KEY, name, 6, [])[0].network for name in names]
    assert len(set(found)) == 20
    assert len({str(item.supernet(new_prefix=48)) for item in found if isinstance(item, IPv6Network)}) == 1
    assert all(item.subnet_of(IPv6Network("fd00::/8")) for item in found if isinstance(item, IPv6Network))
    again = choose_range(KEY, names[0], 6, [Occupied(found[0], "psb")])[0].network
    assert again != found[0]


def test_the_pool_is_private_and_does_not_overlap_itself() -> None:
    assert len(POOL) == len(set(POOL)) > 800
    assert all(subnet.is_private for subnet in SUBNETS)
    ends = sorted((int(s.network_address), int(s.broadcast_address)) for s in SUBNETS)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


def test_projects_and_networks_begin_at_different_subnets() -> None:
    keys = [ProjectKey(f"{n:08x}") for n in range(100)]
    assert len({choose_range(key, NET, 4, [])[0].network for key in keys}) > 80


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("subnet", Subnet("10.1.2.3/24")),
        ("subnet", Subnet("fd00::1/64")),
        ("subnet", Subnet("10.0.0.0/30")),
        ("subnet", Subnet("127.0.0.0/24")),
        ("subnet", Subnet("224.0.0.0/24")),
        ("subnet", Subnet("fe80::/64")),
        ("subnet", Subnet("fd00::/8")),
        ("gateway", Subnet("10.0.0.0/24", "10.0.1.1")),
        ("gateway", Subnet("10.0.0.0/24", "10.0.0.0")),
        ("gateway", Subnet("10.0.0.0/24", "10.0.0.255")),
        ("gateway", Subnet("10.0.0.0/24", "door")),
        ("gateway", Subnet("10.0.0.0/24", "fd00::1")),
        ("ip_range", Subnet("10.0.0.0/24", None, "10.0.1.0/25")),
        ("ip_range", Subnet("10.0.0.0/24", None, "10.0.0.1/25")),
        ("ip_range", Subnet("10.0.0.0/24", None, "10.0.0.0/23")),
        ("ip_range", Subnet("10.0.0.0/24", None, "fd00::/64")),
        ("aux_addresses", Subnet("10.0.0.0/24", None, None, ("10.0.1.1",))),
        ("aux_addresses", Subnet("10.0.0.0/24", None, None, ("10.0.0.1",))),
        ("aux_addresses", Subnet("10.0.0.0/24", None, None, ("10.0.0.9", "10.0.0.9"))),
    ],
)
def test_a_wrong_range_is_named_with_its_place(key: str, written: Subnet) -> None:
    with pytest.raises(OperationError) as caught:
        written_range(NET, 1, written)
    assert caught.value.place == f"networks.default.ipam.config[1].{key}"


def test_macs_are_local_unicast_and_differ_with_the_address() -> None:
    first, second = mac_for("10.1.2.3"), mac_for("10.1.2.4")
    assert first == "02:70:0a:01:02:03"
    assert first != second
    assert int(first[:2], 16) & 0b11 == 0b10


def book(subnet: str = "10.1.0.0/29", chosen: bool = False) -> AddressBook:
    network = IPv4Network(subnet)
    return AddressBook(NET, AddressRange(network, network[1], chosen))


def test_addresses_given_back_rest_until_the_others_are_used() -> None:
    addresses = book()
    first = addresses.take(ContainerId("a"))
    addresses.give_back(ContainerId("a"))
    rest = [addresses.take(ContainerId(name)) for name in "bcde"]
    assert first not in rest[:4]
    assert addresses.take(ContainerId("f")) == first


def test_a_full_network_says_so() -> None:
    addresses = book()
    for name in "abcde":
        addresses.take(ContainerId(name))
    with pytest.raises(OperationError, match=r'no free address on network "default" \(10\.1\.0\.0/29\): 5 containers'):
        addresses.take(ContainerId("f"))


def test_addresses_come_from_the_low_end_whoever_chose_the_subnet() -> None:
    addresses = book("10.1.0.0/24", chosen=True)
    addresses.written = frozenset({"10.1.0.3"})
    assert [str(addresses.take(ContainerId(name))) for name in "abc"] == ["10.1.0.2", "10.1.0.4", "10.1.0.5"]


def test_no_address_ends_in_0_or_255_by_accident() -> None:
    addresses = book("10.1.0.0/22")
    found = [addresses.take(ContainerId(f"c{n}")) for n in range(4 * 254 - 1)]
    assert not [address for address in found if address.packed[-1] in (0, 255)]
    assert len(set(found)) == len(found)
    assert addresses.take(ContainerId("last")).packed[-1] in (0, 255)


def test_a_container_that_comes_again_gets_the_address_that_it_had() -> None:
    addresses = book("10.1.0.0/24")
    first = addresses.take(ContainerId("a"))
    addresses.take(ContainerId("b"))
    addresses.give_back(ContainerId("a"))
    addresses.take(ContainerId("c"))
    assert addresses.take(ContainerId("a")) == first
    addresses.give_back(ContainerId("a"))
    assert addresses.take(ContainerId("d"), str(first)) == first
    assert addresses.take(ContainerId("a")) != first


@pytest.mark.parametrize("given", ["10.1.0.0/29", "10.1.0.64/29", "10.1.0.248/29", "10.1.0.9/32"])
def test_addresses_are_given_out_of_the_range_only_and_reserved_ones_never(given: str) -> None:
    network = IPv4Network("10.1.0.0/24")
    part = IPv4Network(given)
    reserved = tuple(ip_address(text) for text in ("10.1.0.4", "10.1.0.66", "10.1.0.250"))
    addresses = AddressBook(NET, AddressRange(network, network[1], True, part, reserved))
    expected = {a for a in part if a not in (network[0], network[1], network[255], *reserved)}
    assert {addresses.take(ContainerId(f"c{n}")) for n in range(len(expected))} == expected
    with pytest.raises(OperationError, match=rf"no free address .* \({given}\)"):
        addresses.take(ContainerId("one more"))
    assert addresses.take(ContainerId("written"), "10.1.0.100") == IPv4Address("10.1.0.100")


def test_a_network_of_both_families_gives_both_or_none() -> None:
    ranges = [AddressRange(ip_network(text), ip_network(text)[1]) for text in ("fd00:1::/64", "10.1.0.0/29")]
    books = AddressBooks.of(NET, ranges)
    found = books.take(ContainerId("a"), Attachment(NET, link_local=("fe80::9", "169.254.3.4")))
    assert [(a.ip, a.prefix, a.gateway) for a in found] == [
        ("10.1.0.2", 29, "10.1.0.1"),
        ("fd00:1::2", 64, "fd00:1::1"),
        ("fe80::9", 64, ""),
        ("169.254.3.4", 16, ""),
    ]
    with pytest.raises(OperationError, match="is taken by"):
        books.take(ContainerId("b"), Attachment(NET, ipv6_address="fd00:1::2"))
    assert books.containers == (ContainerId("a"),)
    assert books.hold(ContainerId("a"), found)
    assert not books.hold(ContainerId("a"), found[:1])
    assert not books.containers


def test_a_wish_for_a_family_that_the_network_does_not_have_is_refused() -> None:
    books = AddressBooks.of(NET, [AddressRange(ip_network("10.1.0.0/29"), ip_address("10.1.0.1"))])
    with pytest.raises(OperationError, match="has no IPv6") as caught:
        books.take(ContainerId("a"), Attachment(NET, ipv6_address="fd00::9"))
    assert "enable_ipv6: true" in str(caught.value.hint)


def test_what_the_stack_writes_down_is_given_to_who_names_it_only() -> None:
    addresses = book()
    addresses.written = frozenset({"10.1.0.2", "10.1.0.4"})
    found = [str(addresses.take(ContainerId(name))) for name in "abc"]
    assert found == ["10.1.0.3", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(OperationError, match="3 containers have one, and 2 are written in the stack"):
        addresses.take(ContainerId("d"))
    assert addresses.take(ContainerId("d"), "10.1.0.4") == IPv4Address("10.1.0.4")


def test_an_address_that_somebody_is_moved_from_is_nobody_elses_until_that_is_done() -> None:
    addresses = book()
    one, other = ContainerId("one"), ContainerId("other")
    addresses.take(one, "10.1.0.4")
    addresses.take(one, "10.1.0.5")
    for number in (4, 5):
        with pytest.raises(OperationError, match='taken by container "one"'):
            addresses.take(other, f"10.1.0.{number}")
    assert addresses.hold(one, "10.1.0.4"), "it may go back"
    addresses.settle(one)
    assert addresses.take(other, "10.1.0.5") == IPv4Address("10.1.0.5")


class Book(RuleBasedStateMachine):
    """Any order of taking, wanting and giving back keeps the book right."""

    containers: Bundle[ContainerId] = Bundle("containers")

    def __init__(self) -> None:
        super().__init__()
        self.book = book("10.1.0.0/28")
        self.model: dict[ContainerId, IPAddress] = {}
        self.moving: dict[ContainerId, set[IPAddress]] = {}

    def in_use(self, but: ContainerId | None = None) -> set[IPAddress]:
        held = {address for container, address in self.model.items() if container != but}
        return held.union(*(left for container, left in self.moving.items() if container != but))

    @rule(target=containers, name=st.integers(0, 30))
    def new(self, name: int) -> ContainerId:
        return ContainerId(f"c{name}")

    @rule(last=st.sets(st.integers(2, 14), max_size=3))
    def write_down(self, last: set[int]) -> None:
        self.book.written = frozenset(str(IPv4Address("10.1.0.0") + number) for number in last)

    @rule(container=containers)
    def take(self, container: ContainerId) -> None:
        written = {IPv4Address(text) for text in self.book.written}
        full = len(self.in_use() | written) == 13
        before = self.model.get(container)
        try:
            address = self.book.take(container)
        except OperationError:
            assert full
            assert container not in self.model
            return
        assert address not in written or address == before
        assert address not in self.in_use(container)
        assert self.model.setdefault(container, address) == address

    @rule(container=containers, last=st.integers(0, 20))
    def want(self, container: ContainerId, last: int) -> None:
        wanted = IPv4Address("10.1.0.0") + last
        possible = 2 <= last <= 14 and wanted not in self.in_use(container)
        try:
            assert self.book.take(container, str(wanted)) == wanted
            assert possible
            if (before := self.model.get(container)) is not None:
                self.moving.setdefault(container, set()).add(before)
            self.model[container] = wanted
        except OperationError:
            assert not possible

    @rule(container=containers)
    def settle(self, container: ContainerId) -> None:
        self.book.settle(container)
        self.moving.pop(container, None)

    @rule(container=consumes(containers))
    def give_back(self, container: ContainerId) -> None:
        self.book.give_back(container)
        self.model.pop(container, None)
        self.moving.pop(container, None)

    @invariant()
    def all_have_their_own(self) -> None:
        assert len(set(self.model.values())) == len(self.model)
        assert set(self.book.containers) == set(self.model)
        assert all(self.book.address_of(c) == a for c, a in self.model.items())


test_the_book_is_right_after_any_history = Book.TestCase


@pytest.mark.parametrize(
    ("subnet", "taken", "server"),
    [
        (Subnet("10.1.0.0/20"), (), "10.1.15.254"),
        (Subnet("10.1.2.0/24", gateway="10.1.2.254"), (), "10.1.2.253"),
        (Subnet("10.1.2.0/24", reserved=("10.1.2.254", "10.1.2.253")), ("10.1.2.252",), "10.1.2.251"),
        (Subnet("10.1.0.0/23"), tuple(f"10.1.1.{n}" for n in range(256)), "10.1.0.254"),
        (Subnet("10.1.2.0/28"), tuple(f"10.1.2.{n}" for n in range(2, 15)), ""),
        (Subnet("10.1.2.0/29"), (), ""),
        (Subnet("fd00:1::/64"), (), "fd00:1::ffff:ffff:ffff:ff7f"),
        (Subnet("fd00:1::/64"), ("fd00:1::ffff:ffff:ffff:ff7f",), "fd00:1::ffff:ffff:ffff:ff7e"),
        (Subnet("fd00:1::/124"), (), "fd00:1::e"),
        (Subnet("fd00:1::/125"), (), ""),
    ],
)
def test_the_name_server_has_the_highest_address_that_nobody_else_has(
    subnet: Subnet, taken: tuple[str, ...], server: str
) -> None:
    assert choose_server(written_range(NET, 0, subnet), taken) == server


@pytest.mark.parametrize(
    ("given", "server"),
    [
        (None, "192.0.2.254"),
        ("192.0.2.128/28", "192.0.2.143"),
        ("192.0.2.240/28", "192.0.2.254"),
        ("192.0.2.8/30", "192.0.2.11"),
    ],
)
def test_where_other_machines_are_the_name_server_is_in_the_range_that_is_ours(given: str | None, server: str) -> None:
    lan = written_range(NET, 0, Subnet("192.0.2.0/24", "192.0.2.1", given))
    assert choose_server(lan, (), outer=True) == server


def test_nobody_is_given_the_address_of_the_name_server() -> None:
    books = AddressBooks.of(NET, [written_range(NET, 0, Subnet("10.1.2.0/28"))], server="10.1.2.14")
    assert books.resolver == "10.1.2.14"
    given = {books.take(ContainerId(f"c{n}"), Attachment(NET))[0].ip for n in range(12)}
    assert given == {f"10.1.2.{n}" for n in range(2, 14)}
    with pytest.raises(OperationError, match="no free address"):
        books.take(ContainerId("more"), Attachment(NET))
    with pytest.raises(OperationError, match="is that of the project's name server") as refused:
        books.take(ContainerId("more"), Attachment(NET, ipv4_address="10.1.2.14"))
    assert "write another address" in (refused.value.hint or "")
