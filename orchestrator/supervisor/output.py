"""What a container writes, as it writes it, from its log."""

from __future__ import annotations

from collections.abc import Callable

import trio

from orchestrator.model.names import ContainerId


class LogOutput:
    """`scheduler.adapters.FollowOutput`, of the logs in a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    async def __call__(self, container: ContainerId, tell: Callable[[bytes], None], ended: trio.Event) -> None:
        # Only stacks with a pre_start come here.
        from orchestrator.kernel.inotify import Inotify
        from orchestrator.runtime.logs import Follower

        with Inotify() as inotify:
            follower = Follower(f"{self._directory}/{container}", inotify=inotify)
            try:
                while not ended.is_set():
                    for _, _, data in follower.read():
                        tell(data)
                    await _first(ended, inotify.fileno())
                    inotify.clear()
                for _, _, data in (*follower.read(), *follower.finish()):
                    tell(data)
            finally:
                follower.close()


async def _first(ended: trio.Event, fd: int) -> None:
    """Until one of the two happens."""
    async with trio.open_nursery() as nursery:

        async def readable() -> None:
            await trio.lowlevel.wait_readable(fd)
            nursery.cancel_scope.cancel()

        nursery.start_soon(readable)
        await ended.wait()
        nursery.cancel_scope.cancel()
