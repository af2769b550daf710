"""Subnets and addresses: which are free, who has which. Pure: the caller knows the host's routes and keeps the record.

Docker's pools start at 172.17.0.0/16 and collide with half of the world's VPNs; ours are ranges that are rarely used, and
whatever the host has a route to is avoided (docs/networking.md, "Addresses").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey
from orchestrator.values import entity, field, frozen

SUBNET_PREFIX = 20
"""4,094 addresses: more than a bridge has ports (1,023), so that addresses given back can rest."""

_SIZE = 1 << (32 - SUBNET_PREFIX)
_RANGES = ((0x0AC90000, 0x0AFB0000), (0xAC140000, 0xAC180000), (0xC0A88000, 0xC0A90000))
"""From, to: 10.201.0.0 to 10.250.255.255, 172.20.0.0/14, 192.168.128.0/17."""
POOL = tuple(start for low, high in _RANGES for start in range(low, high, _SIZE))
"""Where each subnet begins; a network of each would take longer to make than all else of this module."""


@frozen
class Ipv4Subnet:
    """A network's range. `chosen`: by the stack, so that addresses in it may be written in the stack too."""

    network: IPv4Network
    gateway: IPv4Address
    chosen: bool = False

    @property
    def broadcast(self) -> str:
        return str(self.network.broadcast_address)


def choose_subnet(key: ProjectKey, network: NetworkName, taken: Iterable[IPv4Network]) -> Ipv4Subnet:
    """A free subnet of the pool, the same one each time if it is still free. Raises OperationError when none is."""
    busy = tuple(taken)
    start = int(hashlib.sha256(f"{key}/{network}".encode()).hexdigest()[:8], 16) % len(POOL)
    for step in range(len(POOL)):
        candidate = IPv4Network((POOL[(start + step) % len(POOL)], SUBNET_PREFIX))
        if not any(candidate.overlaps(other) for other in busy):
            return Ipv4Subnet(candidate, candidate[1])
    raise OperationError(
        f'networks.{network}: no free subnet in the pool: all {len(POOL)} overlap a route of this host',
        hint=f"choose one in the stack: networks.{network}.ipam.config[0].subnet",
    )


def explicit_subnet(network: NetworkName, subnet: str, gateway: str | None) -> Ipv4Subnet:
    """What the stack says. Raises OperationError when it cannot be used."""
    place = f"networks.{network}.ipam.config[0]"
    try:
        value = IPv4Network(subnet)
    except ValueError as exc:
        raise OperationError(f'"{subnet}" is not an IPv4 subnet: {exc}', place=f"{place}.subnet") from exc
    if value.prefixlen > 29 or value.prefixlen < 8:
        raise OperationError(f'"{subnet}" must have a prefix length from 8 to 29', place=f"{place}.subnet")
    if value.is_loopback or value.is_multicast or value.is_link_local or value.is_unspecified:
        hint = "use a private range, such as 10.1.2.0/24"
        raise OperationError(f'"{subnet}" has a special meaning', hint=hint, place=f"{place}.subnet")
    if gateway is None:
        return Ipv4Subnet(value, value[1], chosen=True)
    try:
        address = IPv4Address(gateway)
    except ValueError as exc:
        raise OperationError(f'"{gateway}" is not an IPv4 address', place=f"{place}.gateway") from exc
    if not _is_host(value, address):
        raise OperationError(f'"{gateway}" is not an address for a host in {subnet}', place=f"{place}.gateway")
    return Ipv4Subnet(value, address, chosen=True)


def mac_for(ip: str) -> str:
    """A locally administered MAC that is as unique as the address: no neighbour keeps a stale one."""
    return "02:70:" + IPv4Address(ip).packed.hex(":")


def _is_host(network: IPv4Network, address: IPv4Address) -> bool:
    return address in network and address not in (network.network_address, network.broadcast_address)


@entity
class AddressBook:
    """Who has which address on one network. `written`: those that the stack writes down, given to who names one only."""

    name: NetworkName
    subnet: Ipv4Subnet
    written: frozenset[str] = frozenset()
    _by_container: dict[ContainerId, IPv4Address] = field(default_factory=dict)
    _owners: dict[IPv4Address, ContainerId] = field(default_factory=dict)
    _next: int | None = None

    @property
    def containers(self) -> Sequence[ContainerId]:
        return tuple(self._by_container)

    def address_of(self, container: ContainerId) -> IPv4Address | None:
        return self._by_container.get(container)

    def take(self, container: ContainerId, wanted: str | None = None) -> IPv4Address:
        """An address for `container`: the one it has, or `wanted`, or the next free one. Raises OperationError."""
        held = self._by_container.get(container)
        if wanted is None:
            return held if held is not None else self._give(container, next(self._free()))
        address = self._check(wanted)
        owner = self._owners.get(address)
        if owner is not None and owner != container:
            raise OperationError(
                f'address {wanted} on network "{self.name}" is taken by container "{owner}"',
                hint=f"write another ipv4_address; if the stack gave this one to {owner} before, recreate that first",
            )
        if held is not None and held != address:
            self.give_back(container)
        return self._give(container, address)

    def hold(self, container: ContainerId, address: str) -> bool:
        """`container` has `address` already, says a record. False when that cannot be: the network was given another subnet
        since (after a reboot, with a VPN in the way), and the container gets another address when it is made anew."""
        try:
            self.take(container, address)
        except OperationError:
            return False
        return True

    def give_back(self, container: ContainerId) -> None:
        address = self._by_container.pop(container, None)
        if address is not None:
            del self._owners[address]

    def _check(self, wanted: str) -> IPv4Address:
        try:
            address = IPv4Address(wanted)
        except ValueError as exc:
            raise OperationError(f'ipv4_address "{wanted}" on network "{self.name}" is not an IPv4 address') from exc
        network = self.subnet.network
        if not _is_host(network, address):
            raise OperationError(f'address {wanted} is not one for a host in network "{self.name}", which is {network}')
        if address == self.subnet.gateway:
            raise OperationError(f'address {wanted} is the gateway of network "{self.name}"')
        return address

    def _give(self, container: ContainerId, address: IPv4Address) -> IPv4Address:
        self._by_container[container] = address
        self._owners[address] = container
        return address

    def _free(self) -> Iterator[IPv4Address]:
        """Free addresses, going round: one given back is not used again at once. A subnet from the stack is begun in
        the middle, since the addresses that people write by hand are usually low."""
        network = self.subnet.network
        hosts = network.num_addresses - 2
        at = self._next if self._next is not None else (hosts // 2 if self.subnet.chosen else 0)
        for step in range(hosts):
            offset = (at + step) % hosts
            address = network[1 + offset]
            if address != self.subnet.gateway and address not in self._owners and str(address) not in self.written:
                self._next = (offset + 1) % hosts
                yield address
        written = f", and {len(self.written)} are written in the stack" if self.written else ""
        raise OperationError(
            f'no free address on network "{self.name}" ({network}): {len(self._owners)} containers have one{written}',
            hint=f"choose a larger subnet: networks.{self.name}.ipam.config[0].subnet",
        )
