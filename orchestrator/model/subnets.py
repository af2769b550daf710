"""Ranges of addresses as a stack writes them, parsed: what can be told from the text alone. Of either family."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from orchestrator.model.network import Subnet
from orchestrator.values import frozen

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_LONGEST = {4: 29, 6: 125}
_SHORTEST = {4: 8, 6: 16}


class BadRange(ValueError):
    """`key`: which of ``subnet``, ``gateway``, ``ip_range`` and ``aux_addresses`` is wrong."""

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.hint = hint


@frozen
class AddressRange:
    """A network's range of one family. `chosen`: by the stack, so that addresses in it may be written in the stack too.
    `given`: the part of it that addresses are given out of; None: all. `reserved`: addresses that others have."""

    network: IPNetwork
    gateway: IPAddress
    chosen: bool = False
    given: IPNetwork | None = None
    reserved: tuple[IPAddress, ...] = ()

    @property
    def version(self) -> int:
        return int(self.network.version)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and the last address that may be given out, as numbers; some between them others have."""
        given = self.given or self.network
        low, high = int(given.network_address), int(given.broadcast_address)
        if given.network_address == self.network.network_address:
            low += 1
        if self.version == 4 and given.broadcast_address == self.network.broadcast_address:
            high -= 1
        return low, high

    @property
    def broadcast(self) -> str:
        """"" for IPv6, which has none."""
        return str(self.network.broadcast_address) if self.version == 4 else ""

    def is_host(self, address: IPAddress) -> bool:
        """Whether an interface can have it: it is not the network's own address, nor its broadcast address."""
        if address not in self.network or address == self.network.network_address:
            return False
        return self.version == 6 or address != self.network.broadcast_address


def parse_address(text: str, version: int) -> IPAddress:
    """Raises ValueError."""
    try:
        found: IPAddress = IPv4Address(text) if version == 4 else IPv6Address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IPv{version} address') from None
    if getattr(found, "scope_id", None):
        raise ValueError(f'"{text}" names an interface: write the address alone')
    return found


def parse_range(written: Subnet) -> AddressRange:
    """What the stack says. Raises BadRange."""
    network = _network("subnet", written.subnet)
    version = network.version
    if not _SHORTEST[version] <= network.prefixlen <= _LONGEST[version]:
        between = f"from {_SHORTEST[version]} to {_LONGEST[version]}"
        raise BadRange("subnet", f'"{written.subnet}" must have a prefix length {between}')
    first = network.network_address
    special = network.is_loopback or network.is_multicast or network.is_link_local or first.is_unspecified
    if special or (isinstance(first, IPv6Address) and first.ipv4_mapped is not None):
        example = "10.1.2.0/24" if version == 4 else "fd12:3456:789a:1::/64"
        raise BadRange("subnet", f'"{written.subnet}" has a special meaning', f"use a private range, such as {example}")
    found = AddressRange(network, network[1], chosen=True)
    gateway = network[1]
    if written.gateway is not None:
        gateway = _member("gateway", written.gateway, found)
    given = None
    if written.ip_range is not None:
        given = _network("ip_range", written.ip_range)
        if not overlap(network, given) or given.prefixlen < network.prefixlen:
            raise BadRange("ip_range", f"{written.ip_range} is not a part of the subnet {written.subnet}")
    reserved = tuple(_member("aux_addresses", text, found) for text in written.reserved)
    if gateway in reserved:
        raise BadRange("aux_addresses", f"{gateway} is the gateway already")
    if len(set(reserved)) != len(reserved):
        twice = next(address for address in reserved if reserved.count(address) > 1)
        raise BadRange("aux_addresses", f"{twice} is there twice")
    return AddressRange(network, gateway, True, given, reserved)


def check_member(where: AddressRange, text: str) -> IPAddress:
    """The address that a service wants on a network of that range. Raises ValueError."""
    address = parse_address(text, where.version)
    if not where.is_host(address):
        raise ValueError(f"{text} is not an address for a host in {where.network}")
    if address == where.gateway:
        raise ValueError(f"{text} is the gateway of the network")
    if address in where.reserved:
        raise ValueError(f"{text} is one of the network's aux_addresses, which nobody is given")
    return address


def overlapping(ranges: Iterable[AddressRange], other: AddressRange) -> AddressRange | None:
    """The first of `ranges` that has addresses of `other`."""
    return next((each for each in ranges if overlap(each.network, other.network)), None)


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _network(key: str, text: str) -> IPNetwork:
    try:
        return ip_network(text)
    except ValueError:
        try:
            hint = f"did you mean {ip_network(text, strict=False)}?"
        except ValueError:
            hint = "write an address and the length of its prefix, such as 10.1.2.0/24 or fd12:3456:789a:1::/64"
        raise BadRange(key, f'"{text}" is not a subnet', hint) from None


def _member(key: str, text: str, where: AddressRange) -> IPAddress:
    try:
        address = ip_address(text)
    except ValueError:
        raise BadRange(key, f'"{text}" is not an IP address') from None
    if address.version != where.version or not where.is_host(address):
        raise BadRange(key, f"{text} is not an address for a host in {where.network}")
    return address
