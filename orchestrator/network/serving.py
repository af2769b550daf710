"""An accept loop with an upper bound on connections, for sockets that the outside can reach."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import trio

OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_S = 0.1

Handler = Callable[[trio.socket.SocketType], Awaitable[None]]


async def accept_forever(listener: trio.socket.SocketType, handler: Handler, limit: int) -> None:
    """Hand each connection to `handler`, at most `limit` at once; more wait in the backlog. Ends by cancellation, or when
    `listener` is closed. A connection's OSErrors end that connection only; the handler need not close it."""
    slots = trio.Semaphore(limit)

    async def serve(connection: trio.socket.SocketType) -> None:
        try:
            with connection:
                await handler(connection)
        except OSError:
            pass  # the other side's business: reset, timed out, unreachable
        finally:
            slots.release()

    async with trio.open_nursery() as nursery:
        while True:
            await slots.acquire()
            try:
                connection, _ = await listener.accept()
            except trio.ClosedResourceError:
                slots.release()
                return
            except OSError as exc:
                slots.release()
                if listener.fileno() < 0:
                    return  # Closed before this could begin.
                if exc.errno in OUT_OF:
                    # Others must close something first; accepting again at once would only spin.
                    await trio.sleep(PAUSE_S)
                continue
            nursery.start_soon(serve, connection)
