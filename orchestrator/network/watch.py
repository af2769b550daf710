"""Firewall reloads wipe all tables (``nft flush ruleset``): put ours back at once.

The kernel tells every change of nf_tables to those who listen (NFNLGRP_NFTABLES), so nothing is polled.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from orchestrator.network import nftables
from orchestrator.network.thread import NetlinkThread


class Tables(Protocol):
    """Tables that know what they hold; on the netlink thread only. `name`: of all of them."""

    @property
    def name(self) -> str: ...

    @property
    def made(self) -> bool:
        """Whether there should be any."""
        ...

    def exists(self) -> bool: ...

    def put_back(self) -> None: ...


def listen() -> NetlinkSocket:
    """A socket for `watch_tables`. Raises OSError."""
    sock = NetlinkSocket(NETLINK_NETFILTER)
    try:
        sock.join(nftables.GROUP_NOTIFICATIONS)
    except BaseException:
        sock.close()
        raise
    return sock


async def watch_tables(thread: NetlinkThread, watched: Callable[[], Sequence[Tables]], sock: NetlinkSocket) -> None:
    """Until cancelled: when one of `watched` is deleted by somebody else, make it again as it was."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            changes = sock.notifications()
            deleted = {nftables.parse_table(c.body) for c in changes if nftables.is_deleted_table(c.kind)}
            gone = [tables for tables in watched() if tables.name in deleted]
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            gone = list(watched())  # so much changed that the kernel lost count: look
        for tables in gone:
            await thread.run(_put_back_if_gone, tables)


def _put_back_if_gone(tables: Tables) -> None:
    """Our own removing and replacing is told to us too; by then they know better."""
    if tables.made and not tables.exists():
        tables.put_back()
