"""Work on several images at once, for whoever has no event loop: the verbs of the command line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

import trio

from orchestrator.errors import PystackError, only_error

T = TypeVar("T")


def run_to_end(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in a loop of its own. Ctrl-C cancels it and is raised. Raises the one error that it raised."""
    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from None
        if (error := only_error(group)) is not None:
            raise error from group
        raise


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
