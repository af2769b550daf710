"""The user's terminal joined to a container's: `exec` and `run` with a pty.

    keyboard -> stdin (raw) -> master -> pty in the container's devpts -> the process
    screen  <- stdout      <- master <-

The master arrives by SCM_RIGHTS with the first event; from then on all bytes go directly, not through the supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Protocol

from orchestrator.client import Client, EventMessage, ResultMessage
from orchestrator.errors import HostError

_CHUNK = 65536


def run_on_terminal(client: Client, request: Mapping[str, Any]) -> int:
    """Run ``exec`` with our terminal as the process's; returns its status. `request`: `contracts.control.Exec` as JSON."""
    client.send("exec", request, (0, 1, 2))
    first = client.receive()
    if isinstance(first, ResultMessage):
        return int(first.value["status"])
    if not isinstance(first, EventMessage) or len(first.fds) != 1:
        raise HostError("the supervisor did not hand over the terminal")
    try:
        return join(_Exec(client), first.fds[0])
    finally:
        os.close(first.fds[0])


class Ending(Protocol):
    """Who knows when the process has ended: `status` when `fileno` has been readable; None while it has not."""

    def fileno(self) -> int: ...

    def status(self) -> int | None: ...


class _Exec:
    def __init__(self, client: Client) -> None:
        self._client = client

    def fileno(self) -> int:
        return self._client.fileno()

    def status(self) -> int | None:
        message = self._client.receive(0)
        return int(message.value["status"]) if isinstance(message, ResultMessage) else None


def join(ending: Ending, master: int) -> int:
    """Our terminal is the process's until it has ended; its status. The terminal is as before afterwards."""
    with _resizing(master), _raw(0):
        return _relay(ending, master)


def _relay(ending: Ending, master: int) -> int:
    """Copy both ways until the process has ended and its output is written."""
    os.set_blocking(master, False)
    to_master = b""
    poll = select.poll()
    poll.register(ending, select.POLLIN)
    poll.register(0, select.POLLIN)
    poll.register(master, select.POLLIN)
    while True:
        for fd, events in poll.poll():
            if fd == master:
                if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not _drain(master):
                    poll.unregister(master)
                    continue
                if events & select.POLLOUT:
                    to_master = _write(master, to_master)
            elif fd == 0:
                data = os.read(0, _CHUNK)
                if not data:
                    poll.unregister(0)
                to_master = _write(master, to_master + data)
            else:
                status = ending.status()
                if status is not None:
                    _drain(master)
                    return status
        with contextlib.suppress(FileNotFoundError):
            poll.modify(master, select.POLLIN | (select.POLLOUT if to_master else 0))


def _drain(master: int) -> bool:
    """Copy what the process has written; False when nothing can come any more (EIO: no process has the pty open)."""
    while True:
        try:
            data = os.read(master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError as exc:
            if exc.errno == errno.EIO:
                return False
            raise
        if not data:
            return False
        while data:
            data = data[os.write(1, data) :]


def _write(master: int, data: bytes) -> bytes:
    """What could not be written yet. Typing to a process that is gone is lost."""
    try:
        return data[os.write(master, data) :] if data else b""
    except BlockingIOError:
        return data
    except OSError as exc:
        if exc.errno == errno.EIO:
            return b""
        raise


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """The terminal passes every key on (termios(3), cfmakeraw); Ctrl-C too: it is for the process."""
    before = termios.tcgetattr(fd)
    previous = signal.signal(signal.SIGTERM, _cancel)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, previous)


def _cancel(number: int, frame: FrameType | None) -> None:
    """SIGTERM must not leave the terminal raw."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def _resizing(master: int) -> Iterator[None]:
    """The pty has our terminal's size, now and whenever it changes."""

    def resize(number: int = 0, frame: FrameType | None = None) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(1, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
