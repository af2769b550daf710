"""The user's terminal joined to a container's: `exec`, `run` and `attach`.

    keyboard -> stdin (raw) -> the master of a pty in the container's devpts, or its stdin -> the program
    screen   <- stdout      <- that master (`exec`), or the container's log (`run`, `attach`: several may watch)

All bytes go directly, not through the supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, Protocol

from orchestrator.cli.detaching import Keys
from orchestrator.client import Client, EventMessage, ResultMessage
from orchestrator.errors import HostError

_CHUNK = 65536
_AT_MOST_MS = 500
DETACHED = "detached: {} goes on"


class Terminated(BaseException):
    """A signal that asks us to end. `number`: which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Ending(Protocol):
    """Who knows when the process has ended: `status` when `fileno` has been readable; None while it has not."""

    def fileno(self) -> int: ...

    def status(self) -> int | None: ...


class Shown(Protocol):
    """What the program writes. `pump` copies what is there when `fileno` has been readable; False: nothing can come."""

    def fileno(self) -> int: ...

    def pump(self) -> bool: ...


class Reply:
    """The answer to the request of `client`, which says how the process has ended."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def fileno(self) -> int:
        return self._client.fileno()

    def status(self) -> int | None:
        message = self._client.receive(0)
        return int(message.value["status"]) if isinstance(message, ResultMessage) else None


def run_on_terminal(client: Client, request: Mapping[str, Any], keys: Keys) -> int:
    """Run ``exec`` with our terminal as the process's; its status. `request`: `contracts.control.Exec` as JSON."""
    rows, columns = size_of(0)
    client.send("exec", {**request, "rows": rows, "columns": columns})
    first = client.receive()
    if isinstance(first, ResultMessage):
        return int(first.value["status"])
    if not isinstance(first, EventMessage) or len(first.fds) != 1:
        raise HostError("the supervisor did not hand over the terminal")
    (master,) = first.fds
    try:
        with on_terminal(master):
            status = relay(Reply(client), Screen(master), master, keys)
    except Terminated as ended:
        return 128 + ended.number
    finally:
        os.close(master)
    if status is None:
        client.say({"detach": True})
        client.receive()
        print(DETACHED.format("the command"), file=sys.stderr)
        return 0
    return status


def relay(ending: Ending, shown: Shown, sink: int, keys: Keys | None, *, stdin: bool = True) -> int | None:
    """Copy both ways until the process has ended and its output is written: its status, or None when `keys` were typed.
    `sink`: what is typed goes there; -1: nowhere. It must not block."""
    pending = b""
    showing = shown.pump()
    typing = reading = stdin and sink >= 0
    while True:
        wanted = {ending.fileno(): select.POLLIN}
        if showing:
            wanted[shown.fileno()] = select.POLLIN
        if typing:  # A master may be what is shown, too.
            wanted[sink] = wanted.get(sink, 0) | (select.POLLOUT if pending else 0)
        if typing and reading and not pending:
            wanted[0] = select.POLLIN
        ready = _poll(wanted)
        if showing and ready.get(shown.fileno(), 0) & ~select.POLLOUT:
            showing = shown.pump()
            typing = typing and (showing or sink != shown.fileno())
        if 0 in ready and (data := _typed()) is not None:
            reading = bool(data)
            pending = keys.passed(data) if keys is not None else data
        if typing:
            pending = _write(sink, pending)
        if keys is not None and keys.typed:
            return None
        if ending.fileno() in ready and (status := ending.status()) is not None:
            shown.pump()
            return status
        if sink != shown.fileno() and ready.get(sink, 0) & (select.POLLERR | select.POLLHUP):
            typing = False  # Nobody reads what is typed any more.


def _poll(wanted: Mapping[int, int]) -> dict[int, int]:
    """Nothing after a while: a signal that came just before the call is not seen before it ends."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return dict(poll.poll(_AT_MOST_MS))


class Screen:
    """What a pty's `master` shows, to our stdout."""

    def __init__(self, master: int) -> None:
        os.set_blocking(master, False)
        self._master = master

    def fileno(self) -> int:
        return self._master

    def pump(self) -> bool:
        while True:
            try:
                data = os.read(self._master, _CHUNK)
            except BlockingIOError:
                return True
            except OSError as exc:
                if exc.errno == errno.EIO:  # No process has the pty open.
                    return False
                raise
            if not data:
                return False
            while data:
                data = data[os.write(1, data) :]


def _typed() -> bytes | None:
    """b"": nothing comes any more; None: nothing came."""
    try:
        return os.read(0, _CHUNK)
    except BlockingIOError:
        return None
    except OSError as exc:
        if exc.errno == errno.EIO:  # Our terminal is gone.
            return b""
        raise


def _write(sink: int, data: bytes) -> bytes:
    """What could not be written yet. Typing to a process that is gone is lost."""
    try:
        return data[os.write(sink, data) :] if data else b""
    except BlockingIOError:
        return data
    except OSError as exc:
        if exc.errno in (errno.EIO, errno.EPIPE):
            return b""
        raise


def size_of(fd: int) -> tuple[int, int]:
    """Rows and columns of the terminal `fd`; (0, 0) when it is none."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return rows, columns


@contextlib.contextmanager
def on_terminal(master: int, *, redraw: bool = False) -> Iterator[None]:
    """Our terminal, if stdin is one, passes every key on, and the pty has its size, now and whenever it changes. It is as
    before afterwards, and while we are stopped. `redraw`: the program is told of a size even if it is the old one, so that
    it shows itself. Raises Terminated for signals that would end us."""
    if not os.isatty(0):
        yield
        return
    raw = _Raw(0, master)
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: _end,  # Somebody has sent it: Ctrl-C is the program's.
        signal.SIGTERM: _end,
        signal.SIGHUP: _end,
        signal.SIGQUIT: _end,
        signal.SIGWINCH: raw.resize,
        signal.SIGTSTP: raw.stop,
        signal.SIGCONT: raw.go_on,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        raw.begin()
        if redraw:
            raw.redraw()
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        raw.end()


def _end(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


class _Raw:
    """The terminal `fd` in raw mode (termios(3), cfmakeraw): Ctrl-C and Ctrl-Z too are for the program."""

    def __init__(self, fd: int, master: int) -> None:
        self._fd, self._master = fd, master
        self._before = termios.tcgetattr(fd)

    def begin(self) -> None:
        tty.setraw(self._fd, termios.TCSADRAIN)  # What was typed already is for the program.
        self.resize()

    def end(self) -> None:
        with contextlib.suppress(termios.error):  # It is gone.
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def resize(self, number: int = 0, frame: FrameType | None = None) -> None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(self._master, termios.tcgetwinsize(self._fd))

    def redraw(self) -> None:
        """As Docker does it: another size, and back."""
        rows, columns = size_of(self._fd)
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(self._master, (rows + 1, columns + 1))
        self.resize()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Somebody stops us with SIGTSTP: the shell gets the terminal back as it was."""
        self.end()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self.go_on(number, frame)

    def go_on(self, number: int, frame: FrameType | None) -> None:
        """After SIGSTOP too, which we do not see. In the background the terminal is not ours; we are told again."""
        with contextlib.suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                self.begin()
