"""What the first process of a one-off container is connected to (``run``)."""

from __future__ import annotations

import os

from orchestrator.contracts.runtime import TtySink
from orchestrator.values import entity


@entity
class FirstRun:
    """`stdin`: a descriptor that becomes its standard input; it belongs to this object. `reading`: somebody reads what it
    writes, so that ``--rm`` waits. `on_tty`: receives the master of its terminal, which has `size` (rows, columns) at
    first. Later runs (there are none of a one-off) have neither."""

    stdin: int | None = None
    on_tty: TtySink | None = None
    size: tuple[int, int] = (0, 0)
    reading: bool = False

    def close(self) -> None:
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None
