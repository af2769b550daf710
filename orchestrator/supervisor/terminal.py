"""Handing the master of a container's pty to the client: ``{"event": {"tty": true}}`` with one descriptor."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

from orchestrator.contracts.runtime import TtySink
from orchestrator.supervisor.wire import Connection, Disconnected


@asynccontextmanager
async def terminal_for(connection: Connection) -> AsyncGenerator[TtySink, None]:
    """A sink for one master. It goes out before the block is left, also when the process ended at once; a client that is
    gone does without."""
    masters, outgoing = trio.open_memory_channel[int](1)

    async def hand_over() -> None:
        async for master in outgoing:
            try:
                with suppress(Disconnected):
                    await connection.send({"event": {"tty": True}}, fds=(master,))
            finally:
                os.close(master)

    def take(master: int) -> None:
        try:
            masters.send_nowait(master)
        except (trio.ClosedResourceError, trio.BrokenResourceError):  # The client left while the process was started.
            os.close(master)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_over)
        try:
            yield take
        finally:
            masters.close()
