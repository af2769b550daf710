"""Networks of version 1, which knew one IPv4 address and subnet each. JSON in, JSON out; what was there stays there."""

from __future__ import annotations

from typing import Any


def upgrade_endpoint_v1(endpoint: dict[str, Any]) -> dict[str, Any]:
    """``address, prefix, gateway`` become the one entry of ``addresses``."""
    if "address" not in endpoint:
        return endpoint
    address = {"ip": endpoint["address"], "prefix": endpoint["prefix"], "gateway": endpoint["gateway"]}
    return endpoint | {"addresses": [address]}


def upgrade_network_v1(network: dict[str, Any]) -> dict[str, Any]:
    """``subnet`` and ``gateway`` become the one entry of ``subnets``."""
    if network.get("subnet") is None:
        return network
    subnet = {"subnet": network["subnet"]} | ({"gateway": network["gateway"]} if network.get("gateway") else {})
    return network | {"subnets": [subnet]}
