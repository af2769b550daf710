"""The terminal of a container's program, whose master is read into the log (`logfile`).

When the run has ended, what was written is there: a read that does not block, and poll(2), wait for what is on its way
between the two (n_tty(4), tty_buffer_flush_work).
"""

from __future__ import annotations

import fcntl
import os

from orchestrator.kernel import fdpass
from orchestrator.kernel.constants import TIOCGPTPEER

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:  # `socket` makes enumerations of all that it has
    import _socket as socket


def slave_of(master: int) -> int:
    """A slave of our own keeps the master from ending: it would at each moment in which no process has the terminal open.
    Raises OSError."""
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


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
