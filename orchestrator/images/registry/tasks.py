"""Several things at a time, of which the first that fails is told; and what blocks, in threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

import trio

from orchestrator.errors import PystackError
from orchestrator.images.registry.faults import Fault

T = TypeVar("T")


@asynccontextmanager
async def in_threads(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A context manager of the store, whose beginning and end block: a lock is waited for, a file is written. The wait ends
    with its task if the manager looks at `trio.from_thread.check_cancelled`."""
    entered = await trio.to_thread.run_sync(manager.__enter__)
    try:
        yield entered
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(manager.__exit__, None, None, None)


async def together(jobs: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run them all. When one fails with an error for the user, or a Fault, the others are cancelled and it is raised."""
    failures: list[Fault | PystackError] = []

    async def run(job: Callable[[], Awaitable[object]]) -> None:
        try:
            await job()
        except (Fault, PystackError) as exc:
            failures.append(exc)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(run, job)
    if failures:
        raise failures[0]
