"""Endpoints and networks as version 1 wrote them."""

from __future__ import annotations

import pytest

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.model.codec import from_json
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Network, Subnet
from orchestrator.state.upgrade_v1 import upgrade_endpoint_v1, upgrade_network_v1

ENDPOINT = {
    "network": "back",
    "address": "10.9.1.3",
    "prefix": 24,
    "gateway": "10.9.1.1",
    "mac": "02:70:0a:09:01:03",
    "interface": "eth0",
    "names": ["web", "shop-web-1"],
    "internal": True,
}


def test_an_endpoint_gets_one_address_and_keeps_the_rest() -> None:
    before = dict(ENDPOINT)
    assert from_json(Endpoint, upgrade_endpoint_v1(ENDPOINT)) == Endpoint(
        NetworkName("back"),
        (Address("10.9.1.3", 24, "10.9.1.1"),),
        "02:70:0a:09:01:03",
        "eth0",
        ("web", "shop-web-1"),
        internal=True,
    )
    assert before == ENDPOINT


def test_an_endpoint_that_version_1_cannot_have_written_is_refused() -> None:
    with pytest.raises(ValueError, match="without prefix, gateway"):
        upgrade_endpoint_v1({"network": "back", "address": "10.9.1.3"})


@pytest.mark.parametrize(
    ("old", "subnets"),
    [
        ({}, ()),
        ({"gateway": "10.9.1.1"}, ()),
        ({"subnet": None, "gateway": None}, ()),
        ({"subnet": "10.9.1.0/24"}, (Subnet("10.9.1.0/24"),)),
        ({"subnet": "10.9.1.0/24", "gateway": "10.9.1.254"}, (Subnet("10.9.1.0/24", "10.9.1.254"),)),
    ],
)
def test_a_network_gets_the_subnet_that_the_stack_chose(old: dict[str, object], subnets: tuple[Subnet, ...]) -> None:
    found = upgrade_network_v1({"key": "back", "full_name": "shop_back", "internal": True, **old})
    assert from_json(Network, found) == Network(NetworkName("back"), "shop_back", True, subnets)
