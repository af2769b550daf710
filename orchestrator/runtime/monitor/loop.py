"""One epoll, its handlers and its timers; and connections whose sending never blocks."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque

from orchestrator.kernel import fdpass
from orchestrator.runtime.monitor import wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Callable, Sequence

    Handler = Callable[[int], None]
    """Called with the event mask. Must bear being called for nothing: its number may be reused within one round."""
    MessageHandler = Callable[["Connection", wire.Header, bytes, list[int]], None]
    CloseHandler = Callable[["Connection"], None]


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.stopped = False

    def add(self, fd: int, handler: Handler, events: int = select.EPOLLIN) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Before closing `fd`. Idempotent."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, action))

    def run(self) -> None:
        while not self.stopped:
            timeout = -1.0
            if self._timers:
                timeout = max(0.0, min(due for due, _ in self._timers) - time.monotonic())
            for fd, events in self._epoll.poll(timeout):
                handler = self._handlers.get(fd)
                if handler is not None:
                    self._handle(fd, handler, events)
            if self._timers:
                self._fire()

    def _handle(self, fd: int, handler: Handler, events: int) -> None:
        """One broken descriptor must not take all containers' parent with it: its handler is dropped, and the log told."""
        try:
            handler(events)
        except Exception as exc:
            os.write(2, f"monitor: a handler failed: {type(exc).__name__}: {exc}\n".encode("utf-8", "replace"))
            with contextlib.suppress(OSError):
                self.remove(fd)

    def _fire(self) -> None:
        now = time.monotonic()
        due = [action for at, action in self._timers if at <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for action in due:
            action()


class Connection:
    """A client. What it does not read at once is queued, with duplicates of the descriptors."""

    def __init__(self, loop: Loop, sock: socket.socket, on_message: MessageHandler, on_close: CloseHandler) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_close = on_close
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self.closed = False
        sock.setblocking(False)
        loop.add(sock.fileno(), self._ready)

    def send(self, header: wire.Header, fds: Sequence[int] = ()) -> None:
        if self.closed:
            return
        packet, numbers, memfd = wire.pack(header, b"", fds)
        try:
            if not self._queue:
                fdpass.send(self._sock, packet, numbers)
                return
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        finally:
            if memfd is not None:
                os.close(memfd)
        self._queue.append((packet, [os.dup(fd) for fd in numbers]))
        self._loop.change(self._sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        # One message a round: a flood of requests does not keep logs and exits waiting.
        if events & ~select.EPOLLOUT and not self.closed:
            try:
                message = wire.receive(self._sock)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                message = None
            if message is None:
                self.close()
            else:
                self._on_message(self, *message)

    def _flush(self) -> None:
        while self._queue:
            packet, fds = self._queue[0]
            try:
                fdpass.send(self._sock, packet, fds)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._queue.popleft()
            fdpass.close_all(fds)
        self._loop.change(self._sock.fileno(), select.EPOLLIN)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        for _, fds in self._queue:
            fdpass.close_all(fds)
        self._queue.clear()
        self._on_close(self)
