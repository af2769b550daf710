"""Questions that wait: a queue of each client, taken one of each in turn, so that who asks much delays itself alone."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from socket import socket
from threading import Lock
from typing import Any

from orchestrator.network.pieces import Pieces, joined
from orchestrator.values import frozen

MOST_OF_ONE = 1024
"""Programs ask a thousand at once; who has that many outstanding gets no more answered by asking more."""
MOST = 16384
MOST_BYTES = 8 << 20


@frozen
class Waiting:
    """A question, and where its answer goes: `by` that socket to `sender`. `client`: the address in the network of whoever
    asks."""

    pieces: Pieces
    sender: tuple[Any, ...]
    since_s: float
    client: str
    by: socket

    @property
    def data(self) -> bytes:
        return joined(self.pieces)

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.pieces))


class Turns:
    """Used by two threads: one puts, one takes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._queues: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._count = self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def put(self, waiting: Waiting) -> bool:
        """False: too much is waiting, and the client will ask again."""
        with self._lock:
            queue = self._queues.get(waiting.client)
            if queue is not None and len(queue) >= MOST_OF_ONE:
                return False
            if self._count >= MOST or self._bytes + waiting.size_bytes > MOST_BYTES:
                return False
            if queue is None:
                queue = self._queues[waiting.client] = deque()
            queue.append(waiting)
            self._count += 1
            self._bytes += waiting.size_bytes
            return True

    def take(self, may: Callable[[str], bool] | None = None) -> Waiting | None:
        """The next one, of clients that `may` have one more answered."""
        with self._lock:
            for _ in range(len(self._queues)):
                client, queue = next(iter(self._queues.items()))
                self._queues.move_to_end(client)
                if may is not None and not may(client):
                    continue
                taken = queue.popleft()
                if not queue:
                    del self._queues[client]
                self._count -= 1
                self._bytes -= taken.size_bytes
                return taken
            return None
