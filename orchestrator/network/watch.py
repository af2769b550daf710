"""Firewall reloads wipe all tables (``nft flush ruleset``): put ours back at once.

The kernel tells every change of nf_tables to those who listen (NFNLGRP_NFTABLES), so nothing is polled.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

import trio

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from orchestrator.network import nftables
from orchestrator.network.firewall import Firewall
from orchestrator.network.thread import NetlinkThread


def listen() -> NetlinkSocket:
    """A socket for `watch_tables`. Raises OSError."""
    sock = NetlinkSocket(NETLINK_NETFILTER)
    try:
        sock.join(nftables.GROUP_NOTIFICATIONS)
    except BaseException:
        sock.close()
        raise
    return sock


async def watch_tables(thread: NetlinkThread, firewalls: Callable[[], Sequence[Firewall]], sock: NetlinkSocket) -> None:
    """Until cancelled: when the table of one of `firewalls` is deleted by somebody else, make it again as it was."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            changes = sock.notifications()
            deleted = {nftables.parse_table(c.body) for c in changes if nftables.is_deleted_table(c.kind)}
            gone = [firewall for firewall in firewalls() if firewall.name in deleted]
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            gone = list(firewalls())  # so much changed that the kernel lost count: look
        for firewall in gone:
            await thread.run(_put_back_if_gone, firewall)


def _put_back_if_gone(firewall: Firewall) -> None:
    """Our own removing and replacing is told to us too; by then `firewall` knows better."""
    if firewall.made and not firewall.exists():
        firewall.put_back()
