"""A name server on a container's own loopback, at Docker's address: the part of it that is in the container's namespace.

    container: 127.0.0.1:P > 127.0.0.11:53  --output-->  127.0.0.1:P > 127.0.0.11:61053  --lo-->  our socket
                                                         127.0.0.11:61053 > 127.0.0.1:P  --output-->  from port 53

The sockets are not on port 53, since nobody else could have that port on all addresses then, and there are name servers
that run in containers (decision 0022). A table of the namespace's own changes the port, in packets that leave by lo, and
nothing else: no connection is tracked for it, and no address is translated.

Called on the netlink thread only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache

from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket, Request
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.resolver import DNS_PORT, HOST_PORTS, open_sockets, usable
from orchestrator.network.thread import NetlinkThread

ADDRESS = "127.0.0.11"
_TABLE = nft.Table("pystack_names")
_PRIORITY_RAW = -300
_SIOCGSKNS = 0x894C
"""linux/sockios.h: a descriptor of the network namespace of a socket."""

Sockets = tuple[socket.socket, socket.socket]
"""UDP and TCP."""


def open_inside(thread: NetlinkThread, netns_fd: int, kept: Sequence[socket.socket]) -> Sockets | None:
    """The two sockets in the namespace: those that are `kept` of before, if they are such, or new ones. `kept` are closed
    if they are not. None: it cannot be, because the kernel has no nf_tables, or what runs in there is in the way."""
    if not _are_of(kept, netns_fd):
        _close(kept)
        kept = ()
    sockets = usable(kept, ADDRESS)
    try:
        with thread.inside(netns_fd):
            sockets = sockets or open_sockets(ADDRESS, HOST_PORTS)
            _lay(sockets[0].getsockname()[1])
    except OSError:
        _close(sockets or ())
        return None
    return sockets


def _are_of(sockets: Iterable[socket.socket], netns_fd: int) -> bool:
    return all(_is_of(sock, netns_fd) for sock in sockets)


def _is_of(sock: socket.socket, netns_fd: int) -> bool:
    try:
        own = fcntl.ioctl(sock.fileno(), _SIOCGSKNS)
    except OSError:
        return False
    try:
        return os.path.sameopenfile(own, netns_fd)
    finally:
        os.close(own)


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _lay(port: int) -> None:
    """The table, in the namespace that the thread is in, and not any other that a container or one of ours has made there.
    Raises OSError."""
    with NetlinkSocket(NETLINK_NETFILTER) as sock:
        try:
            nft.commit(sock, table_requests(port))
        except OSError as exc:
            if exc.errno != errno.EEXIST:
                raise
            nft.commit(sock, [nft.delete_table(_TABLE), *table_requests(port)])


@lru_cache(maxsize=4)
def table_requests(port: int) -> tuple[Request, ...]:
    """The whole table, for a namespace that has none. The same for all, so it is packed once."""
    chain = "output"
    requests = [
        nft.new_table(_TABLE, exclusive=True),
        nft.new_base_chain(_TABLE, chain, "filter", nft.HOOK_OUTPUT, _PRIORITY_RAW),
    ]
    for source, before, after in ((False, DNS_PORT, port), (True, port, DNS_PORT)):
        ours = nfx.from_subnet(socket.AF_INET, ADDRESS, 32) if source else nfx.to_subnet(socket.AF_INET, ADDRESS, 32)
        asked = [*ours, *nfx.tcp_to_udp(), *nfx.port_of(before, source=source)]
        changed = nfx.set_local_port(after, source=source)
        requests.append(nft.new_rule(_TABLE, chain, [*asked, *changed]))
    return tuple(requests)
