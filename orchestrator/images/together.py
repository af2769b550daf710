"""Work on several images at once, for whoever has no event loop: the verbs of the command line."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import trio

from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import Ended, PystackError, only_error

T = TypeVar("T")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Of SIGINT, trio would make a KeyboardInterrupt in whichever task runs: also in one that has to end in good order."""


def run_to_end(
    work: Callable[[], Awaitable[T]], *, tick: Callable[[], None] | None = None, each_s: float | None = None
) -> T:
    """Run `work` in a loop of its own, and `tick` meanwhile every `each_s`. Ctrl-C, SIGTERM and SIGHUP cancel it, so that
    what was begun is put away, and are raised. Raises the one error that it raised."""
    came: list[int] = []

    async def ticking() -> None:
        while tick is not None and each_s is not None:
            await trio.sleep(each_s)
            tick()

    async def both() -> T:
        async with trio.open_nursery() as nursery:
            with _counted(came, nursery.cancel_scope.cancel):
                nursery.start_soon(ticking)
                try:
                    return await work()
                finally:
                    nursery.cancel_scope.cancel()
        raise Ended(came[0])

    try:
        return trio.run(both)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from None
        if came:  # A terminal that is closed cannot be written to either.
            raise Ended(came[0]) from group
        if (error := only_error(group)) is not None:
            raise error from group
        raise


@contextmanager
def _counted(came: list[int], then: Callable[[], object]) -> Iterator[None]:
    """Signals that ask us to end are noted in `came`, and `then` is called in the loop. One that is ignored stays so
    (nohup(1))."""
    token = trio.lowlevel.current_trio_token()

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        token.run_sync_soon(then)

    numbers = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


async def in_thread(work: Callable[[Progress, Callable[[], None]], T], progress: Progress) -> T:
    """`work` in a thread, with a progress that is told here, and a check that raises there once this is cancelled."""

    def told(news: str | Transfer) -> None:
        trio.from_thread.run_sync(progress, news)

    return await trio.to_thread.run_sync(work, told, trio.from_thread.check_cancelled)


async def each(
    after: Mapping[str, Collection[str]], work: Callable[[str], Awaitable[None]], *, at_once: int, go_on: bool = False
) -> list[PystackError]:
    """`work` for each key, each after those that it names and that are among the keys, `at_once` at a time. The first error
    ends all and is raised; with `go_on` all are tried, and what went wrong is returned."""
    done = {name: trio.Event() for name in after}
    bound = trio.CapacityLimiter(at_once)
    errors: list[PystackError] = []

    async def one(name: str) -> None:
        for other in after[name]:
            if other in done:
                await done[other].wait()
        try:
            async with bound:
                await work(name)
        except PystackError as error:
            errors.append(error)
            if not go_on:
                nursery.cancel_scope.cancel()
        done[name].set()

    async with trio.open_nursery() as nursery:
        for name in after:
            nursery.start_soon(one, name)
    if errors and not go_on:
        raise errors[0]
    return errors
