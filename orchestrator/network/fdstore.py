"""Where listening sockets outlive the supervisor."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Protocol


class FdStore(Protocol):
    """File descriptors kept by a process that does not die with us (the monitor), under names of our choice."""

    async def keep(self, name: str, fds: Sequence[int]) -> None:
        """Keep duplicates of `fds`, in place of what `name` stood for. The caller's stay the caller's."""
        ...

    async def fetch(self, name: str) -> list[int] | None:
        """New descriptors (the caller's) for what is kept as `name`, or None."""
        ...

    async def drop(self, name: str) -> None:
        """Close what is kept as `name`; nothing happens if there is nothing."""
        ...


class NoStore:
    """Nothing outlives us: tests, and commands without a monitor."""

    async def keep(self, name: str, fds: Sequence[int]) -> None:
        return None

    async def fetch(self, name: str) -> list[int] | None:
        return None

    async def drop(self, name: str) -> None:
        return None


async def fetch_sockets(store: FdStore, name: str) -> list[socket.socket]:
    """The sockets kept as `name`; what is no internet socket is closed."""
    found = []
    for fd in await store.fetch(name) or ():
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            continue
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setblocking(False)
            found.append(sock)
        else:
            sock.close()
    return found
