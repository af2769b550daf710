"""Which class of which queue a packet belongs to."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.network.losses import Surroundings
from orchestrator.network.queues import Slowed, Slowing, Tree, plan_of

AROUND = Surroundings((), (("10.1.0.0", 24), ("fd00::", 64)), (), ("10.1.0.1", "fd00::1"))
A, B, GATEWAY, BEYOND, OTHER = "10.1.0.2", "10.1.0.3", "10.1.0.1", "192.0.2.1", "10.1.0.99"


def of(tree: Tree, address: str, *, asks_names: bool = False) -> Slowing:
    """What becomes of a packet to `address`: the first filter that matches, as the kernel has it."""
    classes = {0: Slowing(), **dict(tree.classes)}
    for item in tree.filters:
        subnet = ipaddress.ip_network((item.ip, item.prefix))
        if ipaddress.ip_address(address) in subnet and (asks_names or not item.names):
            return classes[item.minor]
    return classes[tree.default]


def test_no_fault_is_no_tree() -> None:
    assert plan_of([], AROUND, sends=True) == Tree(sends=True)


def test_only_the_other_end_is_slowed() -> None:
    tree = plan_of([Slowed("rate-1", Slowing(1000), (A,))], AROUND, sends=True)
    assert [of(tree, each) for each in (A, B, BEYOND)] == [Slowing(1000), Slowing(), Slowing()]


def test_outside_is_this_machine_too_but_not_its_name_server() -> None:
    tree = plan_of([Slowed("rate-1", Slowing(1000), (), outside=True)], AROUND, sends=True)
    assert [of(tree, each) for each in (BEYOND, GATEWAY)] == [Slowing(1000), Slowing(1000)]
    assert [of(tree, each) for each in (A, OTHER, "fd00::5")] == [Slowing()] * 3
    assert of(tree, GATEWAY, asks_names=True) == Slowing()


def test_of_several_the_lowest_rate_counts_and_times_add_up() -> None:
    faults = [
        Slowed("rate-1", Slowing(1000), (A, B)),
        Slowed("lag-2", Slowing(0, 0.1, 0.01), (A,)),
        Slowed("rate-3", Slowing(500)),
    ]
    tree = plan_of(faults, AROUND, sends=True)
    assert of(tree, A) == Slowing(500, 0.1, 0.01)
    assert of(tree, B) == Slowing(500)
    assert of(tree, BEYOND) == Slowing(500)


ADDRESSES = st.sampled_from((A, B, GATEWAY, BEYOND, OTHER))
FAULTS = st.lists(
    st.builds(
        lambda rate, peers, outside: (rate, tuple(sorted(peers)), outside and not peers),
        st.integers(1, 9),
        st.frozensets(st.sampled_from((A, B)), max_size=2),
        st.booleans(),
    ),
    max_size=4,
)


@given(FAULTS, ADDRESSES)
def test_a_packet_has_all_faults_of_its_other_end_and_no_others(
    given: list[tuple[int, tuple[str, ...], bool]], address: str
) -> None:
    faults = [Slowed(f"rate-{n}", Slowing(rate), peers, outside) for n, (rate, peers, outside) in enumerate(given)]
    beyond = address in (GATEWAY, BEYOND)
    meant = [
        fault.slowing.bits_per_s
        for fault in faults
        if (address in fault.peers) or (fault.outside and beyond) or (not fault.peers and not fault.outside)
    ]
    assert of(plan_of(faults, AROUND, sends=True), address).bits_per_s == min(meant, default=0)
