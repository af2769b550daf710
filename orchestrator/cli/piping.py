"""`exec` without a terminal: three pipes of ours, and copying between them and our own stdin, stdout and stderr.

    our stdin          -> pipe -> the process
    our stdout, stderr <- pipe <- the process

What the caller gave us may be anything, and others may hold it too: it is never made non-blocking. What is written to it at
once is what it takes without blocking, so that no direction waits for another. Input is copied by read and write: a page of
a file of the caller's must not lie in a container's pipe (splice(2)); output is moved.

`exec` is a hot path: C modules alone are imported.
"""

from __future__ import annotations

import errno
import os
import select

from orchestrator.client import ResultMessage
from orchestrator.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any

    from orchestrator.client import Client
else:
    import _signal as signals  # The module around it makes enums.

_CHUNK = 1 << 16
_MOVED = 1 << 20
_SURE = select.PIPE_BUF
"""Bytes that a pipe, a terminal or a socket takes without blocking when poll(2) says that it can be written to."""
_FIONREAD = 0x541B
_FILE_TYPE, _FIFO, _REGULAR, _DEVICE = 0o170000, 0o010000, 0o100000, 0o020000
_PASSED_ON = (signals.SIGINT, signals.SIGTERM, signals.SIGQUIT)
_PATIENCE = 2
"""Signals that are passed on; the next one ends us, and with us the process."""


def run_piped(client: Client, request: Mapping[str, Any], *, stdin: bool) -> int:
    """Run ``exec``; the process's status. `request`: `contracts.control.Exec` as JSON. Not `stdin`: it reads nothing.
    Raises the request's error, HostError when our stdout cannot be written to."""
    their_in, into = os.pipe2(os.O_CLOEXEC)
    out, their_out = os.pipe2(os.O_CLOEXEC)
    err, their_err = os.pipe2(os.O_CLOEXEC)
    # One that comes in between is the process's, whose first word may be what the sender waits for.
    mask = signals.pthread_sigmask(signals.SIG_BLOCK, _PASSED_ON)
    try:
        client.send("exec", request, (their_in, their_out, their_err))
        before = _pass_signals_on(client)
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, mask)
        for fd in (their_in, their_out, their_err):
            os.close(fd)
    if not stdin:
        os.close(into)
    try:
        return _copied(client, _Input(into) if stdin else None, (_Output(out, 1), _Output(err, 2)))
    finally:
        _restore(before)


def _copied(client: Client, into: _Input | None, outputs: tuple[_Output, ...]) -> int:
    connection = client.fileno()
    while True:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if into is not None:
            into.wait_for(poll)
        for output in outputs:
            output.wait_for(poll)
        ready = dict(poll.poll())
        if into is not None:
            into.pump(ready)
        for output in outputs:
            output.pump(ready)
        if connection in ready:
            message = client.receive(0)
            if isinstance(message, ResultMessage):
                break
    # What is left is only ours to write: a signal ends us.
    _restore(dict.fromkeys(_PASSED_ON, signals.SIG_DFL))
    for output in outputs:
        output.finish()
    return int(message.value["status"])


class _Input:
    """Our stdin into `pipe`, which it owns."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._pending: bytes | memoryview = b""
        self._at_end = False

    def wait_for(self, poll: select.poll) -> None:
        if self._pipe < 0:
            return
        # That nobody reads the pipe any more is told too (POLLERR), whatever is asked for.
        poll.register(self._pipe, select.POLLOUT if self._pending else 0)
        if not self._pending:
            poll.register(0, select.POLLIN)

    def pump(self, ready: Mapping[int, int]) -> None:
        if self._pipe < 0:
            return
        if ready.get(self._pipe, 0) & select.POLLERR:
            self._close()
            return
        if 0 in ready and not self._pending:
            self._read()
        if self._pending:
            try:
                self._pending = memoryview(self._pending)[os.write(self._pipe, self._pending) :]
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._close()
                return
        if self._at_end and not self._pending:
            self._close()

    def _read(self) -> None:
        try:
            self._pending = os.read(0, _CHUNK)
        except BlockingIOError:  # Somebody else made it so, and took what was there.
            return
        except OSError:  # A terminal that is gone or not ours at the moment, or a directory: nothing comes from it.
            self._pending = b""
        self._at_end = not self._pending

    def _close(self) -> None:
        os.close(self._pipe)
        self._pipe = -1


class _Output:
    """What comes out of `pipe`, which it owns, to `sink`."""

    def __init__(self, pipe: int, sink: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe, self._sink = pipe, sink
        kind = os.fstat(sink).st_mode & _FILE_TYPE
        self._moves = kind in (_FIFO, _REGULAR)
        self._blocks = kind not in (_REGULAR, _DEVICE) or os.isatty(sink)
        """It takes `_SURE` bytes at a time, when it says so."""
        self._pending: bytes | memoryview = b""
        self._full = False
        self._error: OSError | None = None

    def wait_for(self, poll: select.poll) -> None:
        if self._pipe < 0:
            return
        if self._pending or self._full:
            poll.register(self._sink, select.POLLOUT)
        else:
            poll.register(self._pipe, select.POLLIN)

    def pump(self, ready: Mapping[int, int]) -> None:
        if self._pipe >= 0 and (self._sink if self._pending or self._full else self._pipe) in ready:
            self._full = False
            self._step(_MOVED)

    def _step(self, most: int) -> int:
        """Move or write something; how much left the pipe. Nobody reads `sink` any more: nobody reads the pipe either."""
        try:
            if self._pending:
                self._write()
                return 0
            if self._moves and (moved := self._move(most)) is not None:
                return moved
            data = os.read(self._pipe, min(most, _SURE if self._blocks else _CHUNK))
            if not data:
                self._close()
                return 0
            self._pending = data
            if not self._blocks:
                self._write()
            return len(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            if exc.errno not in (errno.EPIPE, errno.EIO):
                self._error = exc
            self._pending = b""
            self._close()
            return 0

    def _move(self, most: int) -> int | None:
        """splice(2), which does not block on pipes here. None: not with this `sink` (a file that is appended to)."""
        try:
            moved = os.splice(self._pipe, self._sink, most, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            self._full = True
            return 0
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            self._moves = False
            return None
        if not moved:
            self._close()
        return moved

    def _write(self) -> None:
        view = memoryview(self._pending)
        self._pending = view[os.write(self._sink, view[:_SURE] if self._blocks else view) :]

    def finish(self) -> None:
        """The process has ended: what is in the pipe now is copied. What others, in the background, still write is not."""
        left = _held(self._pipe) if self._pipe >= 0 else 0
        while self._pipe >= 0 and (left > 0 or self._pending):
            if self._pending or self._full or self._blocks:
                poll = select.poll()
                poll.register(self._sink, select.POLLOUT)
                poll.poll()
                self._full = False
            left -= self._step(left)
        if self._pipe >= 0:
            self._close()
        if self._error is not None:
            raise HostError(f"cannot write what the command wrote: {self._error.strerror}") from self._error

    def _close(self) -> None:
        os.close(self._pipe)
        self._pipe = -1


def _held(pipe: int) -> int:
    """How many bytes are in it."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not any(events & select.POLLIN for _, events in poll.poll(0)):
        return 0
    import fcntl  # Rarely needed: what a command writes is mostly copied before we hear of its end.

    return int.from_bytes(fcntl.ioctl(pipe, _FIONREAD, bytes(4)), "little")


def _pass_signals_on(client: Client) -> dict[int, Any]:
    """From now on they are the process's. What they did before; those that are ignored stay so."""
    came = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came > _PATIENCE:
            raise KeyboardInterrupt
        client.say({"signal": number})

    chosen = [number for number in _PASSED_ON if signals.getsignal(number) != signals.SIG_IGN]
    return {number: signals.signal(number, pass_on) for number in chosen}


def _restore(before: Mapping[int, Any]) -> None:
    for number, action in before.items():
        if signals.getsignal(number) != signals.SIG_IGN:
            signals.signal(number, action)
