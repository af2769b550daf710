"""Standard streams of a container's program that is attended to.

    our stdin   -> a pipe of ours -> the process     (`Feeder`; never our own descriptor: it may be anything)
    the process -> its log -> our stdout and stderr  (`Output`: byte for byte, as it comes)
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable

from orchestrator.runtime.logpairs import Pair
from orchestrator.runtime.logs import Follower
from orchestrator.runtime.monitor.logformat import BREAK, MARKS, STDERR

_CHUNK = 1 << 16
_PIECE = 1 << 20
_FDS = {"stdout": 1, "stderr": 2}


class Feeder:
    """Copies our stdin into a pipe, whose other end, `reader`, is the process's; it is closed by `handed_over`."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)
        self._pending = b""
        self._at_end = False

    def handed_over(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def close(self) -> None:
        self.handed_over()
        self._end()

    def wait_for(self, poll: select.poll) -> None:
        """Register what this one waits for."""
        if self._writer < 0:
            return
        # A pipe that nobody reads any more is told too (POLLERR), whatever is asked for.
        poll.register(self._writer, select.POLLOUT if self._pending else 0)
        if not self._pending and not self._at_end:
            poll.register(0, select.POLLIN)

    def pump(self, ready: dict[int, int]) -> None:
        """Copy what can be copied now. `ready`: what `poll` gave."""
        if self._writer >= 0 and ready.get(self._writer, 0) & select.POLLERR:
            self._end()
        if self._writer >= 0 and 0 in ready:
            self._read()
        if self._writer >= 0 and self._pending:
            try:
                self._pending = self._pending[os.write(self._writer, self._pending) :]
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._end()
        if self._at_end and not self._pending:
            self._end()

    def _read(self) -> None:
        try:
            self._pending = os.read(0, _CHUNK)
        except BlockingIOError:  # Somebody else made it so, and took what was there.
            return
        except OSError:  # A terminal that is gone, or a directory: nothing comes from it.
            self._pending = b""
        self._at_end = not self._pending

    def _end(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
            self._pending = b""


class Output:
    """What a container writes. `log_path`: without the ``.log``. `on_lost`: told how many bytes are missing, and why.
    `complete`: from its first byte on; this is made before the container is."""

    def __init__(self, log_path: str, on_lost: Callable[[int, str], None], *, complete: bool = False) -> None:
        from orchestrator.kernel.inotify import Inotify  # It brings ctypes, which plain `logs` does without.

        self._inotify = Inotify()
        self._follower = Follower(log_path, inotify=self._inotify, timed=False, on_lost=on_lost, complete=complete)

    def fileno(self) -> int:
        return self._inotify.fileno()

    def skip(self) -> None:
        """What is there is passed over."""
        self._follower.skip()

    def pump(self) -> bool:
        """Copy what is there; there may be more each time. Raises BrokenPipeError when nobody reads ours."""
        self._inotify.clear()
        for stream, _, data in self._follower.pieces():
            write_all(_FDS[stream], data)
        return True

    def close(self) -> None:
        self._follower.close()
        self._inotify.close()


def copy_log(log_path: str, on_lost: Callable[[int, str], None]) -> None:
    """All of a log to our stdout and stderr, byte for byte, by the kernel where that can: only between what two runs wrote
    a newline is added where there was none. Raises BrokenPipeError, HostError."""
    sys.stdout.flush()
    follower = Follower(log_path, timed=False, on_lost=on_lost)
    ends: dict[int, bytes] = {}
    """By our descriptor, the last byte: of the run before, if it was no newline."""
    unended: set[int] = set()
    try:
        for pair, (kind, _, offset, length) in follower.spans():
            if kind == BREAK:
                unended |= {fd for fd, last in ends.items() if last != b"\n"}
            elif kind < MARKS:
                fd = 2 if kind == STDERR else 1
                if fd in unended:
                    write_all(fd, b"\n")
                    unended.discard(fd)
                _send(fd, pair, offset, length)
                ends[fd] = pair.read(offset + length - 1, 1)
    finally:
        follower.close()


def _send(fd: int, pair: Pair, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        try:
            sent = os.sendfile(fd, pair.log, offset, end - offset)
        except BrokenPipeError:
            raise
        except OSError:  # Opened for appending, a terminal, non-blocking, closed: what only write(2) does, or tells.
            data = pair.read(offset, min(end - offset, _PIECE))
            write_all(fd, data)
            sent = len(data)
        if not sent:
            return
        offset += sent


def write_all(fd: int, data: bytes) -> None:
    """All of it, also to a descriptor that somebody has made non-blocking. A closed one takes everything."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except BrokenPipeError:
            raise
        except OSError:
            if is_open(fd):
                raise
            return


def is_open(fd: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False
