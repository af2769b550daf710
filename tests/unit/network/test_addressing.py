"""Subnets and addresses, as properties."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey
from orchestrator.network.addressing import (
    POOL,
    SUBNET_PREFIX,
    AddressBook,
    Ipv4Subnet,
    choose_subnet,
    explicit_subnet,
    mac_for,
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


@given(st.lists(subnets(), max_size=8), st.text(min_size=1, max_size=8))
def test_a_chosen_subnet_overlaps_nothing_that_is_taken(taken: list[IPv4Network], name: str) -> None:
    try:
        found = choose_subnet(KEY, NetworkName(name), taken)
    except OperationError:
        assert all(any(candidate.overlaps(other) for other in taken) for candidate in SUBNETS)
        return
    assert found.network in SUBNETS
    assert not any(found.network.overlaps(other) for other in taken)
    assert found.gateway == found.network[1]
    assert choose_subnet(KEY, NetworkName(name), taken) == found


def test_the_pool_is_private_and_does_not_overlap_itself() -> None:
    assert len(POOL) == len(set(POOL)) > 800
    assert all(subnet.is_private for subnet in SUBNETS)
    ends = sorted((int(s.network_address), int(s.broadcast_address)) for s in SUBNETS)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


def test_projects_and_networks_begin_at_different_subnets() -> None:
    keys = [ProjectKey(f"{n:08x}") for n in range(100)]
    assert len({choose_subnet(key, NET, []).network for key in keys}) > 80


@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [
        ("10.1.2.3/24", None),
        ("fd00::/64", None),
        ("10.0.0.0/30", None),
        ("127.0.0.0/24", None),
        ("224.0.0.0/24", None),
        ("10.0.0.0/24", "10.0.1.1"),
        ("10.0.0.0/24", "10.0.0.0"),
        ("10.0.0.0/24", "10.0.0.255"),
        ("10.0.0.0/24", "door"),
    ],
)
def test_a_wrong_subnet_or_gateway_is_named_with_its_place(subnet: str, gateway: str | None) -> None:
    with pytest.raises(OperationError, match=r"^networks\.default\.ipam\.config\[0\]\.(subnet|gateway): "):
        explicit_subnet(NET, subnet, gateway)


def test_macs_are_local_unicast_and_differ_with_the_address() -> None:
    first, second = mac_for("10.1.2.3"), mac_for("10.1.2.4")
    assert first == "02:70:0a:01:02:03"
    assert first != second
    assert int(first[:2], 16) & 0b11 == 0b10


def book(subnet: str = "10.1.0.0/29", chosen: bool = False) -> AddressBook:
    network = IPv4Network(subnet)
    return AddressBook(NET, Ipv4Subnet(network, network[1], chosen))


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


def test_in_a_subnet_of_the_stack_low_addresses_are_left_for_those_written_by_hand() -> None:
    addresses = book("10.1.0.0/24", chosen=True)
    assert addresses.take(ContainerId("a")) == IPv4Address("10.1.0.128")
    assert addresses.take(ContainerId("b"), "10.1.0.2") == IPv4Address("10.1.0.2")


def test_what_the_stack_writes_down_is_given_to_who_names_it_only() -> None:
    addresses = book()
    addresses.written = frozenset({"10.1.0.2", "10.1.0.4"})
    found = [str(addresses.take(ContainerId(name))) for name in "abc"]
    assert found == ["10.1.0.3", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(OperationError, match="3 containers have one, and 2 are written in the stack"):
        addresses.take(ContainerId("d"))
    assert addresses.take(ContainerId("d"), "10.1.0.4") == IPv4Address("10.1.0.4")


class Book(RuleBasedStateMachine):
    """Any order of taking, wanting and giving back keeps the book right."""

    containers: Bundle[ContainerId] = Bundle("containers")

    def __init__(self) -> None:
        super().__init__()
        self.book = book("10.1.0.0/28")
        self.model: dict[ContainerId, IPv4Address] = {}

    @rule(target=containers, name=st.integers(0, 30))
    def new(self, name: int) -> ContainerId:
        return ContainerId(f"c{name}")

    @rule(last=st.sets(st.integers(2, 14), max_size=3))
    def write_down(self, last: set[int]) -> None:
        self.book.written = frozenset(str(IPv4Address("10.1.0.0") + number) for number in last)

    @rule(container=containers)
    def take(self, container: ContainerId) -> None:
        written = {IPv4Address(text) for text in self.book.written}
        full = len(set(self.model.values()) | written) == 13
        before = self.model.get(container)
        try:
            address = self.book.take(container)
        except OperationError:
            assert full
            assert container not in self.model
            return
        assert address not in written or address == before
        assert self.model.setdefault(container, address) == address

    @rule(container=containers, last=st.integers(0, 20))
    def want(self, container: ContainerId, last: int) -> None:
        wanted = IPv4Address("10.1.0.0") + last
        taken = any(a == wanted for c, a in self.model.items() if c != container)
        possible = 2 <= last <= 14 and not taken
        try:
            assert self.book.take(container, str(wanted)) == wanted
            assert possible
            self.model[container] = wanted
        except OperationError:
            assert not possible

    @rule(container=consumes(containers))
    def give_back(self, container: ContainerId) -> None:
        self.book.give_back(container)
        self.model.pop(container, None)

    @invariant()
    def all_have_their_own(self) -> None:
        assert len(set(self.model.values())) == len(self.model)
        assert set(self.book.containers) == set(self.model)
        assert all(self.book.address_of(c) == a for c, a in self.model.items())


test_the_book_is_right_after_any_history = Book.TestCase
