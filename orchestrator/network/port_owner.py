"""Which program has a host port, for explanations."""

from __future__ import annotations

import os

_STATES = {"tcp": "0A", "udp": "07"}
"""TCP_LISTEN and TCP_CLOSE, as /proc/net/tcp and /proc/net/udp print them (proc_pid_net(5))."""


def port_owner(protocol: str, port: int) -> str:
    """``"nginx" (pid 1234)`` of a process that has the port on any address, or "". What /proc shows: not processes of
    other pid namespaces, and a port that is bound but not listening has no line."""
    inodes = set()
    for table in (protocol, protocol + "6"):
        inodes |= _inodes(f"/proc/thread-self/net/{table}", port, _STATES[protocol])
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        directory = f"/proc/{pid}/fd"
        try:
            with os.scandir(directory) as entries:
                if any(_link(entry.path) in wanted for entry in entries):
                    with open(f"/proc/{pid}/comm", "rb") as file:
                        return f'"{file.read(64).decode("utf-8", "replace").strip()}" (pid {pid})'
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _inodes(path: str, port: int, state: str) -> set[str]:
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return set()
    rows = (line.split() for line in lines)
    return {row[9] for row in rows if len(row) > 9 and row[3] == state and int(row[1].rpartition(":")[2], 16) == port}
