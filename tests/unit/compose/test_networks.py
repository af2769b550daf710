"""Networks: what is read of them, and what the text alone shows to be wrong, each at its place."""

from __future__ import annotations

import pytest

from orchestrator.model.names import NetworkName
from orchestrator.model.network import Subnet
from tests.unit.compose.stacks import Stack

N = NetworkName("n")


def one(network: str, attachment: str = "{}") -> str:
    return f"services:\n  a: {{image: i, networks: {{n: {attachment}}}}}\nnetworks:\n  n: {network}\n"


def config(*entries: str) -> str:
    return f"{{ipam: {{config: [{', '.join(entries)}]}}}}"


def test_a_range_with_a_part_and_reserved_addresses_is_read(stack: Stack) -> None:
    entry = "{subnet: 10.1.0.0/24, gateway: 10.1.0.254, ip_range: 10.1.0.128/25, aux_addresses: {router: 10.1.0.9}}"
    project = stack.load(one(config(entry))).project
    assert project.networks[N].subnets == (Subnet("10.1.0.0/24", "10.1.0.254", "10.1.0.128/25", ("10.1.0.9",)),)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (config("{subnet: 10.1.0.9/24}"), 'networks.n.ipam.config[0].subnet: "10.1.0.9/24" is not a subnet: '),
        (config("{subnet: 10.1/24}"), 'subnet: "10.1/24" is not a subnet'),
        (config("{subnet: 10.1.0.0/31}"), '"10.1.0.0/31" must have a prefix length from 8 to 29'),
        (config("{subnet: 169.254.0.0/24}"), "has a special meaning"),
        (config("{subnet: 10.1.0.0/24, gateway: 10.2.0.1}"), "gateway: 10.2.0.1 is not an address for a host in "),
        (config("{subnet: 10.1.0.0/24, gateway: x}"), 'networks.n.ipam.config[0].gateway: "x" is not an IP address'),
        (config("{subnet: 10.1.0.0/24, ip_range: 10.2.0.0/25}"), "ip_range: 10.2.0.0/25 is not a part of the subnet"),
        (config("{ip_range: 10.2.0.0/25}"), "ip_range: the ip_range 10.2.0.0/25 needs a subnet that it is in"),
        (config("{aux_addresses: {a: 10.2.0.1}}"), "aux_addresses: aux_addresses need a subnet that they are in"),
        (config("{subnet: 10.1.0.0/24, aux_addresses: {a: 10.1.0.1}}"), "aux_addresses: 10.1.0.1 is the gateway already"),
        (config("{subnet: 10.1.0.0/24, aux_addresses: {a: 10.1.0.7, b: 10.1.0.7}}"), "10.1.0.7 is there twice"),
        (
            config("{subnet: 10.1.0.0/24}", "{subnet: 10.2.0.0/24}"),
            "networks.n.ipam.config[1].subnet: there is an IPv4 subnet already, 10.1.0.0/24: one of each family",
        ),
        ("{driver: overlay}", 'networks.n.driver: the network driver "overlay" is not supported yet'),
    ],
)
def test_what_is_wrong_with_a_network_is_told_once_and_at_its_place(stack: Stack, network: str, message: str) -> None:
    (found,) = stack.messages(one(network))
    assert found.startswith("compose.yaml:4:")
    assert message in found


def test_subnets_that_overlap_are_told_at_the_second(stack: Stack) -> None:
    text = "services: {a: {image: i, networks: [m, n]}}\nnetworks:\n"
    text += f"  m: {config('{subnet: 10.1.0.0/16}')}\n  n: {config('{subnet: 10.1.7.0/24}')}\n"
    (found,) = stack.messages(text)
    assert found.startswith("compose.yaml:4:")
    assert "networks.n.ipam.config: 10.1.7.0/24 overlaps the subnet of network m" in found


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.1.0.300", '"10.1.0.300" is not an IPv4 address'),
        ("fd00::7", '"fd00::7" is not an IPv4 address'),
        ("10.2.0.7", "10.2.0.7 is not an address for a host in 10.1.0.0/24"),
        ("10.1.0.255", "10.1.0.255 is not an address for a host in 10.1.0.0/24"),
        ("10.1.0.1", "10.1.0.1 is the gateway of the network"),
    ],
)
def test_an_address_that_its_network_does_not_have_is_told_where_it_is_written(
    stack: Stack, address: str, message: str
) -> None:
    (found,) = stack.messages(one(config("{subnet: 10.1.0.0/24}"), f'{{ipv4_address: "{address}"}}'))
    assert found.startswith("compose.yaml:2:46: services.a.networks.n.ipv4_address: " + message)
