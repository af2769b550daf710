"""The thread of a name server that takes questions by UDP and answers what it can.

A thread of its own, and plain system calls: an event loop in between took as long as finding the answer, and what the
event loop does at the moment (a start of a hundred containers) would delay every answer. Nothing that a container
sends may end it, and nothing may make it grow: what waits is in `Turns`.

Questions are taken from the socket as long as there are some before one of each client is answered, since the
kernel's queue is one for all of them, and what does not fit there is lost.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from orchestrator.network.pieces import cut
from orchestrator.network.turns import Turns, Waiting

MOST_QUESTION_BYTES = 4096
_TAKEN_AT_ONCE = 256
_ANSWERED_AT_ONCE = 32
_LATER_S = 0.02
_BUFFER_BYTES = 4 << 20
"""A thousand questions at once of some containers: the kernel counts about 800 bytes for each."""
_SO_RCVBUFFORCE = 33
_MOST_LATER = 2048
_JOIN_S = 5.0

Respond = Callable[[Waiting], bytes | bool]
"""The answer; True: none from here; False: ask again in a moment."""


class Datagrams:
    """Owns `sock`, and does not change how it blocks: others hold the same open socket."""

    def __init__(self, sock: socket.socket, respond: Respond) -> None:
        self._sock = sock
        self._respond = respond
        self._turns = Turns()
        # Received here and copied: `recvfrom` would make room for the longest and give back what is too much, which leaves
        # each short question that waits at the beginning of a hole of 4 KB, in memory that never becomes less.
        self._room = memoryview(bytearray(MOST_QUESTION_BYTES + 1))
        self._later: deque[Waiting] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._thread: threading.Thread | None = None
        _widen(sock)

    def start(self) -> None:
        if not self._closing and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pystack-names", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """The socket is closed when this returns. Takes no longer than one answer."""
        if self._closing:
            return
        self._closing = True
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join(_JOIN_S)
        self._sock.close()
        os.close(self._wake)

    def send(self, answer: bytes, waiting: Waiting) -> None:
        """From any thread. The client may be gone, or this network."""
        with suppress(OSError):
            self._sock.sendto(answer, socket.MSG_DONTWAIT, waiting.sender)

    def _work(self) -> None:
        with select.epoll() as ready:
            ready.register(self._sock.fileno(), select.EPOLLIN)
            ready.register(self._wake, select.EPOLLIN)
            while not self._closing:
                ready.poll(_LATER_S if self._later else None)
                self._ask_again()
                self._serve()

    def _serve(self) -> None:
        """Until nothing is left."""
        while not self._closing:
            if (alone := self._receive()) is not None:
                self._answer(alone)
                continue
            for _ in range(_ANSWERED_AT_ONCE):
                if (waiting := self._turns.take()) is None:
                    return
                self._answer(waiting)

    def _receive(self) -> Waiting | None:
        """Put what is there in the queues; the one that nothing else waits with is returned."""
        now, alone = time.monotonic(), None
        for number in range(_TAKEN_AT_ONCE):
            try:
                length, sender = self._sock.recvfrom_into(self._room, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return alone
            except OSError:
                continue  # an ICMP error about an earlier answer
            if alone is not None:
                self._turns.put(alone)
                alone = None
            if length > MOST_QUESTION_BYTES:
                continue
            waiting = Waiting(cut(self._room[:length]), sender, now)
            if number or len(self._turns):
                self._turns.put(waiting)
            else:
                alone = waiting
        return None

    def _answer(self, waiting: Waiting) -> None:
        try:
            answer = self._respond(waiting)
        except Exception:
            return  # the boundary to what containers send: whatever is wrong with one question, the next one is answered
        if isinstance(answer, bytes):
            self.send(answer, waiting)
        elif not answer and len(self._later) < _MOST_LATER:
            self._later.append(waiting)

    def _ask_again(self) -> None:
        for _ in range(len(self._later)):
            self._answer(self._later.popleft())


def _widen(sock: socket.socket) -> None:
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            return sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        except OSError:
            continue
