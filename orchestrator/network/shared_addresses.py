"""Who may give out which addresses of a shared network: ``addresses.json`` in its directory.

    {"check": ..., "version": 2, "projects": {NAME: [ADDRESS, ...]}, "servers": {NAME: ADDRESS}}

A project has a share of each range, and gives addresses out of it as it likes, without asking anybody. It takes more,
up to `_MOST` at a time and never more than an eighth of what nobody has, before its own run out, and the ones that its
stack writes down. One of them is its name server's. All are given back when the project leaves the network. What a
project has whose directory is gone is nobody's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address

from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.atomic import keep_aside, replace_file
from orchestrator.kernel.plain import opener
from orchestrator.kernel.sealed import VERSION, seal, unseal_file, version_of
from orchestrator.model.subnets import AddressRange, IPAddress
from orchestrator.network.shared_files import SharedFiles
from orchestrator.values import frozen

_FILE = "addresses.json"
_MOST = 32
_FEW = 8
"""More are taken when fewer than that are left."""

_Shares = dict[str, frozenset[IPAddress]]


@frozen
class Shares:
    """By project. `servers`: where its name server is."""

    addresses: _Shares
    servers: dict[str, IPAddress]


class AddressShare:
    """The part of a shared network's addresses that the project `project` (its directory's name) may give out. What takes
    more does small blocking I/O, with the network's lock held."""

    def __init__(self, files: SharedFiles, network: str, project: str, ranges: Sequence[AddressRange]) -> None:
        self._files = files
        self._network = network
        self._project = project
        self._ranges = {item.version: item for item in ranges}
        self._mine: frozenset[IPAddress] = frozenset()
        self.server: IPAddress | None = None

    def addresses(self, version: int) -> list[IPAddress]:
        """Of one family, sorted."""
        return sorted((item for item in self._mine if item.version == version), key=int)

    def provide(self, used: Collection[IPAddress], written: Iterable[IPAddress] = ()) -> None:
        """Have a few that are not `used`, those of `written` that nobody has, and one for the name server. The caller holds
        the network's lock. Raises HostError, OperationError when there are none."""
        shares = self._read()
        mine = shares.addresses.get(self._project, frozenset())
        taken = frozenset[IPAddress]().union(*shares.addresses.values())
        wanted = frozenset(written)
        mine |= wanted - taken
        server = shares.servers.get(self._project)
        away = wanted | frozenset(used) | ({server} if server is not None else frozenset())
        for version, where in self._ranges.items():
            if sum(item.version == version for item in mine - away) < _FEW:
                mine |= set(_share_of(where, taken | mine))
        if server is None:
            # Of the first family, the highest: containers get the lowest.
            free = [item for item in mine - away if item.version == min(self._ranges)]
            if not free:
                raise self._exhausted(min(self._ranges), shares)
            server = max(free, key=int)
        self.server = shares.servers[self._project] = server
        self._write(shares, mine)

    def claim(self, address: IPAddress) -> None:
        """Have just this one. Raises OperationError when another project has it."""
        with self._held():
            shares = self._read()
            owner = next((name for name, theirs in shares.addresses.items() if address in theirs), self._project)
            if owner != self._project:
                raise OperationError(
                    f'address {address} on network "{self._network}" is one of project {owner}',
                    hint=f"write another one, or leave it to pystack; {owner} gives its own back when it goes down",
                )
            self._write(shares, shares.addresses.get(self._project, frozenset()) | {address})

    def more(self, version: int) -> None:
        """Have at least one more. Raises OperationError when nobody has any left."""
        with self._held():
            shares = self._read()
            taken = frozenset[IPAddress]().union(*shares.addresses.values())
            found = set(_share_of(self._ranges[version], taken))
            if not found:
                raise self._exhausted(version, shares)
            self._write(shares, shares.addresses.get(self._project, frozenset()) | found)

    def _exhausted(self, version: int, shares: Shares) -> OperationError:
        counts = {name: sum(item.version == version for item in theirs) for name, theirs in shares.addresses.items()}
        who = ", ".join(f"project {name} has {count}" for name, count in sorted(counts.items()) if count)
        return OperationError(
            f'no free address on network "{self._network}" ({self._ranges[version].network}): {who or "it is too small"}',
            hint="take a project down that is on it, or make a network with a larger subnet",
        )

    def give_back(self) -> None:
        """All of them. The caller holds the network's lock. Raises HostError."""
        shares = self._read()
        shares.servers.pop(self._project, None)
        shares.addresses.pop(self._project, None)
        self._write(shares, frozenset())
        self.server = None

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            with self._files.held(self._network):
                yield
        except FileNotFoundError:
            raise OperationError(f'network "{self._network}" was removed') from None

    def _read(self) -> Shares:
        found = shares_of(self._files, self._network)
        if found is None:
            with suppress(FileNotFoundError):
                keep_aside(self._files.path(self._network, _FILE))
            # Nobody knows any more what others have. What is ours stays ours; they claim theirs when they need more.
            return Shares({self._project: self._mine} if self._mine else {}, {})
        return found

    def _write(self, shares: Shares, mine: frozenset[IPAddress]) -> None:
        if mine:
            shares.addresses[self._project] = mine
        self._mine = mine
        texts = {name: [str(item) for item in sorted(theirs, key=_order)] for name, theirs in shares.addresses.items()}
        servers = {name: str(server) for name, server in shares.servers.items()}
        data = seal({"version": VERSION, "projects": texts, "servers": servers})
        path = self._files.path(self._network, _FILE)
        try:
            if _content(path) != data:
                replace_file(path, data)
        except OSError as exc:
            raise HostError(f"cannot write {path}: {exc.strerror}") from exc


def shares_of(files: SharedFiles, network: str) -> Shares | None:
    """What the projects that exist have; None if that is damaged. Raises HostError."""
    path = files.path(network, _FILE)
    try:
        data = unseal_file(path)
        if data is None or version_of(data) > VERSION:
            return None
        shares = {str(name): frozenset(map(ip_address, theirs)) for name, theirs in data["projects"].items()}
        servers = {str(name): ip_address(server) for name, server in data["servers"].items()}
    except FileNotFoundError:
        return Shares({}, {})
    except OSError as exc:
        raise HostError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    projects = os.path.join(files.data_root, "projects")
    there = {name for name in shares if os.path.isdir(os.path.join(projects, name))}
    return Shares(
        {name: shares[name] for name in sorted(there)},
        {name: server for name, server in sorted(servers.items()) if name in there},
    )


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", opener=opener) as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _order(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)


def _share_of(where: AddressRange, taken: Collection[IPAddress]) -> list[IPAddress]:
    """Addresses for one who needs some more: from the low end, those that end in .0 or .255 only if there are no others."""
    low, high = where.bounds
    free = high - low + 1 - sum(low <= int(item) <= high for item in taken if item.version == where.version)
    wanted = min(_MOST, max(1, free // 8))
    found: list[IPAddress] = []
    odd: list[IPAddress] = []
    for address in _every(where, low, high):
        if len(found) == wanted:
            break
        if address not in taken and address != where.gateway and address not in where.reserved:
            (odd if where.version == 4 and int(address) & 0xFF in (0, 0xFF) else found).append(address)
    return (found + odd)[:wanted]


def _every(where: AddressRange, low: int, high: int) -> Iterator[IPAddress]:
    first = where.network.network_address
    offset = low - int(first)
    return (first + (offset + step) for step in range(high - low + 1))
