"""What a project that died has left in the kernel, found by name alone and removed.

No record, supervisor or container is needed: all names derive from the project's key (`model.names`).
"""

from __future__ import annotations

import socket

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from orchestrator.model.names import ProjectKey, bridge_mark, chaos_table, nft_table, seen_table
from orchestrator.network import losses, nftables
from orchestrator.network.bridge import HostLinks, refused
from orchestrator.network.firewall import delete_table
from orchestrator.network.nftables import Table
from orchestrator.network.thread import open_thread
from orchestrator.values import frozen

_FAMILIES = (socket.AF_INET, socket.AF_INET6, *losses.FAMILIES)


@frozen
class Leftovers:
    """Names in the kernel. `veths` are host ends; with them go the containers' ends."""

    bridges: tuple[str, ...] = ()
    veths: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.bridges or self.veths or self.tables)


async def find_leftovers(key: ProjectKey) -> Leftovers:
    """What there is of the project `key`. Raises HostError."""
    async with open_thread() as thread:
        try:
            return await thread.run(_find, key)
        except OSError as exc:
            raise refused(exc, "cannot look for left-over networks") from exc


async def remove_leftovers(key: ProjectKey) -> Leftovers:
    """Remove and return what there is of the project `key`; nothing of it may be running. What goes meanwhile does not
    matter. Raises HostError."""
    async with open_thread() as thread:
        try:
            return await thread.run(_remove, key)
        except OSError as exc:
            raise refused(exc, "cannot remove left-over networks") from exc


def _find(key: ProjectKey) -> Leftovers:
    links = HostLinks()
    try:
        found = links.all()
    finally:
        links.close()
    mark = bridge_mark(key)
    bridges = {
        link.index: link.name
        for link in found
        if link.name.startswith(f"psb{key}") or (link.kind == "bridge" and link.alias == mark)
    }
    # The veth's name has six digits of the key only: another project's is told apart by its bridge, or by a mark where the
    # bridge is nobody's own.
    veths = [
        link.name
        for link in found
        if link.name.startswith(f"psv{key[:6]}") and (link.master in bridges or link.master == 0 or link.alias == mark)
    ]
    with NetlinkSocket(NETLINK_NETFILTER) as sock:
        tables = [nftables.parse_table(body) for family in _FAMILIES for body in sock.ask(nftables.get_tables(family))]
    names = (nft_table(key), seen_table(key), chaos_table(key))
    found_tables = tuple(dict.fromkeys(table for table in tables if table in names))
    return Leftovers(tuple(sorted(bridges.values())), tuple(sorted(veths)), found_tables)


def _remove(key: ProjectKey) -> Leftovers:
    found = _find(key)
    links = HostLinks()
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as sock:
            for table in found.tables:
                for family in _FAMILIES:
                    delete_table(sock, Table(table, family))
        links.delete([*found.veths, *found.bridges])
    finally:
        links.close()
    return found
