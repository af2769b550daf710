"""``network create`` and ``network rm``, below the command line: what is decided, and what is on disk and in the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.errors import OperationError
from orchestrator.model.names import NetworkName, ProjectKey, shared_bridge, short_hash
from orchestrator.model.network import Subnet
from orchestrator.model.subnets import AddressRange, parse_range
from orchestrator.network import shared_kernel
from orchestrator.network.addressing import Occupied, choose_range
from orchestrator.network.bridge import HostLinks, SubnetLock, refused
from orchestrator.network.rules import taken_by
from orchestrator.network.shared_addresses import shares_of
from orchestrator.network.shared_files import SharedFiles, SharedNetwork
from orchestrator.values import replace

_LOCK_S, _LOCK_RETRY_S = 2.0, 0.02


class InUse(OperationError):
    """A project is on it, or about to be."""


def create(files: SharedFiles, network: SharedNetwork, versions: Sequence[int]) -> SharedNetwork:
    """`network` with an identity and, of each family in `versions`, a subnet: its own or a free one; on disk. The caller
    holds the data directory's lock. Raises OperationError, HostError."""
    if files.exists(network.name):
        raise OperationError(
            f'there is a network "{network.name}" already', hint=f"`pystack network inspect {network.name}` shows it"
        )
    with _subnets_chosen():
        occupied = [*_occupied(), *others(files)]
        written = {item.version: item for item in network.ranges}
        ranges = [
            _free(written[version], occupied) if version in written else _chosen(files, network.name, version, occupied)
            for version in versions
        ]
        subnets = tuple(map(_subnet, ranges))
        made = replace(network, subnets=subnets, identity=os.urandom(32).hex(), made_s=time.time())
        files.make(made)
    return made


def remove(files: SharedFiles, name: str) -> None:
    """From the kernel and from the disk. The caller holds the data directory's lock and knows that no container is on it.
    Raises InUse, HostError."""
    try:
        with files.held(name):
            shares = shares_of(files, name)
            if busy := sorted(shares.addresses) if shares is not None else []:
                raise InUse(
                    f'network "{name}" is in use by project {", ".join(busy)}',
                    hint=f"take it down first: pystack -p {busy[0]} down",
                )
            shared_kernel.remove(files, name)
            files.delete(name)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise refused(exc, f'cannot remove network "{name}"') from exc


def others(files: SharedFiles) -> list[Occupied]:
    """The ranges of all shared networks: their bridges need not be there yet."""
    return [
        Occupied(where.network, shared_bridge(files.data_root, item.name)) for item in files.all() for where in item.ranges
    ]


@contextmanager
def _subnets_chosen() -> Iterator[None]:
    """Nobody else chooses a subnet meanwhile; for a moment at most, as in `networks`."""
    lock = SubnetLock()
    try:
        last = time.monotonic() + _LOCK_S
        while not lock.try_lock() and time.monotonic() < last:
            time.sleep(_LOCK_RETRY_S)
        yield
    finally:
        lock.close()


def _occupied() -> list[Occupied]:
    try:
        links = HostLinks()
    except OSError as exc:
        raise refused(exc, "cannot ask the kernel which subnets are in use") from exc
    try:
        return links.occupied()
    finally:
        links.close()


def _free(wanted: AddressRange, occupied: Sequence[Occupied]) -> AddressRange:
    if (item := taken_by(wanted, occupied)) is not None:
        raise OperationError(
            f"{wanted.network} overlaps {item} on this host", hint="choose another --subnet, or leave it out"
        )
    return wanted


def _chosen(files: SharedFiles, name: str, version: int, occupied: Sequence[Occupied]) -> AddressRange:
    key = ProjectKey(short_hash(files.data_root, 8))
    try:
        return choose_range(key, NetworkName(f"network {name}"), version, occupied)[0]
    except OperationError as exc:
        raise OperationError(
            f"no free IPv{version} subnet in the pool: the host's own networks overlap all of it",
            hint="choose one: --subnet",
        ) from exc


def _subnet(where: AddressRange) -> Subnet:
    given = str(where.given) if where.given is not None else None
    found = Subnet(str(where.network), str(where.gateway), given, tuple(map(str, where.reserved)))
    assert parse_range(found).network == where.network
    return found
