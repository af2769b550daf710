"""Waiting for a line in the log of a run, whatever else it writes and how much of it."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from orchestrator.kernel.inotify import Inotify
from orchestrator.model.linepattern import LinePattern
from orchestrator.runtime.logs import Follower

_LINE_LETTERS = 4096
"""Of a longer line, the begin."""
_AT_ONCE_S = 0.002
"""Then others have their turn, for as long."""


async def until_written(prefix: str, since: float, pattern: str) -> None:
    """Until a whole line in which `pattern` is found is in the log at `prefix`, not written before `since` (epoch seconds).
    Raises OSError, HostError."""
    wanted = LinePattern(pattern)
    with Inotify() as inotify:
        follower = Follower(prefix, since=since, inotify=inotify)
        try:
            while True:
                inotify.clear()
                began_s = trio.current_time()
                for _, _, data in follower.read():
                    for line in _lines(data):
                        if wanted.found_in(line):
                            return
                        if trio.current_time() - began_s > _AT_ONCE_S:
                            await trio.sleep(_AT_ONCE_S)
                            began_s = trio.current_time()
                await trio.lowlevel.wait_readable(inotify.fileno())
        finally:
            follower.close()


def _lines(data: bytes) -> Iterator[str]:
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield data[at : min(end, at + _LINE_LETTERS)].removesuffix(b"\r").decode("utf-8", "replace")
        at = end + 1
