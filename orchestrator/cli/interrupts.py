"""Ctrl-C and SIGTERM as something to wait for.

Within the context, they raise nothing: they are counted, and `fileno` becomes readable (a wake-up pipe, see
signal.set_wakeup_fd). The loop that waits for sockets and logs waits for them too, so none is missed or lost in between.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """`all_that_end`: a terminal that is closed (SIGHUP) and Ctrl-\\ (SIGQUIT) count too, unless whoever called us ignores
    them, as nohup(1) does."""

    def __init__(self, *, all_that_end: bool = False) -> None:
        further = (signal.SIGHUP, signal.SIGQUIT) if all_that_end else ()
        self._signals = (*SIGNALS, *(number for number in further if signal.getsignal(number) is not signal.SIG_IGN))
        self._count = 0
        self._taken = 0
        self._stack = contextlib.ExitStack()
        self._reader = -1

    def __enter__(self) -> Interrupts:
        with contextlib.ExitStack() as stack:
            self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, self._reader)
            stack.callback(os.close, writer)
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
            for number in self._signals:
                stack.callback(signal.signal, number, signal.signal(number, self._handle))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fileno(self) -> int:
        return self._reader

    def take(self) -> int:
        """How many came since the last call."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 512):
                pass
        new, self._taken = self._count - self._taken, self._count
        return new

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
