"""Work that goes on when whoever asked for it has left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from orchestrator.errors import PystackError
from orchestrator.supervisor.faults import error_of
from orchestrator.values import entity, field

T = TypeVar("T")


@entity
class _Result:
    done: trio.Event = field(default_factory=trio.Event)
    found: list[object] = field(default_factory=list)
    error: PystackError | None = None


async def detached(nursery: trio.Nursery, what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in `nursery` and return its result, or raise its PystackError; a bug in it becomes one, and ends nothing
    else. Cancelling the caller does not cancel the work. `what`: its name in a report of a bug."""
    result = _Result()

    async def run() -> None:
        try:
            result.found.append(await work())
        except Exception as exc:
            result.error = error_of(what, exc)
        finally:
            result.done.set()

    nursery.start_soon(run)
    await result.done.wait()
    if result.error is not None:
        raise result.error
    return result.found[0]  # type: ignore[return-value]
