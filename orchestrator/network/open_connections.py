"""How many TCP connections others have to what listens in a network namespace, by /proc/net/tcp (proc_pid_net(5))."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.network.thread import NetlinkThread

_TABLES = ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6")
_LISTEN = "0A"
_OPEN = frozenset({"01", "03", "04", "08", "09", "0B"})
"""ESTABLISHED, SYN_RECV, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING (include/net/tcp_states.h): something may still be sent,
or is not acknowledged yet."""
_LOOPBACK_6 = "00000000000000000000000001000000"
_MAPPED = "0000000000000000FFFF0000"


def open_connections(thread: NetlinkThread, netns_fd: int) -> int:
    """On the netlink thread only. Raises OSError."""
    lines: list[str] = []
    with thread.inside(netns_fd):
        for table in _TABLES:
            try:
                with open(table, encoding="ascii") as file:
                    lines += file.readlines()[1:]
            except FileNotFoundError:  # A kernel without IPv6.
                continue
    return count_open(lines)


def count_open(lines: Iterable[str]) -> int:
    """Those to a port that somebody listens on, but for what a namespace has with itself by loopback: health checks, a
    proxy and its application. `lines`: without the tables' headings."""
    listening: set[str] = set()
    taken: list[str] = []
    for line in lines:
        _, local, remote, state = line.split(maxsplit=4)[:4]
        port = local.partition(":")[2]
        if state == _LISTEN:
            listening.add(port)
        elif state in _OPEN and not _is_loopback(remote.partition(":")[0]):
            taken.append(port)
    return sum(port in listening for port in taken)


def _is_loopback(address: str) -> bool:
    """`address`: words of 32 bits in the machine's order, which on what we run on is little-endian."""
    if len(address) == 8:
        return address[6:] == "7F"
    return address == _LOOPBACK_6 or (address[:24] == _MAPPED and address[30:] == "7F")
