"""The project's event stream: every event goes to the log on disk and to whoever listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import cached_property

import trio

from orchestrator.contracts.events import Event, EventKind
from orchestrator.state.journal import EventLog, text_of

_BACKLOG = 20_000
"""Events a slow listener may lag behind; then it is cut off, so that it cannot hold the memory of all of them."""
_AT_ONCE = 200
_BURST_S = 0.004


class Told:
    def __init__(self, event: Event) -> None:
        self.event = event

    @cached_property
    def text(self) -> bytes:
        """The event as JSON, made once for the log and all who listen."""
        return text_of(self.event)


class EventStream:
    """`emit` is the scheduler's sink: it never blocks and never raises."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._listeners: set[trio.MemorySendChannel[Told]] = set()

    def emit(self, event: Event) -> None:
        told = Told(event)
        if not _routine(event):
            self._log.append(event, told.text)
        for listener in tuple(self._listeners):
            try:
                listener.send_nowait(told)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._listeners.discard(listener)
                listener.close()

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener, None]:
        """All events from now on."""
        send, receive = trio.open_memory_channel[Told](_BACKLOG)
        self._listeners.add(send)
        try:
            yield Listener(self, send, receive)
        finally:
            self.forget(send)
            receive.close()

    def forget(self, channel: trio.MemorySendChannel[Told]) -> None:
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
    """One subscription: iterate `events`, or `bursts`; they end after `stop`, or when the listener fell too far behind."""

    def __init__(
        self, stream: EventStream, send: trio.MemorySendChannel[Told], events: trio.MemoryReceiveChannel[Told]
    ) -> None:
        self._stream = stream
        self._send = send
        self._stopped = trio.Event()
        self.events = events

    async def bursts(self) -> AsyncGenerator[list[Told], None]:
        """What happens within a few milliseconds together: each message wakes its reader, which takes the processor from
        those that the events are about."""
        async for first in self.events:
            with trio.move_on_after(_BURST_S):
                await self._stopped.wait()
            burst = [first]
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while len(burst) < _AT_ONCE:
                    burst.append(self.events.receive_nowait())
            yield burst

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """No further events; those that happened already are still delivered."""
        self._stream.forget(self._send)
        self._stopped.set()
