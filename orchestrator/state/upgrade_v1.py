"""Endpoints and network definitions as version 1 wrote them, in the form of version 2: addresses are plural.

Pure functions over parsed JSON; they leave their argument as it is, and pass on what they do not know. They raise
ValueError for what version 1 cannot have written.
"""

from __future__ import annotations

from typing import Any

_ADDRESS_V1 = ("address", "prefix", "gateway")


def upgrade_endpoint_v1(data: dict[str, Any]) -> dict[str, Any]:
    """``address``, ``prefix``, ``gateway`` become the one entry of ``addresses``."""
    missing = [key for key in _ADDRESS_V1 if key not in data]
    if missing:
        raise ValueError(f"an endpoint of version 1 without {', '.join(missing)}")
    rest = {key: value for key, value in data.items() if key not in _ADDRESS_V1}
    address = {"ip": data["address"], "prefix": data["prefix"], "gateway": data["gateway"]}
    return rest | {"addresses": [address]}


def upgrade_network_v1(data: dict[str, Any]) -> dict[str, Any]:
    """``subnet`` and ``gateway`` become the one entry of ``subnets``, if the stack chose the subnet. A gateway alone said
    nothing in version 1 either."""
    rest = {key: value for key, value in data.items() if key not in ("subnet", "gateway")}
    if data.get("subnet") is None:
        return rest
    subnet = {"subnet": data["subnet"]}
    if data.get("gateway") is not None:
        subnet["gateway"] = data["gateway"]
    return rest | {"subnets": [subnet]}
