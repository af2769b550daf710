"""The project's event stream: every event goes to the log on disk and to whoever listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress

import trio

from orchestrator.contracts.events import Event, EventKind
from orchestrator.state.journal import EventLog

_BACKLOG = 20_000
"""Events a slow listener may lag behind; then it is cut off, so that it cannot hold the memory of all of them."""
_AT_ONCE = 200


class EventStream:
    """`emit` is the scheduler's sink: it never blocks and never raises."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._listeners: set[trio.MemorySendChannel[Event]] = set()

    def emit(self, event: Event) -> None:
        if not _routine(event):
            self._log.append(event)
        for listener in tuple(self._listeners):
            try:
                listener.send_nowait(event)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._listeners.discard(listener)
                listener.close()

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener, None]:
        """All events from now on."""
        send, receive = trio.open_memory_channel[Event](_BACKLOG)
        self._listeners.add(send)
        try:
            yield Listener(self, send, receive)
        finally:
            self.forget(send)
            receive.close()

    def forget(self, channel: trio.MemorySendChannel[Event]) -> None:
        self._listeners.discard(channel)
        with suppress(trio.ClosedResourceError):
            channel.close()


def _routine(event: Event) -> bool:
    """A passed probe is worth showing to who watches, and not worth keeping: there is one each interval, for ever. Nor is
    how far a download is, or what a hook writes."""
    return event.kind in (EventKind.IMAGE_PROGRESS, EventKind.HOOK_OUTPUT) or (
        event.kind is EventKind.HEALTH_PROBED and event.detail.get("ok") is True
    )


class Listener:
    """One subscription: iterate `events`; they end after `stop`, or when the listener fell too far behind."""

    def __init__(
        self, stream: EventStream, send: trio.MemorySendChannel[Event], events: trio.MemoryReceiveChannel[Event]
    ) -> None:
        self._stream = stream
        self._send = send
        self.events = events
        self.stopped = trio.Event()

    def more(self) -> Iterator[Event]:
        """What has happened by now and was not yet taken, so that a burst of events is sent at once."""
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            for _ in range(_AT_ONCE):
                yield self.events.receive_nowait()

    def stop(self) -> None:
        """No further events; those that happened already are still delivered."""
        self._stream.forget(self._send)
        self.stopped.set()
