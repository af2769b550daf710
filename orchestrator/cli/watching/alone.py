"""One watch per project.

The name of an abstract Unix socket (unix(7)) is the lock: the kernel lets go of it with the process, and who asks hears
which process has it. Nothing is on disk, so `down` takes nothing away from under a watch.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from orchestrator.contracts.site import Site
from orchestrator.errors import BusyError


@contextlib.contextmanager
def alone(site: Site) -> Iterator[None]:
    """Raises BusyError when another process watches the project."""
    name = f"\0pystack/{site.key}/watch"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as held:
        try:
            held.bind(name)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise BusyError(
                f"project {site.project} is watched already, by process {_holder(name)}",
                hint="one watch can be about several services: pystack watch SERVICE SERVICE",
            ) from None
        held.listen(1)
        yield


def _holder(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as asking:
        try:
            asking.connect(name)
            return str(struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
        except OSError:
            return "unknown"
