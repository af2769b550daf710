"""The thread of a name server that takes questions by UDP and answers what it can.

A thread of its own, and plain system calls: an event loop in between took as long as finding the answer, and what the
event loop does at the moment (a start of a hundred containers) would delay every answer. Nothing that a container
sends may end it, and nothing may make it grow: what waits is in `Turns`.

It serves the network's own socket, and one in each container (`loopback`). A question that comes to an idle server is
answered at once. While there are more, they are taken from the sockets before one of each client is answered: the kernel's
queue of the network's socket is one for all clients, and what does not fit there is lost.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from orchestrator.network.pieces import cut
from orchestrator.network.turns import Turns, Waiting

MOST_QUESTION_BYTES = 4096
_TAKEN_AT_ONCE = 256
_LEAST_TAKEN = 8
"""Of one socket, however many there are."""
_ANSWERED_AT_ONCE = 32
_MOST_EVENTS = 64
"""Room is made for as many each time; the kernel goes on with the others the next time."""
_LATER_S = 0.02
_BACK_TO_BACK_S = 10e-6
"""No client takes less from an answer to its next question: what comes sooner was there before."""
_BUFFER_BYTES = 4 << 20
"""A thousand questions at once of some containers: the kernel counts about 800 bytes for each."""
_BUFFER_OF_ONE_BYTES = 1 << 19
"""As many of one container; the kernel doubles it (socket(7))."""
_SO_RCVBUFFORCE = 33
_MOST_LATER = 2048
_JOIN_S = 5.0

Respond = Callable[[Waiting], bytes | bool]
"""The answer; True: none from here; False: ask again in a moment."""


class Datagrams:
    """Owns its sockets, and does not change how they block: others hold the same open ones. `sock`: the network's, where
    a question's client is its sender; None: there is none."""

    def __init__(self, sock: socket.socket | None, respond: Respond) -> None:
        self._respond = respond
        self._turns = Turns()
        # Received here and copied: `recvfrom` would make room for the longest and give back what is too much, which leaves
        # each short question that waits at the beginning of a hole of 4 KB, in memory that never becomes less.
        self._room = memoryview(bytearray(MOST_QUESTION_BYTES + 1))
        self._later: deque[Waiting] = deque()
        self._free_s = 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ready = select.epoll()
        self._ready.register(self._wake, select.EPOLLIN)
        self._served: dict[int, tuple[socket.socket, str]] = {}
        self._leaving: deque[socket.socket] = deque()
        self._closing = False
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None
        if sock is not None:
            self._take_in(sock, "", _BUFFER_BYTES)

    def admit(self, sock: socket.socket, client: str) -> None:
        """Serve `sock` too. `client`: who asks by it, whatever the sender's address is."""
        if self._closing:
            sock.close()
        else:
            self._take_in(sock, client, _BUFFER_OF_ONE_BYTES)

    def _take_in(self, sock: socket.socket, client: str, buffer_bytes: int) -> None:
        _widen(sock, buffer_bytes)
        self._served[sock.fileno()] = sock, client
        self._ready.register(sock.fileno(), select.EPOLLIN)

    def dismiss(self, sock: socket.socket) -> None:
        """The thread closes it, in a moment: it may be about to use its number, which could be another's by then."""
        self._leaving.append(sock)
        if not self._closing:
            os.eventfd_write(self._wake, 1)

    def start(self) -> None:
        if not self._closing and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pystack-names", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """All sockets are closed when this returns. Takes no longer than one answer."""
        if self._closing:
            return
        self._closing = True
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join(_JOIN_S)
        for sock, _ in self._served.values():
            sock.close()
        self._served.clear()
        self._ready.close()
        os.close(self._wake)

    def send(self, answer: bytes, waiting: Waiting) -> None:
        """From any other thread. The client may be gone, or this network."""
        with self._sending:
            self._send(answer, waiting)

    @staticmethod
    def _send(answer: bytes, waiting: Waiting) -> None:
        try:  # noqa: SIM105 - `suppress` takes half a microsecond
            waiting.by.sendto(answer, socket.MSG_DONTWAIT, waiting.sender)
        except OSError:
            pass

    def _work(self) -> None:
        while not self._closing:
            self._serve(self._ready.poll(_LATER_S if self._later else None, _MOST_EVENTS))

    def _serve(self, events: Sequence[tuple[int, int]]) -> None:
        """Until nothing is left."""
        self._ask_again()
        at_once = len(events) == 1 and time.monotonic() - self._free_s > _BACK_TO_BACK_S
        while not self._closing:
            if self._leaving:
                self._let_go()
            most = 1 if at_once else max(_LEAST_TAKEN, _TAKEN_AT_ONCE // (len(events) or 1))
            for fd, _ in events:
                if (served := self._served.get(fd)) is not None:
                    self._receive(*served, most, at_once)
                elif fd == self._wake:
                    os.eventfd_read(fd)
            if at_once or not len(self._turns):
                break
            for _ in range(_ANSWERED_AT_ONCE):
                if (waiting := self._turns.take()) is None:
                    break
                self._answer(waiting)
            events = self._ready.poll(0, _MOST_EVENTS)
        self._free_s = time.monotonic()

    def _receive(self, sock: socket.socket, client: str, most: int, at_once: bool) -> None:
        """Take up to `most`, and answer `at_once` or put them in the queues."""
        now = time.monotonic()
        for _ in range(most):
            try:
                length, sender = sock.recvfrom_into(self._room, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer
            if length > MOST_QUESTION_BYTES:
                continue
            waiting = Waiting(cut(self._room[:length]), sender, now, client or sender[0], sock)
            if at_once:
                self._answer(waiting)
            else:
                self._turns.put(waiting)

    def _let_go(self) -> None:
        while self._leaving:
            sock = self._leaving.popleft()
            with suppress(OSError, ValueError):
                self._ready.unregister(sock.fileno())
            self._served.pop(sock.fileno(), None)
            with self._sending:
                sock.close()

    def _answer(self, waiting: Waiting) -> None:
        try:
            answer = self._respond(waiting)
        except Exception:
            return  # the boundary to what containers send: whatever is wrong with one question, the next one is answered
        if isinstance(answer, bytes):
            self._send(answer, waiting)
        elif not answer and len(self._later) < _MOST_LATER:
            self._later.append(waiting)

    def _ask_again(self) -> None:
        for _ in range(len(self._later)):
            self._answer(self._later.popleft())


def _widen(sock: socket.socket, size: int) -> None:
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            return sock.setsockopt(socket.SOL_SOCKET, option, size)
        except OSError:
            continue
