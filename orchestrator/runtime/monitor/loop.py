"""One epoll, its handlers and its timers; and connections whose sending never blocks."""

from __future__ import annotations

import errno
import os
import select
import time

from orchestrator.kernel import fdpass
from orchestrator.kernel.suppress import suppress
from orchestrator.runtime.monitor import wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import socket
    from collections.abc import Callable, Sequence

    Handler = Callable[[int], None]
    """Called with the event mask. Must bear being called for nothing: its number may be reused within one round."""
    MessageHandler = Callable[["Connection", wire.Header, bytes, list[int]], None]
    CloseHandler = Callable[["Connection"], None]


_RETRY_S = 1.0
"""A handler that failed is called again after so long: what failed may be a shortage, and nothing is given up for one."""


class Loop:
    """Nothing that a handler or a timer raises ends it: all containers' parent must not go because of one of them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._resting: dict[int, tuple[Handler, int]] = {}
        self._events: dict[int, int] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._complaints: set[tuple[str, str, int]] = set()
        self.stopped = False

    def add(self, fd: int, handler: Handler, events: int = select.EPOLLIN) -> None:
        self._resting.pop(fd, None)
        self._epoll.register(fd, events)
        self._handlers[fd] = handler
        self._events[fd] = events

    def change(self, fd: int, events: int) -> None:
        if fd in self._handlers:
            self._epoll.modify(fd, events)
            self._events[fd] = events
        elif fd in self._resting:
            self._resting[fd] = self._resting[fd][0], events

    def remove(self, fd: int) -> None:
        """Before closing `fd`. Idempotent."""
        self._resting.pop(fd, None)
        if self._handlers.pop(fd, None) is not None:
            del self._events[fd]
            self._epoll.unregister(fd)

    def rest(self, fd: int, seconds: float) -> None:
        """Do not listen to `fd` for a while."""
        handler, events = self._handlers[fd], self._events[fd]
        self.remove(fd)
        self._resting[fd] = handler, events

        def resume() -> None:
            # Not if it was removed meanwhile: the number may be another's by now.
            current = self._resting.get(fd)
            if current is not None and current[0] is handler:
                self.add(fd, *current)

        self.later(seconds, resume)

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
        try:
            handler(events)
        except Exception as exc:
            self._complain("handler", exc)
            with suppress(OSError):
                if self._handlers.get(fd) is handler:
                    self.rest(fd, _RETRY_S)

    def _fire(self) -> None:
        now = time.monotonic()
        due = [action for at, action in self._timers if at <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for action in due:
            try:
                action()
            except Exception as exc:
                self._complain("timer", exc)

    def _complain(self, what: str, exc: Exception) -> None:
        """Each kind once: the log of a monitor that lives for years must not grow with what happens every second."""
        trace = exc.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (trace.tb_frame.f_code.co_name, trace.tb_lineno) if trace is not None else ("", 0)
        kind = (type(exc).__name__, *place)
        if kind in self._complaints:
            return
        self._complaints.add(kind)
        text = f"monitor: a {what} failed (told once): {type(exc).__name__} in {place[0]}: {exc}\n"
        with suppress(OSError):  # A full disk.
            os.write(2, text.encode("utf-8", "replace"))


class Reserve:
    """A descriptor for when there are no more."""

    def __init__(self) -> None:
        self._fd = -1
        self.restore()

    def spend(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def restore(self) -> bool:
        """Whether there is one again."""
        if self._fd < 0:
            with suppress(OSError):
                self._fd = os.eventfd(0, os.EFD_CLOEXEC)
        return self._fd >= 0


class Connection:
    """A client. What it does not read at once is queued, with duplicates of the descriptors."""

    def __init__(self, loop: Loop, sock: socket.socket, on_message: MessageHandler, on_close: CloseHandler) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_close = on_close
        self._queue: list[tuple[bytes, list[int]]] = []
        self.closed = False
        self.silent = True
        """Whether it has said nothing yet."""
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
        held: list[int] = []
        try:
            held.extend(map(os.dup, numbers))
        except OSError:
            # Out of descriptors, for somebody who does not read: all that we have for it can be asked for again.
            fdpass.close_all(held)
            self.close()
            return
        self._queue.append((packet, held))
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
            except wire.CutShort as exc:
                self.send({"re": exc.header.get("id"), "error": "os", "errno": errno.EMFILE, "path": "its descriptors"})
                return
            except (OSError, ValueError):
                message = None
            self.silent = False
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
            del self._queue[0]
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
