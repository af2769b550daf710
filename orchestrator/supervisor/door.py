"""The control socket's door: it lets clients in, and stays open when there is no descriptor left to let one in with.

accept(2) fails with EMFILE while the connection stays in the backlog, so the loop around it would spin, and a supervisor
that ends over it takes the supervision of healthy containers along. Therefore a descriptor is kept in reserve: it is given
up for the moment that it takes to accept the next client, tell it, and close.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress

import trio

from orchestrator.contracts.protocol import VERSION
from orchestrator.contracts.refusals import LIMIT_HINT
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError
from orchestrator.model.codec import to_json
from orchestrator.supervisor.faults import fault_of

BACK_OFF_S = 0.05
"""After a client that was turned away: descriptors may come back meanwhile."""
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def socket_path(site: Site) -> str:
    return os.path.join(site.run_dir, "control.sock")


def open_listener(site: Site) -> socket.socket:
    """The listening control socket. The caller holds the project's lock, so a socket file that is there is dead."""
    path = socket_path(site)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(128)
    except OSError as exc:
        listener.close()
        hint = "choose a shorter PYSTACK_RUN_DIR" if len(path) > 100 else None
        raise HostError(f"cannot listen on {path}: {exc.strerror or exc}", hint=hint) from exc
    return listener


class Door:
    """`listener` stays the caller's; `close` gives the reserve back."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._reserve = -1
        self._fill()

    async def accept(self) -> socket.socket:
        """The next client; never fails for want of descriptors or memory."""
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            try:
                return self._listener.accept()[0]
            except BlockingIOError:
                continue
            except OSError as exc:
                if exc.errno not in (*_SHORT, errno.ECONNABORTED):
                    raise
            self._turn_away()
            await trio.sleep(BACK_OFF_S)

    def close(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

    def _turn_away(self) -> None:
        self.close()
        with suppress(OSError):
            refuse(self._listener.accept()[0], "the supervisor is out of file descriptors")
        self._fill()

    def _fill(self) -> None:
        with suppress(OSError):  # Somebody was faster: the next client that is turned away makes room again.
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def refuse(client: socket.socket, why: str) -> None:
    """Tell a client why it is not served, if it can be told at once, and close it."""
    fault = fault_of(HostError(why, hint=LIMIT_HINT))
    with client, suppress(OSError):
        client.setblocking(False)
        client.send(json.dumps({"v": VERSION, "error": to_json(fault)}).encode() + b"\n")
