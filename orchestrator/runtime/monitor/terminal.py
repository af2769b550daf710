"""The terminal of a container's program on its way into the log: what is read from the master goes through a pipe of ours,
because splice(2), by which logs are written, needs one.

A slave of our own keeps the master from ending: it would at each moment in which no process has the terminal open. When the
run has ended, what was written is there: a read that does not block waits for what is on its way between the two
(n_tty(4), tty_buffer_flush_work).
"""

from __future__ import annotations

import fcntl
import os
import socket

from orchestrator.kernel import fdpass
from orchestrator.kernel.constants import TIOCGPTPEER
from orchestrator.runtime.monitor.logfile import Log

_READ_BYTES = 4096
"""As much as a terminal gives at once; a pipe that is empty takes it."""


class Screen:
    """`master` stays the caller's, and must not block."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.close(self._slave)
            raise

    def pull(self, log: Log, stream: int) -> bool | None:
        """Move what the terminal shows into `log`: as `Log.pull`."""
        try:
            data = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:  # EIO: hung up.
            return False
        if not data:
            return False
        os.write(self._writer, data)
        while log.pull(self._reader, stream):
            pass
        return True

    def close(self) -> None:
        for fd in (self._slave, self._reader, self._writer):
            os.close(fd)


class Channel:
    """What a child sends the master of its terminal over (``terminal`` of `final`)."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._theirs: socket.socket | None = theirs

    def for_child(self) -> int:
        """The child's end; it is closed by `forked`."""
        assert self._theirs is not None
        return self._theirs.fileno()

    def forked(self) -> None:
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def master(self) -> int:
        """Once the program has been executed. The caller's. Raises OSError, IndexError when none came."""
        return fdpass.receive(self._ours, 1)[1][0]

    def close(self) -> None:
        self.forked()
        self._ours.close()
