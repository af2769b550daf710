"""Ranges and addresses: which are free, who has which. Pure: the caller knows the host's routes and keeps the record.

Docker's pools start at 172.17.0.0/16 and collide with half of the world's VPNs; ours are ranges that are rarely used, and
what the host has routes to is avoided (docs/networking.md, "Addresses"). IPv6 networks of a project are in one unique local
prefix of its own (RFC 4193).
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

from orchestrator.contracts.network import Address
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey
from orchestrator.model.network import Attachment, Subnet
from orchestrator.model.subnets import AddressRange, BadRange, IPAddress, IPNetwork, check_member, overlap, parse_range
from orchestrator.values import entity, field, frozen

SUBNET_PREFIX = 20
"""4,094 addresses: more than a bridge has ports (1,023), so that addresses given back can rest."""

_SIZE = 1 << (32 - SUBNET_PREFIX)
_RANGES = ((0x0AC90000, 0x0AFB0000), (0xAC140000, 0xAC180000), (0xC0A88000, 0xC0A90000))
"""From, to: 10.201.0.0 to 10.250.255.255, 172.20.0.0/14, 192.168.128.0/17."""
POOL = tuple(start for low, high in _RANGES for start in range(low, high, _SIZE))
"""Where each subnet begins; a network of each would take longer to make than all else of this module."""

ADDRESS_KEYS = {4: "ipv4_address", 6: "ipv6_address"}
"""What a service writes on a network to have an address of each family."""
_MOST_REMEMBERED = 1024

_ROOM = 16
"""A network with fewer addresses has none to spare: a stack that gives all of them to containers works elsewhere."""
_ANYCAST = 128
"""The highest addresses of an IPv6 subnet are not for hosts (RFC 2526)."""


@frozen
class Occupied:
    """A range that the host uses. `interface` "" when there is none. `attached`: its addresses are those of a link of the
    host (it has one of them), not only behind a route."""

    network: IPNetwork
    interface: str
    attached: bool = True

    def __str__(self) -> str:
        return f"{self.network}" + (f" by {self.interface}" if self.interface else "")


def in_the_way(network: IPNetwork, occupied: Iterable[Occupied]) -> Occupied | None:
    """What keeps `network` from being used: an attached range, or a route to a part of it. A wider route (a VPN's halves of
    everything, null routes for private ranges) does not: the bridge's own route is the narrower one, and wins."""
    for item in occupied:
        wider = item.network.version == network.version and item.network.prefixlen < network.prefixlen
        if overlap(network, item.network) and (item.attached or not wider):
            return item
    return None


def choose_range(
    key: ProjectKey, network: NetworkName, version: int, occupied: Iterable[Occupied]
) -> tuple[AddressRange, Occupied | None]:
    """A free range of the pool, the same one each time if it is still free; as a last resort one that only wider routes
    cover, with the narrowest of these (of all such, one with the widest). Raises OperationError when there is none."""
    busy = [item for item in occupied if item.network.version == version and item.network.prefixlen]
    spans = [
        (int(item.network.network_address), int(item.network.broadcast_address), item) for item in busy
    ]
    best: tuple[int, int, Occupied] | None = None
    bits, prefix = (32, SUBNET_PREFIX) if version == 4 else (128, 64)
    size = 1 << (bits - prefix)
    for start in _candidates(key, network, version):
        cover: Occupied | None = None
        for low, high, item in spans:
            if low < start + size and start <= high:
                if item.attached or item.network.prefixlen >= prefix:
                    break
                if cover is None or item.network.prefixlen > cover.network.prefixlen:
                    cover = item
        else:
            if cover is None:
                return _range_at(start, version), None
            if best is None or cover.network.prefixlen < best[0]:
                best = (cover.network.prefixlen, start, cover)
    if best is not None:
        return _range_at(best[1], version), best[2]
    raise OperationError(
        f"networks.{network}: no free IPv{version} subnet in the pool: the host's own networks overlap all of it",
        hint=f"choose one in the stack: networks.{network}.ipam.config[0].subnet",
    )


def _candidates(key: ProjectKey, network: NetworkName, version: int) -> Iterator[int]:
    number = int(hashlib.sha256(f"{key}/{network}".encode()).hexdigest()[:8], 16)
    if version == 4:
        yield from (POOL[(number + step) % len(POOL)] for step in range(len(POOL)))
        return
    site = 0xFD << 120 | int(hashlib.sha256(key.encode()).hexdigest()[:10], 16) << 80
    yield from (site | (number + step & 0xFFFF) << 64 for step in range(4096))


def _range_at(start: int, version: int) -> AddressRange:
    network: IPNetwork = IPv4Network((start, SUBNET_PREFIX)) if version == 4 else IPv6Network((start, 64))
    return AddressRange(network, network[1])


def written_range(network: NetworkName, number: int, written: Subnet) -> AddressRange:
    """What the stack says. Raises OperationError when it cannot be used; a stack that was loaded was told before."""
    try:
        return parse_range(written)
    except BadRange as exc:
        raise OperationError(str(exc), hint=exc.hint, place=f"networks.{network}.ipam.config[{number}].{exc.key}") from exc


def choose_server(subnet: AddressRange, taken: Collection[str], outer: bool = False) -> str:
    """The address of the network's own name server: the highest that nobody has and the stack does not write down
    (`taken`). "": there is none to spare. `outer`: other machines have what is not in `ip_range`, and it has to be."""
    network = subnet.given or subnet.network if outer else subnet.network
    if network.num_addresses < _ROOM and not outer:
        return ""
    spare = _ANYCAST if network.version == 6 and network.num_addresses > 2 * _ANYCAST else 1
    if network != subnet.network and network.broadcast_address != subnet.network.broadcast_address:
        spare = 0
    for number in range(int(network.broadcast_address) - spare, int(network.network_address), -1):
        address = network[number - int(network.network_address)]
        odd = network.version == 4 and number & 0xFF in (0, 0xFF)
        if not odd and address != subnet.gateway and address not in subnet.reserved and str(address) not in taken:
            return str(address)
    return ""


def mac_for(ip: str) -> str:
    """A locally administered MAC that is as unique as the address: no neighbour keeps a stale one."""
    packed = ip_address(ip).packed
    if len(packed) == 16:
        upper = hashlib.sha256(packed[:12]).digest()
        packed = bytes(a ^ b for a, b in zip(packed[12:], upper, strict=False))
    return "02:70:" + packed.hex(":")


def family_of(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


class Share(Protocol):
    """The part of a range that may be given out here, where others give out of it too."""

    def addresses(self, version: int) -> Sequence[IPAddress]:
        """Sorted."""
        ...

    def claim(self, address: IPAddress) -> None:
        """Have this one too. Raises OperationError when somebody else has it."""
        ...

    def more(self, version: int) -> None:
        """Have at least one more. Raises OperationError when there are none."""
        ...


@entity
class AddressBook:
    """Who has which address of one range. `written`: those that the stack writes down, given to who names one only.
    `share`: None where the whole range is ours. `server`: the name server's. `routed`: the gateway is there; else its
    address is given to nobody all the same."""

    name: NetworkName
    subnet: AddressRange
    written: frozenset[str] = frozenset()
    share: Share | None = None
    server: IPAddress | None = None
    routed: bool = True
    _by_container: dict[ContainerId, IPAddress] = field(default_factory=dict)
    _owners: dict[IPAddress, ContainerId] = field(default_factory=dict)
    _before: dict[ContainerId, IPAddress] = field(default_factory=dict)
    _moving: dict[ContainerId, set[IPAddress]] = field(default_factory=dict)
    _next: int = 0

    @property
    def containers(self) -> Sequence[ContainerId]:
        return tuple(self._by_container)

    @property
    def key(self) -> str:
        """What a service writes to have one."""
        return ADDRESS_KEYS[self.subnet.version]

    def address_of(self, container: ContainerId) -> IPAddress | None:
        return self._by_container.get(container)

    def take(self, container: ContainerId, wanted: str | None = None) -> IPAddress:
        """An address for `container`: the one it has, or `wanted`, or the one that it had before, or the next free one. One
        that it had until now is nobody else's before `settle`. Raises OperationError."""
        held = self._by_container.get(container)
        if wanted is None:
            return held if held is not None else self._give(container, self._again(container) or next(self._free()))
        address = self._check(wanted)
        owner = self._owners.get(address)
        if owner is not None and owner != container:
            raise OperationError(
                f'address {wanted} on network "{self.name}" is taken by container "{owner}"',
                hint=f"write another {self.key}; if the stack gave this one to {owner} before, recreate that first",
                place=self.key,
            )
        if held is not None and held != address:
            self._moving.setdefault(container, set()).add(held)
        return self._give(container, address)

    def settle(self, container: ContainerId) -> None:
        """It uses no address any more but the one it was given last."""
        for address in self._moving.pop(container, set()) - {self._by_container.get(container)}:
            del self._owners[address]

    def hold(self, container: ContainerId, address: str) -> bool:
        """`container` has `address` already, says a record. False when that cannot be: the network was given another subnet
        since (after a reboot, with a VPN in the way), and the container gets another address when it is made anew."""
        try:
            self.take(container, address)
        except OperationError:
            return False
        return True

    def give_back(self, container: ContainerId) -> None:
        self.settle(container)
        address = self._by_container.pop(container, None)
        if address is not None:
            del self._owners[address]
            self._before[container] = address
            if len(self._before) > _MOST_REMEMBERED:
                del self._before[next(iter(self._before))]

    def _again(self, container: ContainerId) -> IPAddress | None:
        address = self._before.get(container)
        return address if address is not None and self._is_free(address) else None

    def _check(self, wanted: str) -> IPAddress:
        try:
            address = check_member(self.subnet, wanted)
        except ValueError as exc:
            hint = None if self.subnet.chosen else f"that one was chosen: write networks.{self.name}.ipam.config[0].subnet"
            raise OperationError(f'network "{self.name}": {exc}', hint=hint, place=self.key) from exc
        if address == self.server:
            raise OperationError(
                f'address {wanted} on network "{self.name}" is that of the project\'s name server',
                hint="write another address, or take the project down first: then the name server gets another one",
                place=self.key,
            )
        if self.share is not None and address not in self.share.addresses(self.subnet.version):
            self.share.claim(address)
        return address

    def _give(self, container: ContainerId, address: IPAddress) -> IPAddress:
        self._by_container[container] = address
        self._owners[address] = container
        self._before.pop(container, None)
        return address

    def _is_free(self, address: IPAddress) -> bool:
        subnet = self.subnet
        taken = address in self._owners or address in (subnet.gateway, self.server) or address in subnet.reserved
        return not taken and str(address) not in self.written

    def _free(self) -> Iterator[IPAddress]:
        """Free addresses from the low end, going round: one given back is not used again at once. Those that end in .0 or
        .255 come last: they are addresses for hosts in a wide subnet, but people and old programs take them for others."""
        subnet = self.subnet
        if self.share is not None:
            yield self._shared(self.share)
            return
        given = subnet.given or subnet.network
        low, high = subnet.bounds
        count = high - low + 1
        tries = min(count, len(self._owners) + len(self.written) + len(subnet.reserved) + 3 + count // 64 + 2)
        tries = count if subnet.version == 4 else tries
        odd: list[int] = []
        for step in range(tries):
            offset = (self._next + step) % count
            address = ip_address(low + offset) if subnet.version == 4 else IPv6Network((low + offset, 128))[0]
            if not self._is_free(address):
                continue
            if subnet.version == 4 and (low + offset) & 0xFF in (0, 0xFF):
                odd.append(low + offset)
                continue
            self._next = (offset + 1) % count
            yield address
        yield from map(ip_address, odd)
        written = f", and {len(self.written)} are written in the stack" if self.written else ""
        raise OperationError(
            f'no free address on network "{self.name}" ({given}): {len(self._owners)} containers have one{written}',
            hint=f"choose a larger subnet: networks.{self.name}.ipam.config[0].{'ip_range' if subnet.given else 'subnet'}",
        )


    def _shared(self, share: Share) -> IPAddress:
        """The next free one of our share, going round too."""
        while True:
            mine = sorted(share.addresses(self.subnet.version), key=lambda item: (int(item) < self._next, int(item)))
            if (found := next(filter(self._is_free, mine), None)) is not None:
                self._next = int(found) + 1
                return found
            share.more(self.subnet.version)


@entity
class AddressBooks:
    """Who has which addresses on one network: a book for each of its ranges, IPv4 first."""

    name: NetworkName
    books: tuple[AddressBook, ...]

    @staticmethod
    def of(
        name: NetworkName,
        ranges: Iterable[AddressRange],
        written: frozenset[str] = frozenset(),
        server: str = "",
        share: Share | None = None,
    ) -> AddressBooks:
        """`server`: the name server's address; "": it has none of its own."""
        ordered = sorted(ranges, key=lambda item: item.version)
        found = AddressBooks(name, tuple(AddressBook(name, item, written, share) for item in ordered))
        found.books[0].server = ip_address(server) if server else None
        return found

    @property
    def ranges(self) -> tuple[AddressRange, ...]:
        return tuple(book.subnet for book in self.books)

    @property
    def resolver(self) -> str:
        """The address of the name server: of the first range. "": the gateway is it."""
        server = self.books[0].server
        return str(server) if server is not None else ""

    @property
    def containers(self) -> Sequence[ContainerId]:
        return tuple(dict.fromkeys(container for book in self.books for container in book.containers))

    def set_written(self, written: frozenset[str]) -> None:
        for book in self.books:
            book.written = written

    def take(self, container: ContainerId, attachment: Attachment) -> tuple[Address, ...]:
        """All or none. Raises OperationError."""
        wanted = {4: attachment.ipv4_address, 6: attachment.ipv6_address}
        for version, text in wanted.items():
            if text is not None and not any(book.subnet.version == version for book in self.books):
                raise OperationError(
                    f'network "{self.name}" has no IPv{version}, and a service wants {text} on it',
                    hint=f"write networks.{self.name}.enable_ipv{version}: true",
                    place=ADDRESS_KEYS[version],
                )
        before = {book.subnet.version for book in self.books if book.address_of(container) is not None}
        found = []
        try:
            for book in self.books:
                ip = str(book.take(container, wanted[book.subnet.version]))
                gateway = str(book.subnet.gateway) if book.routed else ""
                found.append(Address(ip, book.subnet.network.prefixlen, gateway))
        except OperationError:
            for book in self.books:
                if book.subnet.version not in before:
                    book.give_back(container)
            raise
        found += [Address(ip, 64 if ":" in ip else 16, "") for ip in attachment.link_local]
        return tuple(found)

    def hold(self, container: ContainerId, addresses: Iterable[Address]) -> bool:
        """As `AddressBook.hold`, for the addresses of a record."""
        ours = [address for address in addresses if not address.is_link_local]
        kept = True
        for book in self.books:
            same = [address.ip for address in ours if family_of(address.ip) == _FAMILIES[book.subnet.version]]
            kept = all(book.hold(container, ip) for ip in same[:1]) and bool(same) and kept
        kept = kept and len(ours) == len(self.books)
        if not kept:
            self.give_back(container)
        return kept

    def settle(self, container: ContainerId) -> None:
        for book in self.books:
            book.settle(container)

    def give_back(self, container: ContainerId) -> None:
        for book in self.books:
            book.give_back(container)


_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
