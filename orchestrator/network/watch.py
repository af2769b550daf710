"""Firewall reloads wipe all tables (``nft flush ruleset``): put ours back at once.

The kernel tells every change of nf_tables to those who listen (NFNLGRP_NFTABLES), so nothing is polled.
"""

from __future__ import annotations

import errno

import trio

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from orchestrator.network import nftables
from orchestrator.network.firewall import Firewall
from orchestrator.network.thread import NetlinkThread


def listen() -> NetlinkSocket:
    """A socket for `watch_table`. Raises OSError."""
    sock = NetlinkSocket(NETLINK_NETFILTER)
    try:
        sock.join(nftables.GROUP_NOTIFICATIONS)
    except BaseException:
        sock.close()
        raise
    return sock


async def watch_table(thread: NetlinkThread, firewall: Firewall, table: str, sock: NetlinkSocket) -> None:
    """Until cancelled: when `table` is deleted by somebody else, make it again as it was."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            changes = sock.notifications()
            gone = any(nftables.is_deleted_table(c.kind) and nftables.parse_table(c.body) == table for c in changes)
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            gone = True  # so much changed that the kernel lost count: look
        if gone:
            await thread.run(_put_back_if_gone, firewall)


def _put_back_if_gone(firewall: Firewall) -> None:
    """Our own removing and replacing is told to us too; by then `firewall` knows better."""
    if firewall.made and not firewall.exists():
        firewall.put_back()
